//! Tests in namespaces of their own, without privileges on the machine.

use std::env;
use std::process::Command;

/// Runs a test by running this very program again below a command such as `unshare -Urn`.
pub(crate) fn run_below(command: &[&str], test: &str, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return body();
    }
    let program = env::current_exe().unwrap_or_else(|error| panic!("current_exe: {error}"));
    // What is mounted below keeps those inside from cleaning up.
    let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("tempdir: {error}"));
    let output = Command::new(command[0])
        .args(&command[1..])
        .arg(program)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .env("TMPDIR", directory.path())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", command[0]));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        // A misspelt name runs no test, successfully.
        output.status.success() && stdout.contains("test result: ok. 1 passed"),
        "{command:?}: {}\n{stdout}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Set where the body runs.
const INSIDE: &str = "INPROXY_TEST_INSIDE";
