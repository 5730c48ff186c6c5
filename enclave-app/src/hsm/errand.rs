//! What one request wants of the HSM, and what is done for it when a worker is lost meanwhile.

use std::sync::Arc;

use protocol::action::{Action, ByLabel, Created, Deleted, KeySpec, Outcome};
use protocol::answer::{Code, Failure};
use protocol::key::Key;
use protocol::label::KeyLabel;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::calls::{CallError, Lost};
use super::labels::{LabelGuard, Labels};
use super::logins::Logins;
use super::status::{Phase, Ready, Status, Trouble};
use crate::pin::PinSource;
use crate::wire::{Effect, FaultKind, Order};

/// A request on its way. It may be dropped at any time.
#[derive(Debug)]
pub(super) struct Errand<'a, P> {
    pub(super) labels: &'a Labels,
    pub(super) logins: &'a Logins,
    pub(super) status: watch::Receiver<Status>,
    pub(super) pins: &'a P,
    /// When it must have an answer.
    pub(super) deadline: Instant,
}

impl<P: PinSource> Errand<'_, P> {
    pub(super) async fn run(mut self, action: Action) -> Result<Outcome, Failure> {
        match action {
            Action::CreateKey(spec) => self.create(spec).await,
            Action::DeleteKey(key) => self.delete(key).await,
            action => self.ask(action).await,
        }
    }

    /// Sends a generate once at most: when a worker is lost in the midst of one, the key may still
    /// come into being, and a second would be another key with the same label.
    async fn create(&mut self, spec: KeySpec) -> Result<Outcome, Failure> {
        let label = self.lock(&spec.label).await?;
        let failure = match self.send(Action::CreateKey(spec.clone()), Some(&label)).await {
            Err(SendError::Lost { failure, .. }) => failure,
            result => return result.map_err(SendError::into_failure),
        };
        match self.ask(Action::GetKey(ByLabel { label: spec.label.clone() })).await {
            Ok(Outcome::GetKey(key)) if is_as_wanted(&key, &spec) => {
                Ok(Outcome::CreateKey(Created { created: true, key }))
            }
            _ => Err(failure),
        }
    }

    async fn delete(&mut self, key: ByLabel) -> Result<Outcome, Failure> {
        let label = self.lock(&key.label).await?;
        let failure = match self.send(Action::DeleteKey(key.clone()), Some(&label)).await {
            Err(SendError::Lost { failure, .. }) => failure,
            result => return result.map_err(SendError::into_failure),
        };
        match self.ask(Action::GetKey(key.clone())).await {
            Err(Failure { code: Code::NotFound, .. }) => {
                Ok(Outcome::DeleteKey(Deleted { label: key.label }))
            }
            _ => Err(failure),
        }
    }

    /// Does something that leaves no trace. It may be done again, so a link that was cut is not
    /// noticed where it is soon back.
    async fn ask(&mut self, action: Action) -> Result<Outcome, Failure> {
        match self.send(action.clone(), None).await {
            Err(SendError::Lost { hung: false, .. }) => self.send(action, None).await,
            result => result,
        }
        .map_err(SendError::into_failure)
    }

    /// Sends an action to the worker, once.
    async fn send(
        &mut self,
        action: Action,
        label: Option<&Arc<LabelGuard>>,
    ) -> Result<Outcome, SendError> {
        loop {
            let ready = self.ready().await?;
            let Ok(slot) = timeout_at(self.deadline, ready.line.slot()).await else {
                let message = "all sessions of the HSM are in use; nothing was done";
                return Err(Failure::new(Code::Busy, message).into());
            };
            // This worker was lost; there will be another.
            let Ok(slot) = slot else { continue };
            let call = ready.line.call(slot, label.cloned(), Order::Act(action.clone()));
            return match timeout_at(self.deadline, call).await {
                Ok(Ok(Effect::Done(outcome))) => Ok(outcome),
                Ok(Ok(Effect::LoggedIn | Effect::Opened(_))) => {
                    Err(Failure::new(Code::Internal, "the worker has answered something else")
                        .into())
                }
                Ok(Err(CallError::NotSent)) => continue,
                Ok(Err(CallError::Fault(fault))) if fault.kind == FaultKind::Broken => {
                    Err(SendError::Lost { failure: fault.failure, hung: false })
                }
                Ok(Err(CallError::Fault(fault))) => Err(fault.failure.into()),
                Ok(Err(CallError::Lost(lost))) => Err(SendError::Lost {
                    failure: lost.failure(),
                    hung: matches!(lost, Lost::Hung | Lost::Stopped),
                }),
                Err(_) => {
                    let message = "the HSM has not answered in time; \
                                   whether the action was done is not known";
                    Err(Failure::new(Code::TimedOut, message).into())
                }
            };
        }
    }

    /// Waits for a worker that is logged in, but not for more than one start to fail; a start with
    /// another password does not count.
    async fn ready(&mut self) -> Result<Arc<Ready>, Failure> {
        let mut refusal = None;
        for _ in 0..MAX_LOGINS {
            let mut starts = self.status.borrow_and_update().starts;
            if let Some(decided) = decided(&self.status.borrow()) {
                return decided;
            }
            if !self.logins.is_known() {
                let Ok(secret) = timeout_at(self.deadline, self.logins.ask(self.pins)).await else {
                    let message = "the HSM's password has not come in time";
                    return Err(Failure::new(Code::SecretUnavailable, message));
                };
                let secret = secret?;
                // What others have come to meanwhile does not count: it was not with this secret.
                starts = self.status.borrow_and_update().starts;
                self.logins.offer(secret);
            }
            let news =
                self.status.wait_for(|status| status.starts > starts || decided(status).is_some());
            let status = match timeout_at(self.deadline, news).await {
                Ok(Ok(status)) => status,
                Ok(Err(_)) => return Err(stopping()),
                Err(_) => {
                    let message = "the HSM could not be opened in time";
                    return Err(Failure::new(Code::HsmUnavailable, message));
                }
            };
            if let Some(decided) = decided(&status) {
                return decided;
            }
            match &status.trouble {
                Some(Trouble::Refused(failure)) => refusal = Some(failure.clone()),
                Some(Trouble::Failed(failure)) => return Err(failure.clone()),
                None => {}
            }
        }
        let unknown = || Failure::new(Code::HsmUnavailable, "the HSM could not be opened");
        Err(refusal.unwrap_or_else(unknown))
    }

    async fn lock(&self, label: &KeyLabel) -> Result<Arc<LabelGuard>, Failure> {
        match timeout_at(self.deadline, self.labels.lock(label)).await {
            Ok(guard) => Ok(Arc::new(guard)),
            Err(_) => {
                let message = format!(
                    "another request is making or deleting the key `{label}`; nothing was done"
                );
                Err(Failure::new(Code::Busy, message))
            }
        }
    }
}

