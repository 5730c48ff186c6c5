//! A process of enclave-app, its configuration and its log.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::client::Client;

/// Long enough for any machine; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A place for a configuration and what it names.
pub(crate) struct Place {
    directory: TempDir,
    environment: Vec<(String, String)>,
    program: PathBuf,
    /// Nothing: that of the test.
    user: Option<u32>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            directory: TempDir::new().unwrap(),
            environment: Vec::new(),
            program: env!("CARGO_BIN_EXE_enclave-app").into(),
            user: None,
        }
    }

    /// A place with a configuration that listens on the socket `app`.
    pub(crate) fn with(text: &str) -> Self {
        let place = Self::new();
        place.configure(&format!("listen = 'unix:DIR/app'\n{text}"));
        place
    }

    /// Sets a variable of the environment.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.environment.push((name.into(), value.into()));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes the configuration, in which `DIR` stands for this place.
    pub(crate) fn configure(&self, text: &str) {
        let text = text.replace("DIR", self.directory().to_str().unwrap());
        fs::write(self.path("enclave-app.toml"), text).unwrap();
    }

    /// Has enclave-app run without privileges. If this test has none, it does anyway.
    pub(crate) fn drop_privileges(&mut self) {
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            return;
        }
        // Nobody else may be let in where it was built.
        let program = self.path("program");
        fs::copy(&self.program, &program).unwrap();
        self.program = program;
        self.user = Some(NOBODY);
        give_away(self.directory());
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command.arg("--config").arg(self.path("enclave-app.toml")).args(arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Runs enclave-app to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Starts to serve, and returns once enclave-app is ready.
    pub(crate) fn serve(&self) -> App {
        App::start(&mut self.command(&[]), " ready listen=")
    }

    /// As [`Self::serve`], with a log in JSON.
    pub(crate) fn serve_json(&self) -> App {
        App::start(&mut self.command(&[]), r#""message":"ready""#)
    }

    /// A client of the socket `app`.
    pub(crate) fn client(&self) -> Client {
        Client::connect_unix(&self.path("app"))
    }
}

fn give_away(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give_away(&entry.unwrap().path()));
    }
}

/// A serving enclave-app, which ends with this value.
pub(crate) struct App {
    child: Child,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl App {
    /// Starts what logs these words once it is ready.
    pub(crate) fn start(command: &mut Command, ready: &str) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Log::default());
        thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in stderr.lines().map_while(Result::ok) {
                    log.lines.lock().unwrap().0.push(line);
                    log.changed.notify_all();
                }
                log.lines.lock().unwrap().1 = true;
                log.changed.notify_all();
            }
        });
        let app = Self { child, log };
        app.await_line(ready);
        app
    }

    /// Waits until a line with `words` is logged.
    pub(crate) fn await_line(&self, words: &str) -> String {
        let found = |lines: &[String]| lines.iter().find(|line| line.contains(words)).cloned();
        self.log.wait(&format!("a line with `{words}`"), |lines, _| found(lines))
    }

    /// All that it has logged; of one that has ended, all that it ever did.
    pub(crate) fn logged(&self) -> String {
        self.log.lines.lock().unwrap().0.join("\n")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits until it, and whoever shares its log, has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.log.wait("the end", |_, ended| ended.then_some(()));
        self.child.wait().unwrap()
    }

    /// A file of its /proc directory.
    pub(crate) fn proc(&self, file: &str) -> PathBuf {
        proc(self.pid(), file)
    }

    /// Its resident memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Its worker, which must be there.
    pub(crate) fn worker(&self) -> Pid {
        let children = self.proc(&format!("task/{}/children", self.pid()));
        let children = fs::read_to_string(children).unwrap();
        Pid::from_raw(children.split_whitespace().next().unwrap().parse().unwrap())
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            #[expect(clippy::print_stderr, reason = "whoever reads of a failure wants to know why")]
            {
                eprintln!("{}", self.logged());
            }
        }
    }
}

pub(crate) fn proc(pid: Pid, file: &str) -> PathBuf {
    format!("/proc/{pid}/{file}").into()
}

impl Log {
    fn wait<T>(&self, what: &str, found: impl Fn(&[String], bool) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.lines.lock().unwrap();
        loop {
            if let Some(found) = found(&state.0, state.1) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !state.1, "waited in vain for {what}");
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }
}

const NOBODY: u32 = 65_534;
