//! What a worker has been asked and has not answered yet.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::answer::{Code, Failure};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::labels::LabelGuard;
use crate::wire::{Effect, Fault, Order};

/// The way to a worker, for those who call it.
#[derive(Clone, Debug)]
pub(super) struct Line {
    queue: mpsc::UnboundedSender<Request>,
    slots: Arc<Semaphore>,
}

impl Line {
    pub(super) fn new(queue: mpsc::UnboundedSender<Request>, slots: Arc<Semaphore>) -> Self {
        Self { queue, slots }
    }

    /// Waits until the worker has a session for one more call. First come, first served.
    pub(super) async fn slot(&self) -> Result<Slot, CallError> {
        match Arc::clone(&self.slots).acquire_owned().await {
            Ok(permit) => Ok(Slot(permit)),
            Err(_) => Err(CallError::NotSent),
        }
    }

    /// Calls the worker.
    ///
    /// The slot and the label stay taken until it has replied or is dead, also if nobody waits for
    /// the reply any more: it may be at work all the same.
    pub(super) async fn call(
        &self,
        slot: Slot,
        label: Option<Arc<LabelGuard>>,
        order: Order,
    ) -> Result<Effect, CallError> {
        let (reply, replied) = oneshot::channel();
        let ticket = Ticket { reply, _slot: slot, _label: label };
        if self.queue.send(Request { order, ticket }).is_err() {
            return Err(CallError::NotSent);
        }
        replied.await.unwrap_or(Err(CallError::NotSent))
    }
}

/// The right to one call.
#[derive(Debug)]
pub(super) struct Slot(
    #[expect(dead_code, reason = "it is given back when dropped")] OwnedSemaphorePermit,
);

/// A call on its way to the worker.
#[derive(Debug)]
pub(super) struct Request {
    order: Order,
    ticket: Ticket,
}

impl Request {
    /// Whether nobody waits for it any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.ticket.reply.is_closed()
    }

    pub(super) fn into_parts(self) -> (Order, Ticket) {
        (self.order, self.ticket)
    }
}

/// Who waits for a reply, and what he holds meanwhile.
#[derive(Debug)]
pub(super) struct Ticket {
    reply: oneshot::Sender<Result<Effect, CallError>>,
    _slot: Slot,
    _label: Option<Arc<LabelGuard>>,
}

impl Ticket {
    fn answer(self, result: Result<Effect, CallError>) {
        // Whoever asked may be gone.
        let _ = self.reply.send(result);
    }
}

/// Why a call did not succeed.
#[derive(Debug)]
pub(super) enum CallError {
    /// The worker says so.
    Fault(Fault),
    /// The worker was lost. What became of the call is not known.
    Lost(Lost),
    /// The worker was lost before it heard of it.
    NotSent,
}

/// Why a worker is of no more use.
#[derive(Clone, Debug)]
pub(super) enum Lost {
    /// It says itself that its module or its link is broken.
    Broken {
        /// For the log.
        cause: String,
        /// For whoever asked.
        failure: Failure,
    },
    /// It has ended.
    Ended,
    /// It said something that cannot be understood.
    Garbled,
    /// It has not replied in time.
    Hung,
    /// It was told to end.
    Stopped,
}

impl Lost {
    /// What whoever waits for a reply is told.
    pub(super) fn failure(&self) -> Failure {
        let what = match self {
            Self::Broken { failure, .. } => return failure.clone(),
            Self::Ended => "the HSM's module has ended before it answered",
            Self::Garbled => "the HSM's module has failed before it answered",
            Self::Hung => "the HSM has not answered in time",
            Self::Stopped => "the application is stopping",
        };
        let message = format!("{what}; whether the action was done is not known");
        Failure::new(Code::HsmUnavailable, message)
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken { cause, .. } => f.write_str(cause),
            Self::Ended => f.write_str("it has ended"),
            Self::Garbled => f.write_str("it said something that is no reply"),
            Self::Hung => f.write_str("it has not replied in time"),
            Self::Stopped => f.write_str("it was told to end"),
        }
    }
}

/// The calls that the worker has heard of, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Calls {
    open: Mutex<BTreeMap<u64, (Instant, Ticket)>>,
    added: Notify,
}

impl Calls {
    /// One more, with a higher number and no earlier deadline than those before.
    pub(super) fn add(&self, number: u64, deadline: Instant, ticket: Ticket) {
        self.open().insert(number, (deadline, ticket));
        self.added.notify_one();
    }

    /// The worker has replied. Returns whether there was such a call.
    pub(super) fn finish(&self, number: u64, result: Result<Effect, Fault>) -> bool {
        let Some((_, ticket)) = self.open().remove(&number) else { return false };
        ticket.answer(result.map_err(CallError::Fault));
        true
    }

    /// This one was not sent, and cannot be.
    pub(super) fn refuse(&self, number: u64, failure: Failure) {
        let cause = failure.message.clone();
        self.finish(number, Err(Fault { kind: crate::wire::FaultKind::Call, failure, cause }));
    }

    /// Waits until one has waited too long.
    pub(super) async fn overdue(&self) {
        loop {
            let first = self.open().first_key_value().map(|(_, (deadline, _))| *deadline);
            match first {
                None => self.added.notified().await,
                Some(deadline) if deadline <= Instant::now() => return,
                Some(deadline) => sleep_until(deadline).await,
            }
        }
    }

    /// Tells all that the worker was lost. Returns how many they are.
    pub(super) fn fail(&self, lost: &Lost) -> usize {
        let calls = std::mem::take(&mut *self.open());
        let count = calls.len();
        for (_, ticket) in calls.into_values() {
            ticket.answer(Err(CallError::Lost(lost.clone())));
        }
        count
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, (Instant, Ticket)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
