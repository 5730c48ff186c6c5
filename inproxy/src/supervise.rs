//! Runs the application as a child, as an init does: passes signals on, reaps orphans, and ends as
//! the application ends.
//!
//! The same code is right as PID 1, where orphans become its children and signals without a handler
//! are dropped, and as a plain process.

use std::ffi::{OsStr, OsString};
use std::future::poll_fn;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::task::Poll;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, killpg};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};
use rustix::process::{WaitOptions, WaitStatus};
use thiserror::Error;
use tokio::signal::unix::{self, SignalKind};

/// The signals that concern a child, caught since [`Signals::install`]; see signal(7).
#[derive(Debug)]
pub struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// Takes over the signals. Those that arrive before the child runs are for the child.
    ///
    /// # Errors
    ///
    /// What sigaction(2) answers.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn install() -> io::Result<Self> {
        [&[Signal::SIGCHLD], FOR_THE_GROUP, FOR_THE_CHILD]
            .concat()
            .into_iter()
            .map(|signal| Ok((signal, unix::signal(SignalKind::from_raw(signal as i32))?)))
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// Waits for signals and returns all that have arrived, so that none starves another.
    async fn next(&mut self) -> Vec<Signal> {
        poll_fn(|context| {
            let arrived: Vec<_> = self
                .0
                .iter_mut()
                .filter_map(|(signal, stream)| {
                    stream.poll_recv(context).is_ready().then_some(*signal)
                })
                .collect();
            if arrived.is_empty() { Poll::Pending } else { Poll::Ready(arrived) }
        })
        .await
    }
}

/// A running command.
///
/// It reaps every child of this process: a process has one of these and no other children.
#[derive(Debug)]
pub struct Child {
    signals: Signals,
    pid: Pid,
    /// Given back when the child has ended.
    _terminal: Option<Terminal>,
}

impl Child {
    /// Runs a program in a process group of its own, which becomes the terminal's foreground group
    /// if this process was in it.
    ///
    /// The signals come first: a child that ends at once is not missed.
    ///
    /// # Errors
    ///
    /// The program cannot be run.
    pub fn spawn(signals: Signals, program: &OsStr, args: &[OsString]) -> Result<Self, SpawnError> {
        Self::spawn_with(signals, program, args, |_| {})
    }

