//! The HSM's side of enclave-app against a module that fails: a shim in front of SoftHSM returns
//! errors, hangs, crashes, or does what it is asked and denies it. The worker is this executable.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod hsm;
mod injected;
mod keys;
mod lab;
mod logins;
mod recovery;
mod source;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::pin::Pin;
use std::process::{Command, ExitCode};
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};

type Test = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

/// Lists the tests of a module by the names of their functions.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) const ALL: &[crate::Test] =
            &[$((stringify!($name), || Box::pin($name()))),*];
    };
}
pub(crate) use tests;

const THEMES: &[(&str, &[Test])] = &[
    ("injected", injected::ALL),
    ("keys", keys::ALL),
    ("logins", logins::ALL),
    ("recovery", recovery::ALL),
];

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("worker") {
        return work();
    }
    if std::env::var_os(CANARY).is_none() {
        return again_with_credentials();
    }
    let missing = missing();
    let trials = THEMES.iter().flat_map(|(theme, tests)| {
        tests.iter().map(move |(name, test)| {
            Trial::test(format!("{theme}::{name}"), || {
                run(*test);
                Ok(())
            })
            .with_ignored_flag(missing)
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// What `enclave-app worker` does.
fn work() -> ExitCode {
    let socket = io::stdin().as_fd().try_clone_to_owned().unwrap();
    match enclave_app::worker::run(UnixStream::from(socket)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Runs this once more, with something in its environment that no worker is to see.
fn again_with_credentials() -> ExitCode {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let error = command.args(std::env::args_os().skip(1)).env(CANARY, "canary").exec();
    panic!("{error}");
}

fn run(test: fn() -> Pin<Box<dyn Future<Output = ()>>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(LIMIT, test()).await })
        .expect("the test takes too long");
}

/// Whether this machine lacks what the tests need; says so.
fn missing() -> bool {
    let mut missing = false;
    for path in [lab::SOFTHSM, "/usr/bin/softhsm2-util", "/usr/bin/pkcs11-tool", lab::HEADER] {
        if !Path::new(path).exists() {
            say(&format!("`{path}` is missing; nothing is tested"));
            missing = true;
        }
    }
    missing
}

#[expect(clippy::print_stderr, reason = "whoever runs it is to know")]
fn say(text: &str) {
    eprintln!("{text}");
}

const CANARY: &str = "AWS_SECRET_ACCESS_KEY";
const LIMIT: Duration = Duration::from_secs(300);
