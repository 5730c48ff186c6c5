//! The worker, each time in a process of its own as in real life, with SoftHSM as its module.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cipher;
mod create;
mod keys;
mod lab;
mod login;
mod signature;
mod straggler;
mod tool;

use std::env;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use crate::lab::Leg;
use enclave_app::worker;
use libtest_mimic::{Arguments, Trial};

/// A test by its name.
type Test = (&'static str, fn(Leg));

/// Lists the tests of a module by the names of their functions.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) const ALL: &[crate::Test] = &[$((stringify!($name), $name)),*];
    };
}
pub(crate) use tests;

const THEMES: &[(&str, &[Test])] = &[
    ("cipher", cipher::ALL),
    ("create", create::ALL),
    ("keys", keys::ALL),
    ("login", login::ALL),
    ("signature", signature::ALL),
    ("straggler", straggler::ALL),
];

fn main() -> ExitCode {
    if env::var_os(lab::WORKER).is_some() {
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
        return worker::run(socket).map_or_else(|_| ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    if env::var_os(lab::TOOL).is_some() {
        tool::run(&env::args().skip(1).collect::<Vec<_>>());
        return ExitCode::SUCCESS;
    }
    let legs = Leg::ALL.iter().flat_map(|&leg| {
        let missing = leg.missing();
        if let Some(reason) = &missing {
            assert_ne!(env::var("CI").as_deref(), Ok("true"), "CI must run these: {reason}");
            say(&format!("SKIPPED: {reason}"));
        }
        trials(leg, missing.is_some())
    });
    libtest_mimic::run(&Arguments::from_args(), legs.collect()).exit_code()
}

fn trials(leg: Leg, skip: bool) -> impl Iterator<Item = Trial> {
    let themes = match leg {
        Leg::Local => THEMES,
        // p11-kit does not carry AES-GCM, which is the first theme.
        Leg::Remote => &THEMES[1..],
    };
    themes.iter().flat_map(move |(theme, tests)| {
        tests.iter().map(move |&(name, test)| {
            let run = move || {
                test(leg);
                Ok(())
            };
            Trial::test(format!("{}::{theme}::{name}", leg.name()), run).with_ignored_flag(skip)
        })
    })
}

#[expect(clippy::print_stderr, reason = "whoever runs it is to know")]
fn say(text: &str) {
    eprintln!("{text}");
}
