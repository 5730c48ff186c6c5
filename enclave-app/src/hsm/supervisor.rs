//! Starts the worker, logs in, and replaces it when it is lost.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use protocol::action::Token;
use protocol::answer::{Code, Failure};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tunnel::chain::Chain;

use super::HsmConfig;
use super::backoff::{Backoff, Patience};
use super::calls::{CallError, Line, Lost};
use super::logins::Logins;
use super::process::Process;
use super::status::{Board, Trouble};
use crate::pin::Secret;
use crate::wire::{Effect, Fault, FaultKind, Order};

/// The owner of the worker. There is one, so that there is one worker and one login at a time.
#[derive(Debug)]
pub(super) struct Supervisor {
    config: HsmConfig,
    logins: Arc<Logins>,
    board: Board,
    stop: watch::Receiver<bool>,
    backoff: Backoff,
    patience: Patience,
}

impl Supervisor {
    pub(super) fn new(
        config: HsmConfig,
        logins: Arc<Logins>,
        board: Board,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let patience = Patience::new(config.call_timeout);
        Self { config, logins, board, stop, backoff: Backoff::new(), patience }
    }

    /// Keeps a worker running as soon as a secret is known, until it is told to stop.
    pub(super) async fn run(mut self) {
        let mut stop = self.stop.clone();
        loop {
            let secret = tokio::select! {
                secret = self.logins.next() => secret,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let pause = self.keep_one(&secret).await;
            tokio::select! {
                () = sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// The life of one worker. Returns how long to wait before the next.
    async fn keep_one(&mut self, secret: &Arc<Secret>) -> Duration {
        self.board.starting();
        let HsmConfig { open, call_timeout, program, .. } = &self.config;
        let (line, mut process) = match Process::spawn(program, open.sessions, *call_timeout) {
            Ok(spawned) => spawned,
            Err(error) => {
                tracing::error!(error = %Chain(&error), "no worker can be started");
                let message = "the HSM's module cannot be started on this machine";
                self.logins.not_tried();
                self.board.failed(Trouble::Failed(Failure::new(Code::HsmUnavailable, message)));
                return self.backoff.next();
            }
        };
        let ready_at;
        match self.serve(line, &mut process, secret).await {
            Ok((lost, since)) => {
                ready_at = since;
                let end = process.end(&lost).await;
                if !matches!(lost, Lost::Stopped) {
                    tracing::warn!(
                        reason = %lost,
                        status = end.status.map(tracing::field::display),
                        in_flight = end.in_flight,
                        "the worker was lost"
                    );
                }
            }
            Err(error) => {
                process.end(&error.lost()).await;
                let trouble = self.trouble(&error, secret);
                self.board.failed(trouble);
                return self.backoff.next();
            }
        }
        // One that lives long is replaced at once. One that ends as soon as it is ready must not
        // keep this machine and the HSM busy with logins.
        if ready_at.elapsed() < SHORT_LIFE { self.backoff.next() } else { Duration::ZERO }
    }

    /// Opens the HSM and lets requests use it. Returns why that came to an end, and when it began.
    async fn serve(
        &mut self,
        line: Line,
        process: &mut Process,
        secret: &Arc<Secret>,
    ) -> Result<(Lost, Instant), StartError> {
        let begun = Instant::now();
        let open = self.config.open.clone();
        let mut running = pin!(process.run(self.stop.clone()));
        let token = tokio::select! {
            // A worker may end right after it has said why.
            biased;
            started = timeout(self.patience.limit(), start(&line, open, secret)) => {
                started.unwrap_or(Err(StartError::Lost(Lost::Hung)))?
            }
            lost = &mut running => return Err(StartError::Lost(lost)),
        };
        let took = begun.elapsed();
        tracing::info!(
            token = token.label,
            version = secret.version,
            seconds = took.as_secs_f64(),
            "logged in to the HSM"
        );
        self.patience.learn(took);
        self.backoff.reset();
        self.logins.accepted(secret);
        self.board.ready(line, token);
        let ready_at = Instant::now();
        let lost = running.await;
        let lost = if *self.stop.borrow() { Lost::Stopped } else { lost };
        // Before anybody's call fails: who calls again must not find this worker.
        self.board.lost(lost.failure());
        Ok((lost, ready_at))
    }

    fn trouble(&self, error: &StartError, secret: &Secret) -> Trouble {
        match error {
            StartError::Fault(fault) => match fault.kind {
                FaultKind::PinRefused | FaultKind::UserLocked => {
                    tracing::error!(
                        secret = secret.id,
                        version = secret.version,
                        cause = fault.cause,
                        "the HSM refuses the login"
                    );
                    let user_locked = fault.kind == FaultKind::UserLocked;
                    return Trouble::Refused(self.logins.refused(secret, user_locked));
                }
                FaultKind::Broken | FaultKind::Call => {
                    tracing::warn!(cause = fault.cause, "the HSM cannot be opened");
                }
            },
            StartError::Lost(lost) => tracing::warn!(cause = %lost, "the HSM cannot be opened"),
        }
        self.logins.not_tried();
        Trouble::Failed(error.failure())
    }
}

/// Why a worker did not become ready.
#[derive(Debug)]
enum StartError {
    Fault(Fault),
    Lost(Lost),
}

impl StartError {
    fn failure(&self) -> Failure {
        let what = match self {
            Self::Fault(fault) => return fault.failure.clone(),
            Self::Lost(Lost::Broken { failure, .. }) => return failure.clone(),
            Self::Lost(Lost::Ended | Lost::Garbled) => "the HSM's module fails",
            Self::Lost(Lost::Hung) => "the HSM does not answer in time",
            Self::Lost(Lost::Stopped) => "the application is stopping",
        };
        Failure::new(Code::HsmUnavailable, format!("{what} when it is opened"))
    }

    /// What to end the worker with. It has no calls but those of the start.
    fn lost(&self) -> Lost {
        match self {
            Self::Fault(_) => Lost::Ended,
            Self::Lost(lost) => lost.clone(),
        }
    }
}

/// Has the module loaded, and logs in.
async fn start(line: &Line, open: crate::wire::Open, secret: &Secret) -> Result<Token, StartError> {
    let Effect::Opened(token) = call(line, Order::Open(open)).await? else {
        return Err(StartError::Lost(Lost::Garbled));
    };
    match call(line, Order::Login(secret.pin.clone())).await? {
        Effect::LoggedIn => Ok(token),
        Effect::Done(_) | Effect::Opened(_) => Err(StartError::Lost(Lost::Garbled)),
    }
}

async fn call(line: &Line, order: Order) -> Result<Effect, StartError> {
    let called = match line.slot().await {
        Ok(slot) => line.call(slot, None, order).await,
        Err(error) => Err(error),
    };
    called.map_err(|error| match error {
        CallError::Fault(fault) => StartError::Fault(fault),
        CallError::Lost(lost) => StartError::Lost(lost),
        CallError::NotSent => StartError::Lost(Lost::Ended),
    })
}

const SHORT_LIFE: Duration = Duration::from_secs(1);
