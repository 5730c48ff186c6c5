//! A process under test: its log, its end, and what it costs.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc::SYS_epoll_pwait;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

use crate::patience::patience;

/// A proxy that was started. It is killed when it goes out of scope, and its log is shown if the
/// test fails.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: Arc<Log>,
}

impl Process {
    /// Takes over a child whose standard error is a pipe.
    #[must_use]
    pub fn new(name: &'static str, mut child: Child) -> Self {
        let log = Arc::new(Log::default());
        let stderr = child.stderr.take().expect("standard error is a pipe");
        thread::spawn({
            let log = Arc::clone(&log);
            move || log.fill(stderr)
        });
        Self { name, child, log }
    }

    /// Its child, for standard input and output.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it runs");
    }

    /// Stops it, so that it does nothing until it gets SIGCONT.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        // It may do some more before it has the signal.
        waitpid(self.pid(), Some(WaitPidFlag::WUNTRACED)).expect("it stops");
    }

    /// Kills it as SIGKILL does.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it was started").is_some()
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        // Standard error ends with the process: the log's thread has it.
        self.log.wait("its end", |state| state.ended.then_some(()));
        self.child.wait().expect("it ends")
    }

    /// Waits for the first line that `wanted` accepts, also among those that were logged before.
    pub fn line(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.lines(what, 1, wanted).remove(0)
    }

    /// Waits for so many lines that `wanted` accepts.
    pub fn lines(&self, what: &str, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.log.wait(what, |state| {
            let lines: Vec<_> = state.lines.iter().filter(|line| wanted(line)).cloned().collect();
            (lines.len() >= count).then_some(lines)
        })
    }

    /// Waits until its log tells of so many connections that are over. Of thousands that end at once
    /// it would be too slow to look at every line again with each that comes: the log would find
    /// nobody who takes it.
    pub fn await_ends(&self, count: usize) {
        self.log.wait("the connections' ends", |state| {
            (state.account.total() >= count as u64).then_some(())
        });
    }

    /// What its log says of connections that are over.
    #[must_use]
    pub fn account(&self) -> Account {
        self.log.lock().account.clone()
    }

    /// All that it has logged, or the last of it if that is very much.
    #[must_use]
    pub fn logged(&self) -> Vec<Value> {
        self.log.lock().lines.clone()
    }

    /// How many threads it has.
    #[must_use]
    pub fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs").count()
    }

    /// How many descriptors it has open.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs").count()
    }

    /// Its resident memory, in bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.bytes("VmRSS:")
    }

    /// Its address space, in bytes.
    #[must_use]
    pub fn address_space(&self) -> u64 {
        self.bytes("VmSize:")
    }

    /// The processor time that it has used, in ticks of 10 ms.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        let stat = self.proc("stat");
        // The name, in brackets, may have blanks in it.
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().expect("ticks"))
            .sum()
    }

    /// The processor time that its first thread has used, to the nanosecond.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        let schedstat = self.proc("schedstat");
        let time = schedstat.split_whitespace().next().expect("a time");
        Duration::from_nanos(time.parse().expect("a number"))
    }

    /// For how long its first thread waits for events at most, in milliseconds, or -1 for ever:
    /// the fourth argument of epoll_pwait(2). `None` if it is doing something else.
    #[must_use]
    pub fn limit_of_its_rest(&self) -> Option<i32> {
        let call = self.proc("syscall");
        let mut words = call.split_whitespace();
        if words.next()? != SYS_epoll_pwait.to_string() {
            return None;
        }
        let register = u64::from_str_radix(words.nth(3)?.strip_prefix("0x")?, 16).ok()?;
        let limit = u32::try_from(register & u64::from(u32::MAX)).ok()?;
        Some(limit.cast_signed())
    }

    fn bytes(&self, field: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
        let kib = line.trim().trim_end_matches(" kB");
        kib.parse::<u64>().expect("a number") * 1024
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.pid())).expect("it runs")
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.id().cast_signed())
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "whoever reads of a failure wants to know why")]
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let state = self.log.lock();
            let left_out = state.lines.len().saturating_sub(SHOWN);
            eprintln!("{}: {left_out} lines, then", self.name);
            for line in &state.lines[left_out..] {
                eprintln!("{}: {line}", self.name);
            }
        }
    }
}

/// Whether a line has a field of this value.
pub fn has(field: &'static str, value: &str) -> impl Fn(&Value) -> bool {
    move |line| line[field] == value
}

/// What a process has logged so far.
#[derive(Debug, Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LogState {
    lines: Vec<Value>,
    account: Account,
    ended: bool,
}

impl LogState {
    fn push(&mut self, line: Value) {
        self.account.enter(&line);
        self.lines.push(line);
        if self.lines.len() >= 2 * KEPT {
            self.lines.drain(..KEPT);
        }
    }
}

/// How many connections a log tells of.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Those that have a line, by the outcome that stands there.
    pub outcomes: BTreeMap<String, u64>,
    /// Refused or failed ones that are only counted.
    pub suppressed: u64,
}

impl Account {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.outcomes.values().sum::<u64>() + self.suppressed
    }

    /// How many have a line with this outcome.
    #[must_use]
    pub fn of(&self, outcome: &str) -> u64 {
        self.outcomes.get(outcome).copied().unwrap_or_default()
    }

    fn enter(&mut self, line: &Value) {
        match line["message"].as_str().unwrap_or_default() {
            "connection ended" | "connection failed" | "connection refused" => {
                let outcome = line["outcome"].as_str().unwrap_or_default();
                *self.outcomes.entry(outcome.to_owned()).or_default() += 1;
            }
            "failures not logged in the last second"
            | "lines not logged, since nobody took them"
            | "refusals not logged in the last second" => {
                self.suppressed += line["lines"].as_u64().unwrap_or_default();
            }
            _ => {}
        }
    }
}

impl Log {
    fn fill(&self, stderr: ChildStderr) {
        let mut reader = BufReader::new(stderr);
        let mut line = String::new();
        while matches!(reader.by_ref().read_line(&mut line), Ok(1..)) {
            // Before the log is up there is plain text.
            let value = serde_json::from_str(&line).unwrap_or_else(|_| line.trim_end().into());
            self.change(|state| state.push(value));
            line.clear();
        }
        self.change(|state| state.ended = true);
    }

    fn change(&self, change: impl FnOnce(&mut LogState)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn wait<T>(&self, what: &str, mut found: impl FnMut(&LogState) -> Option<T>) -> T {
        let deadline = Instant::now() + patience();
        let mut state = self.lock();
        loop {
            if let Some(found) = found(&state) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !state.ended, "waited in vain for {what}");
            state =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many lines of a log are kept at least.
const KEPT: usize = 20_000;
/// How many lines of a log are shown of a failure.
const SHOWN: usize = 50;