/// What there is to say without waiting.
fn decided(status: &Status) -> Option<Result<Arc<Ready>, Failure>> {
    match &status.phase {
        Phase::Closed => Some(Err(stopping())),
        Phase::Down | Phase::Starting => None,
        Phase::Ready(ready) => Some(Ok(Arc::clone(ready))),
    }
}

fn stopping() -> Failure {
    Failure::new(Code::HsmUnavailable, "the application is stopping")
}

/// Why an action has no outcome.
enum SendError {
    /// This is final.
    Failed(Failure),
    /// The worker was lost meanwhile.
    Lost {
        failure: Failure,
        /// Whether it took all the time that there was.
        hung: bool,
    },
}

impl SendError {
    fn into_failure(self) -> Failure {
        match self {
            Self::Failed(failure) | Self::Lost { failure, .. } => failure,
        }
    }
}

impl From<Failure> for SendError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

fn is_as_wanted(key: &Key, spec: &KeySpec) -> bool {
    key.kind == Some(spec.kind)
        && key.usage == spec.usage.unwrap_or_else(|| spec.kind.default_usage())
        && !key.extractable
        && key.sensitive
}

/// How many logins a request waits for at most. The HSM locks a user after five refused ones,
/// however often the secret changes meanwhile.
const MAX_LOGINS: usize = 3;
