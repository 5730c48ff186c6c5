//! One request: what is done for it, and what it is answered.

use std::time::{Duration, Instant, SystemTime};

use protocol::action::{Action, Describe, KeySpec, Outcome};
use protocol::answer::{Answer, Body, Code, Failure};
use protocol::frame::{self, FrameError};
use protocol::key::KeyKind;
use protocol::label::KeyLabel;
use protocol::message::{Form, Message, Rejected};
use protocol::request::Request;
use protocol::seed::{self, Reply as SeedReply, Wish, echo_text};
use tokio::time::timeout;
use tunnel::listener::Peer;
use zeroize::Zeroizing;

use crate::description;
use crate::hsm::{Hsm, HsmConfig};
use crate::journal::Journal;
use crate::nsm::Nsm;
use crate::secret::{Ask, Asking, SecretConfig, Secrets};

/// What answers requests, whichever connection they come from.
#[derive(Debug)]
pub struct Service {
    hsm: Hsm,
    secrets: Secrets,
    nsm: Nsm,
    started: Instant,
    /// How long a request may take.
    patience: Duration,
    journal: Journal,
}

impl Service {
    /// A service that has done nothing yet. Needs a runtime.
    #[must_use]
    pub fn new(hsm: HsmConfig, secret: SecretConfig, patience: Duration) -> Self {
        Self {
            hsm: Hsm::new(hsm),
            secrets: Secrets::new(secret),
            nsm: Nsm::default(),
            started: Instant::now(),
            patience,
            journal: Journal::default(),
        }
    }

    /// What is logged of requests and connections.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Does what the content of a frame asks for.
    pub(crate) async fn answer(&self, client: Peer, content: Zeroizing<Vec<u8>>) -> Reply {
        let arrival = Arrival::now();
        let message = Message::parse(&content);
        // It has credentials in it, and the action may take a while.
        drop(content);
        match message {
            Ok(Message::Own(request)) => self.answer_own(client, request, arrival).await,
            Ok(Message::Seed(request)) => self.answer_seed(client, request, arrival).await,
            Err(rejected) => self.reject(client, rejected, arrival),
        }
    }

    /// Answers what is not even a frame.
    pub(crate) fn refuse(&self, client: Peer, failure: Failure) -> Reply {
        self.journal.refused(client, &failure);
        Reply::own(&Answer { id: None, body: Body::Failed { error: failure }, duration_ms: 0 })
    }

    /// Ends what the HSM's module does.
    pub(crate) async fn shutdown(&self) {
        self.hsm.shutdown().await;
    }

    async fn answer_own(&self, client: Peer, request: Request, arrival: Arrival) -> Reply {
        let Request { id, action, credentials, secret } = request;
        let (name, label) = (action.name(), label(&action).cloned());
        let result = self.perform(action, Ask { credentials, name: secret }).await;
        let failure = result.as_ref().err();
        self.journal.answered(client, name, label.as_ref(), failure, arrival.elapsed());
        let body = result.map_or_else(|error| Body::Failed { error }, Body::Done);
        Reply::own(&Answer { id: Some(id), body, duration_ms: arrival.elapsed_ms() })
    }

    async fn answer_seed(&self, client: Peer, request: seed::Request, arrival: Arrival) -> Reply {
        let action = request.action;
        let (label, result) = match request.wish {
            Wish::CreateKey { label, credentials } => {
                let ask = Ask { credentials: Some(credentials), name: None };
                let created = self.perform(create_aes(label.clone()), ask).await;
                (Some(label), created.map(|_| Said::Reply(SeedReply::Created)))
            }
            Wish::Echo(message) => {
                (None, self.nsm_module().await.map(|module| Said::Text(echo_text(&module, &message))))
            }
            Wish::Hear(reply) => (None, Ok(Said::Reply(reply))),
        };
        let failure = result.as_ref().err();
        self.journal.answered(client, &action, label.as_ref(), failure, arrival.elapsed());
        let duration_ms = arrival.elapsed_ms();
        let answer = match result {
            Ok(Said::Reply(reply)) => seed::Answer::reply(&action, reply, duration_ms),
            Ok(Said::Text(text)) => seed::Answer::say(&action, text, duration_ms),
            Err(failure) => seed::Answer::failed(Some(action), &failure, duration_ms),
        };
        Reply::seed(&answer, arrival)
    }

    fn reject(&self, client: Peer, rejected: Rejected, arrival: Arrival) -> Reply {
        let Rejected { id, form, failure } = rejected;
        self.journal.refused(client, &failure);
        let duration_ms = arrival.elapsed_ms();
        match form {
            Form::Own => {
                Reply::own(&Answer { id, body: Body::Failed { error: failure }, duration_ms })
            }
            Form::Seed { action } => {
                Reply::seed(&seed::Answer::failed(action, &failure, duration_ms), arrival)
            }
        }
    }

    async fn perform(&self, action: Action, ask: Ask) -> Result<Outcome, Failure> {
        let pins = Asking { ask: &ask, secrets: &self.secrets };
        let performing = async {
            match action {
                Action::Describe(wish) => self.describe(&wish).await,
                Action::Echo(echo) => Ok(Outcome::Echo(echo)),
                action => self.hsm.execute(action, &pins).await,
            }
        };
        self.in_time(performing).await
    }

    async fn describe(&self, wish: &Describe) -> Result<Outcome, Failure> {
        let nsm = self.nsm.describe(wish).await?;
        let (hsm, secret) = (self.hsm.describe(), self.secrets.known());
        let description = description::description(self.started.elapsed(), hsm, secret, nsm);
        Ok(Outcome::Describe(Box::new(description)))
    }

    async fn nsm_module(&self) -> Result<String, Failure> {
        let wish = Describe { attestation: false, nonce: None };
        let description = self.in_time(self.nsm.describe(&wish)).await?;
        Ok(description.map_or_else(|| NO_MODULE.into(), |nsm| nsm.module))
    }

    async fn in_time<T>(
        &self,
        doing: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        timeout(self.patience, doing).await.unwrap_or_else(|_| {
            Err(Failure::new(
                Code::TimedOut,
                format!(
                    "the request took longer than `{:?}`; whether it was done is not known",
                    self.patience
                ),
            ))
        })
    }
}