    /// As [`Self::spawn`]; `prepare` says where the program's output goes.
    ///
    /// # Errors
    ///
    /// The program cannot be run.
    pub fn spawn_with(
        signals: Signals,
        program: &OsStr,
        args: &[OsString],
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Self, SpawnError> {
        let mut command = Command::new(program);
        prepare(&mut command);
        // The standard library empties the signal mask and restores SIGPIPE; execve(2) resets the
        // signals that are caught here.
        let child = command
            .args(args)
            .process_group(0)
            .spawn()
            .map_err(|error| SpawnError::new(program, error))?;
        let pid = Pid::from_raw(child.id().cast_signed());
        tracing::debug!(%pid, program = %program.display(), "started");
        Ok(Self { signals, pid, _terminal: Terminal::lend(pid) })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// Waits until the child ends; meanwhile passes signals on and reaps orphans.
    ///
    /// Returns what this process should exit with: the child's status, or 128 + n if signal n has
    /// killed it, as shells do.
    ///
    /// # Errors
    ///
    /// Something else has reaped the child.
    pub async fn wait(mut self) -> io::Result<u8> {
        loop {
            if let Some(status) = self.reap()? {
                return Ok(exit_code(status));
            }
            for signal in self.signals.next().await {
                self.forward(signal);
            }
        }
    }

    /// Reaps whatever has ended, up to the child itself.
    ///
    /// Not by nix, whose waitpid() reaps a child that a real-time signal has killed and then returns
    /// EINVAL instead of saying which.
    fn reap(&self) -> io::Result<Option<WaitStatus>> {
        while let Some((pid, status)) = rustix::process::wait(WaitOptions::NOHANG)? {
            if pid.as_raw_pid() == self.pid.as_raw() {
                return Ok(Some(status));
            }
            tracing::debug!(pid = pid.as_raw_pid(), "reaped an orphan");
        }
        Ok(None)
    }

    fn forward(&self, signal: Signal) {
        // The child is not reaped yet, so its number cannot be another's.
        let sent = if FOR_THE_GROUP.contains(&signal) {
            killpg(self.pid, signal)
        } else if FOR_THE_CHILD.contains(&signal) {
            kill(self.pid, signal)
        } else {
            return;
        };
        match sent {
            Ok(()) => tracing::debug!(%signal, pid = %self.pid, "forwarded"),
            Err(Errno::ESRCH) => {}
            Err(errno) => tracing::warn!(%signal, pid = %self.pid, %errno, "failed to forward"),
        }
    }
}

fn exit_code(status: WaitStatus) -> u8 {
    let code = match status.terminating_signal() {
        Some(signal) => {
            tracing::warn!(signal, "the command was killed");
            128 + signal
        }
        None => status.exit_status().unwrap_or_default(),
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// Whether a child will get the terminal: then somebody sits there, and it had better see one.
#[must_use]
pub fn has_terminal_to_lend() -> bool {
    tcgetpgrp(io::stdin()) == Ok(getpgrp())
}

/// The terminal on standard input, lent to the group of the child; see termios(3) and credentials(7).
#[derive(Debug)]
struct Terminal {
    ours: Pid,
    theirs: Pid,
}

impl Terminal {
    /// Does nothing without a terminal, or in the background: it is another's then.
    fn lend(theirs: Pid) -> Option<Self> {
        if !has_terminal_to_lend() {
            return None;
        }
        let ours = getpgrp();
        tcsetpgrp(io::stdin(), theirs).ok()?;
        // A child quick enough to read before this was stopped by SIGTTIN.
        killpg(theirs, Signal::SIGCONT).ok();
        Some(Self { ours, theirs })
    }
}

impl Drop for Terminal {
    /// A script that goes on after us wants to read the terminal, too.
    fn drop(&mut self) {
        if tcgetpgrp(io::stdin()) != Ok(self.theirs) {
            return;
        }
        // Who takes the terminal from the background is stopped, unless it blocks SIGTTOU.
        let Ok(mask) = SigSet::from(Signal::SIGTTOU).thread_swap_mask(SigmaskHow::SIG_BLOCK) else {
            return;
        };
        tcsetpgrp(io::stdin(), self.ours).ok();
        mask.thread_set_mask().ok();
    }
}

/// Why a program does not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// It is there, but cannot be run.
    #[error("failed to run `{program}`")]
    NotExecutable {
        /// The program.
        program: String,
        /// What execve(2) answers.
        source: io::Error,
    },
    /// It is not there, or what it needs is not: execve(2) does not say which.
    #[error(
        "failed to run `{program}`; it, or the interpreter or loader that it names, is missing"
    )]
    NotFound {
        /// The program.
        program: String,
        /// What execve(2) answers.
        source: io::Error,
    },
}

impl SpawnError {
    fn new(program: &OsStr, source: io::Error) -> Self {
        let program = program.display().to_string();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { program, source },
            _ => Self::NotExecutable { program, source },
        }
    }

    /// What a shell would exit with: 127 for what it does not find, 126 for what it cannot run.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotExecutable { .. } => 126,
            Self::NotFound { .. } => 127,
        }
    }
}

/// What terminals and service managers send to a whole job. `sh -c` does not pass SIGTERM on: sent
/// to the shell alone, it would end the shell and leave the application behind.
const FOR_THE_GROUP: &[Signal] = &[
    Signal::SIGCONT,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGWINCH,
];

/// What is meant for one program. A helper of the application that does not know it would die.
const FOR_THE_CHILD: &[Signal] =
    &[Signal::SIGALRM, Signal::SIGPWR, Signal::SIGUSR1, Signal::SIGUSR2];
