//! The two proxies, as the operator starts them.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::namespace::Enclave;
use crate::patience::patience;
use crate::process::Process;

/// Where a binary under test is: in `BIN_DIR`, or where cargo puts it.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    env::var_os("BIN_DIR").map_or_else(built, PathBuf::from).join(name)
}

/// This program is target/debug/deps/e2e-<hash>, or beside the binaries itself.
fn built() -> PathBuf {
    let own = env::current_exe().expect("the path of this program");
    let directory = own.parent().expect("a directory of binaries");
    let above = if directory.ends_with("deps") { directory.parent() } else { None };
    above.unwrap_or(directory).to_owned()
}

/// A running outproxy.
#[derive(Debug)]
pub struct Outproxy {
    process: Process,
    config: PathBuf,
    notifications: UnixDatagram,
}

impl Outproxy {
    /// Starts it, and waits until it has bound every listener. `below` is a command that runs it,
    /// such as `nice`.
    #[must_use]
    pub fn start(directory: &Path, config: &str, below: &[&str]) -> Self {
        let path = directory.join("outproxy.toml");
        fs::write(&path, config).expect("a configuration");
        let socket = directory.join("notify");
        // That of an outproxy before this one.
        let _ = fs::remove_file(&socket);
        let notifications = UnixDatagram::bind(&socket).expect("a socket for notifications");
        notifications.set_read_timeout(Some(patience())).expect("SO_RCVTIMEO");
        let mut command = command(below, "outproxy", &path);
        let process = spawn("outproxy", command.env("NOTIFY_SOCKET", &socket));
        let outproxy = Self { process, config: path, notifications };
        outproxy.await_state("READY=1");
        outproxy
    }

    /// Replaces its configuration and has it read; returns when it has.
    pub fn reload(&self, config: &str) {
        self.write_config(config);
        self.signal(Signal::SIGHUP);
        self.await_state("RELOADING=1");
        self.await_state("READY=1");
    }

    /// Replaces its configuration, and no more.
    pub fn write_config(&self, config: &str) {
        fs::write(&self.config, config).expect("a configuration");
    }

    /// Waits until it has told systemd of a state.
    pub fn await_state(&self, state: &str) {
        let mut message = [0; 256];
        loop {
            let length = self
                .notifications
                .recv(&mut message)
                .unwrap_or_else(|error| panic!("waited in vain for {state}: {error}"));
            if message[..length].split(|byte| *byte == b'\n').any(|line| line == state.as_bytes()) {
                return;
            }
        }
    }
}

impl Deref for Outproxy {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Outproxy {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl From<Outproxy> for Process {
    fn from(outproxy: Outproxy) -> Self {
        outproxy.process
    }
}

/// Starts inproxy in the enclave, and waits until it has bound every listener: then it runs the
/// command that says so, and ends with this process.
#[must_use]
pub fn start_inproxy(enclave: &Enclave, directory: &Path, config: &str) -> Process {
    let mut inproxy =
        run_inproxy(enclave, directory, config, &["sh", "-c", "echo ready; exec cat >/dev/null"]);
    let stdout = inproxy.child().stdout.take().expect("a pipe");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n", "inproxy did not start");
    inproxy
}

/// Starts inproxy in the enclave with a command, if that is not empty.
#[must_use]
pub fn run_inproxy(
    enclave: &Enclave,
    directory: &Path,
    config: &str,
    application: &[&str],
) -> Process {
    let path = directory.join("inproxy.toml");
    fs::write(&path, config).expect("a configuration");
    let mut command = command(&[], "inproxy", &path);
    if !application.is_empty() {
        command.arg("--").args(application);
    }
    // The command starts in the enclave, and is the enclave's.
    enclave.run(|| spawn("inproxy", &mut command))
}

fn command(below: &[&str], name: &str, config: &Path) -> Command {
    let mut command = match below {
        [] => Command::new(binary(name)),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(binary(name));
            command
        }
    };
    command
        .arg("--config")
        .arg(config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn spawn(name: &'static str, command: &mut Command) -> Process {
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Process::new(name, child)
}
