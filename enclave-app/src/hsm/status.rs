//! How the HSM is, for requests that wait for it.

use std::sync::Arc;

use protocol::action::{HsmDescription, Token};
use protocol::answer::Failure;
use tokio::sync::watch;

use super::calls::Line;

/// What the supervisor says of the worker.
#[derive(Clone, Debug, Default)]
pub(super) struct Status {
    pub(super) phase: Phase,
    /// How many starts have come to an end.
    pub(super) starts: u64,
    /// Why the worker does not run, or why the last start has failed.
    pub(super) trouble: Option<Trouble>,
}

#[derive(Clone, Debug, Default)]
pub(super) enum Phase {
    /// Nothing will change any more.
    Closed,
    /// No worker is ready.
    #[default]
    Down,
    /// It is logged in, and takes calls.
    Ready(Arc<Ready>),
    /// It is being started.
    Starting,
}

/// A worker that is logged in.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) line: Line,
    pub(super) token: Token,
}

/// Why there is no worker.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// Something that another secret does not help against.
    Failed(Failure),
    /// The password.
    Refused(Failure),
}

impl Trouble {
    pub(super) fn failure(&self) -> &Failure {
        match self {
            Self::Failed(failure) | Self::Refused(failure) => failure,
        }
    }
}

impl Status {
    pub(super) fn describe(&self) -> HsmDescription {
        let reason = match (&self.phase, &self.trouble) {
            (Phase::Ready(ready), _) => return HsmDescription::Ready(ready.token.clone()),
            (Phase::Closed, _) => "the application is stopping".to_owned(),
            (Phase::Down | Phase::Starting, Some(trouble)) => trouble.failure().message.clone(),
            (Phase::Starting, None) => "it is being opened".to_owned(),
            (Phase::Down, None) => return HsmDescription::Idle,
        };
        HsmDescription::Unavailable { reason }
    }
}

/// The supervisor's side.
#[derive(Debug)]
pub(super) struct Board(watch::Sender<Status>);

impl Board {
    pub(super) fn new() -> (Self, watch::Receiver<Status>) {
        let (sender, receiver) = watch::channel(Status::default());
        (Self(sender), receiver)
    }

    pub(super) fn starting(&self) {
        self.0.send_modify(|status| status.phase = Phase::Starting);
    }

    pub(super) fn ready(&self, line: Line, token: Token) {
        self.0.send_modify(|status| {
            status.phase = Phase::Ready(Arc::new(Ready { line, token }));
            status.starts += 1;
            status.trouble = None;
        });
    }

    pub(super) fn lost(&self, failure: Failure) {
        self.0.send_modify(|status| {
            status.phase = Phase::Down;
            status.trouble = Some(Trouble::Failed(failure));
        });
    }

    pub(super) fn failed(&self, trouble: Trouble) {
        self.0.send_modify(|status| {
            status.phase = Phase::Down;
            status.starts += 1;
            status.trouble = Some(trouble);
        });
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.0.send_modify(|status| status.phase = Phase::Closed);
    }
}
