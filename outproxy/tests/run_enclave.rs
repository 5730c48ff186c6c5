//! What configs/run-enclave makes of nitro-cli's answers: a stand-in for it keeps its state in
//! files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use tempfile::TempDir;

#[test]
fn it_ends_with_the_enclave() {
    let enclave = Enclave::new();
    let running = enclave.start();
    enclave.await_boot();
    assert_eq!(
        enclave.calls()[1],
        "run-enclave --enclave-name signer --eif-path /the image.eif --enclave-cid 16 \
         --memory 1024 --cpu-count 2 --debug-mode --more"
    );
    fs::remove_file(enclave.path("running")).unwrap();
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the enclave `signer` has ended"), "{}", stderr(&output));
    assert!(!enclave.was_terminated());
}

#[test]
fn a_signal_terminates_the_enclave() {
    let enclave = Enclave::new();
    let running = enclave.start();
    enclave.await_boot();
    kill(Pid::from_raw(running.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!enclave.path("running").exists());
}

#[test]
fn an_enclave_that_does_not_boot_is_a_failure() {
    let enclave = Enclave::new();
    fs::write(enclave.path("unbootable"), "").unwrap();
    let output = enclave.start().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(36));
    assert!(stderr(&output).contains("E36"));
}

#[test]
fn a_few_questions_may_stay_unanswered() {
    let enclave = Enclave::new();
    let running = enclave.start();
    enclave.await_boot();
    enclave.fall_silent(4);
    // It is asked again, and then the enclave is still there.
    let asked = enclave.calls().len();
    while enclave.calls().len() < asked + 6 {
        std::thread::yield_now();
    }
    enclave.fall_silent(1_000_000);
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    // Nobody knows whether there is one, and the next could not be started beside it.
    assert!(enclave.was_terminated());
}

#[test]
fn another_one_of_that_name_is_left_alone() {
    let enclave = Enclave::new();
    fs::write(enclave.path("running"), "").unwrap();
    let output = enclave.start().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("there is an enclave `signer` already"));
    assert_eq!(enclave.calls(), ["describe-enclaves"]);
}

#[test]
fn what_is_missing_is_named() {
    let enclave = Enclave::new();
    let output = enclave.command().env_remove("CID").output().unwrap();
    assert!(!output.status.success());
    assert!(stderr(&output).contains("CID"), "{}", stderr(&output));
}

/// A machine with a nitro-cli.
struct Enclave(TempDir);

impl Enclave {
    fn new() -> Self {
        let enclave = Self(tempfile::tempdir().unwrap());
        enclave.install("nitro-cli", NITRO_CLI);
        enclave.install("systemd-notify", "#!/bin/sh\necho \"$*\" >\"$STATE/notified\"\n");
        mkfifo(&enclave.path("notified"), Mode::S_IRWXU).unwrap();
        enclave
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn install(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What systemd would run.
    fn command(&self) -> Command {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let mut command = Command::new(configs.join("run-enclave"));
        let path = std::env::var("PATH").unwrap();
        command
            .env("PATH", format!("{}:{path}", self.0.path().display()))
            .env("STATE", self.0.path())
            .env("INTERVAL", "0.02")
            .env("NOTIFY_SOCKET", "/nowhere")
            .envs([("NAME", "signer"), ("EIF", "/the image.eif"), ("CID", "16")])
            .envs([("MEMORY", "1024"), ("CPUS", "2"), ("OPTIONS", "--debug-mode --more")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    fn start(&self) -> Child {
        self.command().spawn().unwrap()
    }

    fn await_boot(&self) {
        let notified = fs::read_to_string(self.path("notified")).unwrap();
        assert!(notified.starts_with("--ready "), "{notified}");
    }

    /// Leaves so many questions unanswered from now on.
    fn fall_silent(&self, questions: u32) {
        fs::write(self.path("new"), questions.to_string()).unwrap();
        fs::rename(self.path("new"), self.path("silent")).unwrap();
    }

    /// What nitro-cli was called with, call by call.
    fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.path("calls")).unwrap().lines().map(String::from).collect()
    }

    fn was_terminated(&self) -> bool {
        self.calls().contains(&"terminate-enclave --enclave-name signer".into())
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into()
}

/// It answers in the form of nitro-cli 1.4.
const NITRO_CLI: &str = r#"#!/bin/sh
echo "$*" >>"$STATE/calls"
case $1 in
run-enclave)
    if [ -e "$STATE/unbootable" ]; then
        echo '[ E36 ] Enclave boot failure.' >&2
        exit 36
    fi
    touch "$STATE/running"
    ;;
describe-enclaves)
    left=$(cat "$STATE/silent" 2>/dev/null || echo 0)
    if [ "$left" -gt 0 ]; then
        echo $((left - 1)) >"$STATE/silent"
        exit 1
    fi
    if [ ! -e "$STATE/running" ]; then
        echo '[]'
        exit
    fi
    cat <<END
[
  {
    "EnclaveName": "signer",
    "EnclaveID": "i-0123456789abcdef0-enc0123456789abcdef",
    "ProcessID": 4321,
    "EnclaveCID": 16,
    "NumberOfCPUs": 2,
    "CPUIDs": [
      1,
      3
    ],
    "MemoryMiB": 1024,
    "State": "RUNNING",
    "Flags": "NONE"
  }
]
END
    ;;
terminate-enclave) rm -f "$STATE/running" ;;
esac
"#;
