//! What it says before it serves.

use std::fs;
use std::process::{Command, Output, Stdio};

use crate::app::Place;

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_good_configuration_passes_without_a_word() {
    let place = Place::with("");
    let output = place.run(&["--check"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
    assert!(!place.path("app").exists(), "nothing is bound");
}

#[test]
fn mistakes_are_shown_with_their_lines() {
    let place = Place::new();
    place.configure("[secret]\nid = 'cloudhsm/cluster-1'\n[hsm]\ncall-timeout = '10s'\n");
    for arguments in [&["--check"][..], &[]] {
        let output = place.run(arguments);
        assert_eq!(output.status.code(), Some(78));
        let expected = format!(
            "enclave-app: failed to parse `{}`: 2 mistakes\n\
             line 2, column 6\n  |\n2 | id = 'cloudhsm/cluster-1'\n  |      ^^^^^^^^^^^^^^^^^^^^\n\
             a secret is in a region; write `region = \"ap-southeast-1\"`, or where it is\n\n\
             line 4, column 16\n  |\n4 | call-timeout = '10s'\n  |                ^^^^^\n\
             a request may take `9s`, and a call of the module that it waits for `10s`; \
             write a shorter `call-timeout` or a longer `request-timeout`\n",
            place.path("enclave-app.toml").display()
        );
        assert_eq!(stderr(&output), expected);
    }
}

#[test]
fn a_missing_configuration_is_a_mistake() {
    let place = Place::new();
    let output = place.run(&["--check"]);
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(
        stderr(&output),
        format!(
            "enclave-app: failed to read `{}`: No such file or directory (os error 2)\n",
            place.path("enclave-app.toml").display()
        )
    );
}

#[test]
fn a_bundle_that_cannot_be_trusted_is_a_mistake() {
    let place = Place::with("[secret]\nca-bundle = 'DIR/ca.pem'");
    let path = place.path("ca.pem");
    let output = place.run(&["--check"]);
    assert_eq!(output.status.code(), Some(78));
    let missing = "No such file or directory (os error 2)";
    let expected = format!("enclave-app: failed to read `{}`: {missing}\n", path.display());
    assert_eq!(stderr(&output), expected);
    fs::write(&path, "a certificate, really\n").unwrap();
    let output = place.run(&["--check"]);
    assert_eq!(output.status.code(), Some(78));
    let beginning = format!("enclave-app: failed to load `{}`: ", path.display());
    assert!(stderr(&output).starts_with(&beginning), "{}", stderr(&output));
}

#[test]
fn an_environment_in_which_the_secret_would_be_logged_is_refused() {
    let mut place = Place::with("");
    place.set("LOG_SENSITIVE_BODIES", "true");
    for arguments in [&["--check"][..], &[]] {
        let output = place.run(arguments);
        assert_eq!(output.status.code(), Some(78));
        assert_eq!(
            stderr(&output),
            "enclave-app: `LOG_SENSITIVE_BODIES` is set, with which the AWS SDK may log the \
             secret; unset it\n"
        );
    }
}

#[test]
fn an_endpoint_that_cannot_be_bound_fails_at_run_time() {
    let place = Place::new();
    place.configure("listen = 'unix:DIR/nowhere/app'");
    let output = place.run(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("enclave-app: failed to listen on `unix:"));
}

#[test]
fn a_mistake_on_the_command_line_has_a_status_of_its_own() {
    for arguments in [&["--no-such-option"][..], &["serve"], &["worker", "more"]] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_enclave-app")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn the_help_tells_nobody_of_the_worker() {
    let output = Command::new(env!("CARGO_BIN_EXE_enclave-app")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("--config <FILE>") && help.contains("/etc/enclave-app.toml"), "{help}");
    assert!(!help.contains("worker"), "{help}");
}

#[test]
fn a_worker_without_an_application_ends() {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_enclave-app"));
    let output = worker.arg("worker").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("enclave-app: "), "{}", stderr(&output));
}
