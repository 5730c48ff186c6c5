//! A token, workers that use it, and a second opinion.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use enclave_app::pin::Pin;
use enclave_app::wire::{self, Call, Effect, Fault, Open, Order, Reply};
use protocol::action::{
    Action, ByLabel, Created, KeySpec, ListKeys, Listed, Outcome, Random, Sign, Verify,
};
use protocol::answer::Code;
use protocol::bytes::Bytes;
use protocol::frame;
use protocol::key::{KeyKind, Usage};
use tempfile::TempDir;

/// Set in the process that is to be a worker.
pub(crate) const WORKER: &str = "BE_THE_WORKER";

/// Set in the process that is to be a [`tool`](crate::tool).
pub(crate) const TOOL: &str = "BE_THE_TOOL";

/// As CloudHSM has it.
pub(crate) const PIN: &str = "crypto-user:correct horse";

/// SoftHSM.
pub(crate) const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// How a worker gets to SoftHSM.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Leg {
    /// It is the worker's module.
    Local,
    /// Through p11-kit's module and server, as over a network.
    Remote,
}

impl Leg {
    pub(crate) const ALL: &[Self] = &[Self::Local, Self::Remote];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
        }
    }

    /// What these tests need and this machine has not.
    pub(crate) fn missing(self) -> Option<String> {
        let (modules, programs): (&[_], &[_]) = match self {
            Self::Local => (&[MODULE], &["softhsm2-util", "pkcs11-tool"]),
            Self::Remote => (&[MODULE, CLIENT], &["softhsm2-util", "pkcs11-tool", "p11-kit"]),
        };
        let module = modules.iter().find(|module| !Path::new(module).exists());
        let program = || {
            let runs = |program| Command::new(program).arg("--help").output().is_ok();
            programs.iter().find(|&program| !runs(program))
        };
        module.or_else(program).map(|what| format!("there is no `{what}`"))
    }
}

/// A directory of SoftHSM's tokens.
pub(crate) struct Tokens {
    directory: TempDir,
    server: Option<Child>,
}

impl Tokens {
    /// With one token, `hsm1`.
    pub(crate) fn new(leg: Leg) -> Self {
        let mut tokens = Self::none();
        tokens.add("hsm1");
        if leg == Leg::Remote {
            tokens.serve();
        }
        tokens
    }

    pub(crate) fn none() -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().display();
        let config = format!("directories.tokendir = {path}\nlog.level = ERROR\n");
        fs::write(directory.path().join("softhsm2.conf"), config).unwrap();
        Self { directory, server: None }
    }

    fn serve(&mut self) {
        let mut command = self.command("p11-kit");
        command.args(["server", "--foreground", "--provider", MODULE, "--name"]);
        command.arg(self.socket()).arg("pkcs11:token=hsm1").stdout(Stdio::piped());
        let mut server = command.spawn().unwrap();
        // It says where it listens when it does.
        let mut line = String::new();
        BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("P11_KIT_SERVER_ADDRESS="), "{line}");
        self.server = Some(server);
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// The module that leads here.
    pub(crate) const fn module(&self) -> &'static str {
        if self.server.is_some() { CLIENT } else { MODULE }
    }

    pub(crate) fn add(&self, label: &str) {
        let mut command = self.command("softhsm2-util");
        command.args(["--init-token", "--free", "--label", label, "--so-pin", SO_PIN]);
        run(command.args(["--pin", PIN]));
    }

    /// What pkcs11-tool says.
    pub(crate) fn tool(&self, args: &[&str]) -> String {
        let mut command = self.command("pkcs11-tool");
        run(command.args(["--module", MODULE, "--login", "--pin", PIN]).args(args))
    }

    /// The lines that pkcs11-tool has for the objects with this label.
    pub(crate) fn objects(&self, label: &str) -> Vec<String> {
        let text = self.tool(&["--list-objects"]);
        let mut objects: Vec<String> = Vec::new();
        for line in text.lines() {
            if line.starts_with(' ') {
                let object = objects.last_mut().unwrap();
                *object = format!("{object}\n{}", line.trim());
            } else {
                objects.push(line.to_owned());
            }
        }
        objects.retain(|object| object.lines().any(|line| is_label(line, label)));
        objects
    }

    /// Gives the objects of this class (`secret`, `private`, `public`) another label.
    pub(crate) fn rename(&self, class: &str, from: &str, to: &str) {
        run(self.command(env::current_exe().unwrap()).env(TOOL, "1").args([class, from, to]));
    }

    /// Destroys the objects of this class.
    pub(crate) fn destroy(&self, class: &str, label: &str) {
        run(self.command(env::current_exe().unwrap()).env(TOOL, "1").args([class, label]));
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("SOFTHSM2_CONF", self.directory.path().join("softhsm2.conf"));
        let address = format!("unix:path={}", self.socket().display());
        command.env("P11_KIT_SERVER_ADDRESS", address);
        command
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn is_label(line: &str, label: &str) -> bool {
    line.strip_prefix("label:").is_some_and(|text| text.trim() == label)
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|out| String::from_utf8_lossy(out));
    assert!(output.status.success(), "{command:?}: {stdout}{stderr}");
    stdout.into_owned()
}

