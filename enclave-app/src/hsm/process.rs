//! A worker process, as seen from the application.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use std::{env, io};

use protocol::answer::{Code, Failure};
use protocol::frame::{self, FrameError};
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::Program;
use super::calls::{Calls, Line, Lost, Request};
use crate::wire::{self, Call, FaultKind, Reply};

/// A worker that runs, and what it has been asked.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    stream: UnixStream,
    queue: mpsc::UnboundedReceiver<Request>,
    slots: Arc<Semaphore>,
    calls: Calls,
    call_timeout: Duration,
}

impl Process {
    /// Starts one that takes so many calls at once.
    pub(super) fn spawn(
        program: &Program,
        sessions: usize,
        call_timeout: Duration,
    ) -> Result<(Line, Self), SpawnError> {
        let (stream, child) = connect(program)
            .map_err(|source| SpawnError { program: program.path.display().to_string(), source })?;
        let slots = Arc::new(Semaphore::new(sessions));
        let (sender, queue) = mpsc::unbounded_channel();
        let line = Line::new(sender, Arc::clone(&slots));
        let calls = Calls::default();
        Ok((line, Self { child, stream, queue, slots, calls, call_timeout }))
    }

    /// Carries calls and replies until the worker is of no more use, and says why.
    ///
    /// When it is stopped, it lets the worker finish what it does.
    pub(super) async fn run(&mut self, stop: watch::Receiver<bool>) -> Lost {
        let Self { stream, queue, calls, call_timeout, .. } = self;
        let (reader, writer) = stream.split();
        tokio::select! {
            lost = receive(reader, calls) => lost,
            lost = send(writer, queue, calls, *call_timeout, stop) => lost,
            () = calls.overdue() => Lost::Hung,
        }
    }

    /// Makes an end of it, and fails its calls.
    pub(super) async fn end(mut self, lost: &Lost) -> End {
        self.slots.close();
        self.queue.close();
        if matches!(lost, Lost::Stopped) {
            // It has been told, and finishes with the module first.
            let _ = timeout(GRACE, self.child.wait()).await;
        }
        // Fails only where the worker has ended, which wait() is about to tell.
        let _ = self.child.start_kill();
        let status = timeout(GRACE, self.child.wait()).await.ok().and_then(Result::ok);
        // Not earlier: whoever hears of it may try again, and by then this worker must be unable to
        // do anything more. What is still in the queue was never sent, and is told so.
        let in_flight = self.calls.fail(lost);
        End { in_flight, status }
    }
}

/// What became of a worker.
#[derive(Debug)]
pub(super) struct End {
    /// How many calls it left behind.
    pub(super) in_flight: usize,
    /// How it ended, if it has.
    pub(super) status: Option<ExitStatus>,
}

/// A worker that cannot be started.
#[derive(Debug, Error)]
#[error("failed to start `{program}`")]
pub(super) struct SpawnError {
    program: String,
    source: io::Error,
}

fn connect(program: &Program) -> io::Result<(UnixStream, Child)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut command = Command::new(&program.path);
    for (name, _) in env::vars_os() {
        // The module and its HSM have no business with AWS.
        if name.as_encoded_bytes().starts_with(b"AWS_") {
            command.env_remove(name);
        }
    }
    let child = command
        .args(&program.arguments)
        .envs(program.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    Ok((UnixStream::from_std(ours)?, child))
}

/// Sends what is in the queue, up to the end of the worker, or of this.
async fn send(
    mut writer: WriteHalf<'_>,
    queue: &mut mpsc::UnboundedReceiver<Request>,
    calls: &Calls,
    call_timeout: Duration,
    mut stop: watch::Receiver<bool>,
) -> Lost {
    let mut number = 0;
    loop {
        let request = tokio::select! {
            Some(request) = queue.recv() => request,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        if request.is_abandoned() {
            continue;
        }
        number += 1;
        let (order, ticket) = request.into_parts();
        calls.add(number, Instant::now() + call_timeout, ticket);
        let sent = match wire::encode(&Call { number, order }) {
            Ok(content) => frame::write(&mut writer, &content, wire::MAX_FRAME).await,
            Err(error) => Err(FrameError::Io(error.into())),
        };
        match sent {
            Ok(()) => {}
            // Nothing of it was sent.
            Err(FrameError::Large { .. }) => calls.refuse(number, too_large()),
            Err(_) => return Lost::Ended,
        }
    }
    // The worker takes the end of the stream as the end of its work.
    if writer.shutdown().await.is_ok() {
        sleep(GRACE).await;
    }
    Lost::Stopped
}

/// Hands the replies to those who wait for them, up to the end of the worker.
async fn receive(mut reader: ReadHalf<'_>, calls: &Calls) -> Lost {
    loop {
        let content = match frame::read(&mut reader, wire::MAX_FRAME).await {
            Ok(Some(content)) => content,
            Ok(None) | Err(FrameError::Io(_) | FrameError::Truncated) => return Lost::Ended,
            Err(_) => return Lost::Garbled,
        };
        // What is wrong with it is not told: its content may be secret.
        let Ok(Reply { number, result }) = serde_json::from_slice(&content) else {
            return Lost::Garbled;
        };
        let lost = match &result {
            Err(fault) if fault.kind == FaultKind::Broken => {
                Some(Lost::Broken { cause: fault.cause.clone(), failure: fault.failure.clone() })
            }
            _ => None,
        };
        if !calls.finish(number, result) {
            return Lost::Garbled;
        }
        if let Some(lost) = lost {
            return lost;
        }
    }
}

fn too_large() -> Failure {
    Failure::new(Code::TooLarge, "the request is too large for the HSM's worker")
}

/// How long a worker may take to end in order, and the system to end it otherwise.
const GRACE: Duration = Duration::from_secs(1);
