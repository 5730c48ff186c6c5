//! Network HSMs: SoftHSM behind p11-kit's remote protocol, in TLS.
//!
//! All HSMs of a cluster work on one directory of tokens, so their keys are in sync, as CloudHSM's
//! are.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::ca::{Authority, Certificate};
use crate::process::Process;

/// The label of the token.
pub const TOKEN: &str = "hsm1";

/// A token, whatever HSMs there are for it.
#[derive(Debug)]
pub struct Cluster {
    directory: PathBuf,
    pin: String,
}

impl Cluster {
    /// A new token without keys. The PIN is `user:password`, as CloudHSM's is.
    #[must_use]
    pub fn new(directory: &Path, pin: &str) -> Self {
        let tokens = directory.join("tokens");
        fs::create_dir(&tokens).expect("a directory of tokens");
        let config =
            format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display());
        fs::write(directory.join("softhsm2.conf"), config).expect("a configuration of SoftHSM");
        let cluster = Self { directory: directory.to_owned(), pin: pin.to_owned() };
        let mut command = cluster.command("softhsm2-util");
        command.args(["--init-token", "--free", "--label", TOKEN, "--so-pin", SO_PIN]);
        run(command.args(["--pin", pin]));
        cluster
    }

    /// Starts an HSM at an address of the host.
    #[must_use]
    pub fn start(&self, address: SocketAddr, authority: &Authority) -> Hsm {
        let certificate = authority.certify(&format!("IP:{}", address.ip()));
        let socket = self.directory.join(format!("hsm-{}", address.ip()));
        let server = self.serve(&socket);
        let front = listen(address, &certificate, &socket);
        Hsm { address, certificate, socket, server: Some(server), front: Some(front) }
    }

    /// Starts an HSM again that was stopped, or of which a part was killed.
    pub fn restart(&self, hsm: &mut Hsm) {
        hsm.stop();
        hsm.server = Some(self.serve(&hsm.socket));
        hsm.front = Some(listen(hsm.address, &hsm.certificate, &hsm.socket));
    }

    /// Starts the inner part of an HSM again, after [`Hsm::kill_server`].
    pub fn restart_server(&self, hsm: &mut Hsm) {
        hsm.server = Some(self.serve(&hsm.socket));
    }

    /// The labels of all secret keys, as the HSMs themselves see them.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let mut command = self.command("pkcs11-tool");
        command.args(["--module", SOFTHSM, "--login", "--pin", &self.pin]);
        let listed = run(command.args(["--list-objects", "--type", "secrkey"]));
        listed
            .lines()
            .filter_map(|line| line.trim().strip_prefix("label:"))
            .map(|label| label.trim().to_owned())
            .collect()
    }

    /// How many secret keys there are with a label.
    #[must_use]
    pub fn count(&self, label: &str) -> usize {
        self.keys().iter().filter(|key| *key == label).count()
    }

    /// Changes the PIN, as an operator does who rotates the password.
    pub fn set_pin(&mut self, pin: &str) {
        let mut command = self.command("pkcs11-tool");
        command.args(["--module", SOFTHSM, "--login", "--pin", &self.pin, "--change-pin"]);
        run(command.args(["--new-pin", pin]));
        pin.clone_into(&mut self.pin);
    }

    fn serve(&self, socket: &Path) -> Process {
        // That of a server which was killed.
        let _ = fs::remove_file(socket);
        // It says where it listens once it does.
        let script = "exec p11-kit server --foreground --provider \"$0\" --name \"$1\" \"$2\" >&2";
        let mut command = self.command("sh");
        command.args(["-c", script, SOFTHSM]).arg(socket).arg(format!("pkcs11:token={TOKEN}"));
        start("p11-kit", &mut command, "P11_KIT_SERVER_ADDRESS=")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SOFTHSM2_CONF", self.directory.join("softhsm2.conf"));
        command
    }
}

/// One HSM. It stops when it goes out of scope.
#[derive(Debug)]
pub struct Hsm {
    /// Where it is.
    pub address: SocketAddr,
    certificate: Certificate,
    socket: PathBuf,
    /// What has the token.
    server: Option<Process>,
    /// What speaks TLS.
    front: Option<Process>,
}

impl Hsm {
    /// Ends it, with all its connections: new ones are refused.
    pub fn stop(&mut self) {
        end(&mut self.front);
        end(&mut self.server);
    }

    /// Has it say nothing any more, to nobody, on any connection. What it was told before is done.
    ///
    /// What is inside goes on: stopped, it might hold a lock of SoftHSM's, which is one that the
    /// other HSMs of its cluster wait for.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Ends [`Self::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Cuts the connections that it has, wherever in the stream they are. New ones are accepted.
    pub fn cut(&self) {
        let front = self.front.as_ref().expect("it runs").id();
        // Each connection has a process.
        let path = format!("/proc/{front}/task/{front}/children");
        for child in fs::read_to_string(path).expect("it runs").split_whitespace() {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(child.parse().expect("a pid")), Signal::SIGKILL);
        }
    }

    /// Kills what is inside it, also what serves the connections. TLS still listens.
    pub fn kill_server(&mut self) {
        end(&mut self.server);
    }

    fn signal(&self, signal: Signal) {
        signal_group(self.front.as_ref().expect("it runs"), signal);
    }
}

impl Drop for Hsm {
    fn drop(&mut self) {
        self.stop();
    }
}

fn listen(address: SocketAddr, certificate: &Certificate, socket: &Path) -> Process {
    let mut command = Command::new("socat");
    command
        .args(["-d", "-d"])
        .arg(format!(
            "OPENSSL-LISTEN:{},bind={},reuseaddr,nodelay,fork,backlog=128,verify=0,cert={},key={}",
            address.port(),
            address.ip(),
            certificate.certificate.display(),
            certificate.key.display()
        ))
        .arg(format!("UNIX-CONNECT:{}", socket.display()));
    start("socat", &mut command, "listening on")
}

/// Starts something in a process group of its own, and waits until it says that it is ready.
fn start(name: &'static str, command: &mut Command, ready: &str) -> Process {
    let command = command.process_group(0).stdin(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let process = Process::new(name, child);
    process.line("its start", |line| line.as_str().is_some_and(|line| line.contains(ready)));
    process
}

fn end(part: &mut Option<Process>) {
    if let Some(process) = part.take() {
        signal_group(&process, Signal::SIGKILL);
    }
}

/// Signals a part and whatever it has forked.
fn signal_group(part: &Process, signal: Signal) {
    killpg(Pid::from_raw(part.id().cast_signed()), signal).expect("it runs, or is not yet reaped");
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

const SO_PIN: &str = "so-pin-of-the-tests";
const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
