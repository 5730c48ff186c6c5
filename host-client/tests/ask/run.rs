//! Running the command.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use crate::enclave::{Enclave, PATIENCE};

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.stdout).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.stderr, "");
        assert_eq!(self.stdout.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&self.stdout).unwrap()
    }
}

/// A run that is about to start.
pub(crate) struct Run {
    command: Command,
    input: Vec<u8>,
}

impl Run {
    /// Without the environment of the tests, so without their credentials.
    pub(crate) fn new(endpoint: &str, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_host-client"));
        command.env_clear().env("HOME", "/nonexistent").args(["--endpoint", endpoint]).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, input: Vec::new() }
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn input(mut self, bytes: &[u8]) -> Self {
        self.input = bytes.to_vec();
        self
    }

    /// Starts it and waits for its end.
    pub(crate) fn wait(mut self) -> Ran {
        let mut child = self.command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let (ended, end) = channel();
        thread::spawn(move || {
            // It need not read all.
            let _ = stdin.write_all(&self.input);
            drop(stdin);
            ended.send(child.wait_with_output().unwrap())
        });
        let output = end.recv_timeout(PATIENCE).unwrap();
        Ran {
            code: output.status.code().unwrap(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs it without credentials.
pub(crate) fn ask(enclave: &Enclave, args: &[&str]) -> Ran {
    Run::new(&enclave.endpoint, &[&["--credentials", "none"], args].concat()).wait()
}