/// A worker in a process of its own.
pub(crate) struct Worker {
    module: &'static str,
    process: Child,
    socket: Option<UnixStream>,
    calls: u64,
}

impl Worker {
    pub(crate) fn start(tokens: &Tokens) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = tokens.command(env::current_exe().unwrap());
        command.env(WORKER, "1").stdin(OwnedFd::from(theirs));
        Self {
            module: tokens.module(),
            process: command.spawn().unwrap(),
            socket: Some(ours),
            calls: 0,
        }
    }

    /// Open and logged in.
    pub(crate) fn ready(tokens: &Tokens) -> Self {
        let mut worker = Self::start(tokens);
        worker.open(None).unwrap();
        worker.login(PIN).unwrap();
        worker
    }

    pub(crate) fn open(&mut self, token: Option<&str>) -> Result<Effect, Fault> {
        self.open_module(self.module.into(), token)
    }

    pub(crate) fn open_module(
        &mut self,
        module: PathBuf,
        token: Option<&str>,
    ) -> Result<Effect, Fault> {
        self.call(Order::Open(Open { module, token: token.map(Into::into), sessions: 3 }))
    }

    pub(crate) fn login(&mut self, pin: &str) -> Result<Effect, Fault> {
        self.call(Order::Login(Pin::new(pin.to_owned().into())))
    }

    pub(crate) fn act(&mut self, action: Action) -> Result<Outcome, Fault> {
        match self.call(Order::Act(action))? {
            Effect::Done(outcome) => Ok(outcome),
            other => panic!("{other:?}"),
        }
    }

    /// The code of the failure of an action.
    pub(crate) fn refusal(&mut self, action: Action) -> Code {
        self.act(action).unwrap_err().failure.code
    }

    pub(crate) fn create(&mut self, label: &str, kind: KeyKind) -> Result<Created, Fault> {
        self.create_with(label, kind, None)
    }

    pub(crate) fn create_with(
        &mut self,
        label: &str,
        kind: KeyKind,
        usage: Option<Usage>,
    ) -> Result<Created, Fault> {
        let spec = KeySpec { label: label.parse().unwrap(), kind, usage };
        match self.act(Action::CreateKey(spec))? {
            Outcome::CreateKey(created) => Ok(created),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn call(&mut self, order: Order) -> Result<Effect, Fault> {
        let number = self.send(order);
        let reply = self.receive();
        assert_eq!(reply.number, number);
        reply.result
    }

    pub(crate) fn send(&mut self, order: Order) -> u64 {
        self.calls += 1;
        let content = serde_json::to_vec(&Call { number: self.calls, order }).unwrap();
        let socket = self.socket.as_mut().unwrap();
        frame::write_blocking(socket, &content, wire::MAX_FRAME).unwrap();
        self.calls
    }

    pub(crate) fn receive(&mut self) -> Reply {
        let socket = self.socket.as_mut().unwrap();
        let content = frame::read_blocking(socket, wire::MAX_FRAME).unwrap().unwrap();
        serde_json::from_slice(&content).unwrap()
    }

    /// Ends it as its parent does, and says whether it went well.
    pub(crate) fn stop(mut self) -> bool {
        self.socket = None;
        self.process.wait().unwrap().success()
    }

    /// Its end of the socket.
    pub(crate) fn socket(&mut self) -> &mut UnixStream {
        self.socket.as_mut().unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn by(label: &str) -> ByLabel {
    ByLabel { label: label.parse().unwrap() }
}

pub(crate) fn signed(worker: &mut Worker, label: &str, message: &[u8]) -> Bytes {
    let sign = Sign { label: label.parse().unwrap(), message: message.to_vec().into() };
    match worker.act(Action::Sign(sign)).unwrap() {
        Outcome::Sign(signed) => signed.signature,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn valid(worker: &mut Worker, label: &str, message: &[u8], signature: &Bytes) -> bool {
    let (message, signature) = (message.to_vec().into(), signature.clone());
    let verify = Verify { label: label.parse().unwrap(), message, signature };
    match worker.act(Action::Verify(verify)).unwrap() {
        Outcome::Verify(verified) => verified.valid,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn listed(worker: &mut Worker) -> Listed {
    match worker.act(Action::ListKeys(ListKeys {})).unwrap() {
        Outcome::ListKeys(listed) => listed,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn random(worker: &mut Worker, bytes: u16) -> Vec<u8> {
    match worker.act(Action::Random(Random { bytes })).unwrap() {
        Outcome::Random(randomized) => randomized.bytes.as_slice().to_vec(),
        other => panic!("{other:?}"),
    }
}

/// Leads to whatever P11_KIT_SERVER_ADDRESS names.
const CLIENT: &str = "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so";
const SO_PIN: &str = "security-officer";
const PATIENCE: Duration = Duration::from_secs(20);
