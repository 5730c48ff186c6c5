//! A token, workers that use it, and a second opinion.

use std::env;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use enclave_app::pin::Pin;
use enclave_app::wire::{self, Call, Effect, Fault, Open, Order, Reply};
use protocol::action::{Action, ByLabel, Created, KeySpec, Outcome};
use protocol::answer::Code;
use protocol::frame;
use protocol::key::{KeyKind, Usage};
use tempfile::TempDir;

/// Set in the process that is to be a worker.
pub(crate) const WORKER: &str = "BE_THE_WORKER";

/// As CloudHSM has it.
pub(crate) const PIN: &str = "crypto-user:correct horse";

/// SoftHSM.
pub(crate) const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// What these tests need and this machine has not.
pub(crate) fn missing() -> Option<String> {
    if !Path::new(MODULE).exists() {
        return Some(format!("there is no `{MODULE}`"));
    }
    ["softhsm2-util", "pkcs11-tool"].into_iter().find_map(|program| {
        let found = Command::new(program).arg("--version").output().is_ok();
        (!found).then(|| format!("there is no {program}"))
    })
}

/// A directory of SoftHSM's tokens.
pub(crate) struct Tokens {
    directory: TempDir,
}

impl Tokens {
    /// With one token, `hsm1`.
    pub(crate) fn new() -> Self {
        let tokens = Self::none();
        tokens.add("hsm1");
        tokens
    }

    pub(crate) fn none() -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().display();
        let config = format!("directories.tokendir = {path}\nlog.level = ERROR\n");
        fs::write(directory.path().join("softhsm2.conf"), config).unwrap();
        Self { directory }
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

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("SOFTHSM2_CONF", self.directory.path().join("softhsm2.conf"));
        command
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
        Self { process: command.spawn().unwrap(), socket: Some(ours), calls: 0 }
    }

    /// Open and logged in.
    pub(crate) fn ready(tokens: &Tokens) -> Self {
        let mut worker = Self::start(tokens);
        worker.open(None).unwrap();
        worker.login(PIN).unwrap();
        worker
    }

    pub(crate) fn open(&mut self, token: Option<&str>) -> Result<Effect, Fault> {
        self.open_module(MODULE.into(), token)
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

const SO_PIN: &str = "security-officer";
const PATIENCE: Duration = Duration::from_secs(20);
