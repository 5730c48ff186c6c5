//! The worker, each time in a process of its own as in real life, with SoftHSM as its module.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cipher;
mod create;
mod keys;
mod lab;
mod login;
mod signature;

use std::env;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use enclave_app::worker;
use libtest_mimic::{Arguments, Trial};

/// Lists the tests of a module by the names of their functions.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) const ALL: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
    };
}
pub(crate) use tests;

const THEMES: &[(&str, &[(&str, fn())])] = &[
    ("cipher", cipher::ALL),
    ("create", create::ALL),
    ("keys", keys::ALL),
    ("login", login::ALL),
    ("signature", signature::ALL),
];

fn main() -> ExitCode {
    if env::var_os(lab::WORKER).is_some() {
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
        return worker::run(socket).map_or_else(|_| ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let missing = lab::missing();
    let skip = missing.is_some();
    if let Some(reason) = &missing {
        assert_ne!(env::var("CI").as_deref(), Ok("true"), "CI must run these: {reason}");
        say(&format!("SKIPPED: {reason}"));
    }
    let trials = THEMES.iter().flat_map(|(theme, tests)| {
        tests.iter().map(move |&(name, test)| {
            Trial::test(format!("{theme}::{name}"), move || {
                test();
                Ok(())
            })
            .with_ignored_flag(skip)
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

#[expect(clippy::print_stderr, reason = "whoever runs it is to know")]
fn say(text: &str) {
    eprintln!("{text}");
}
