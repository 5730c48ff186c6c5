//! One request: what is done for it, and what it is answered.

use std::time::{Duration, Instant, SystemTime};

use protocol::action::{Action, Describe, Description, KeySpec, NsmDescription, Outcome};
use protocol::answer::{Answer, Body, Code, Failure};
use protocol::frame;
use protocol::key::KeyKind;
use protocol::label::KeyLabel;
use protocol::message::{Form, Message, Rejected};
use protocol::request::Request;
use protocol::seed::{self, Wish, echo_text};
use tokio::time::timeout;
use tunnel::listener::Peer;
use zeroize::Zeroizing;

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
    request_timeout: Duration,
    journal: Journal,
}

impl Service {
    /// A service that has done nothing yet. Needs a runtime.
    #[must_use]
    pub fn new(hsm: HsmConfig, secret: SecretConfig) -> Self {
        Self {
            request_timeout: hsm.request_timeout,
            hsm: Hsm::new(hsm),
            secrets: Secrets::new(secret),
            nsm: Nsm::default(),
            started: Instant::now(),
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
                let ask = Ask { credentials, name: None };
                let created = self.perform(create_aes(label.clone()), ask).await;
                (Some(label), created.map(|_| Said::Reply(seed::Reply::Created)))
            }
            Wish::Echo(message) => (
                None,
                self.nsm_module().await.map(|module| Said::Text(echo_text(&module, &message))),
            ),
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

    /// Does it, within the time that a request may take.
    async fn perform(&self, action: Action, ask: Ask) -> Result<Outcome, Failure> {
        match action {
            Action::Describe(wish) => self.describe(&wish).await,
            Action::Echo(echo) => Ok(Outcome::Echo(echo)),
            action => {
                let pins = Asking { ask: &ask, secrets: &self.secrets };
                self.hsm.execute(action, &pins).await
            }
        }
    }

    async fn describe(&self, wish: &Describe) -> Result<Outcome, Failure> {
        let nsm = self.nsm(wish).await?;
        Ok(Outcome::Describe(Box::new(Description {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: self.started.elapsed().as_secs(),
            hsm: self.hsm.describe(),
            secret: self.secrets.known(),
            nsm,
        })))
    }

    async fn nsm(&self, wish: &Describe) -> Result<Option<NsmDescription>, Failure> {
        let asking = timeout(self.request_timeout, self.nsm.describe(wish));
        asking.await.unwrap_or_else(|_| {
            Err(Failure::new(Code::TimedOut, "the Nitro Security Module does not answer"))
        })
    }

    async fn nsm_module(&self) -> Result<String, Failure> {
        let description = self.nsm(&Describe { attestation: false, nonce: None }).await?;
        Ok(description.map_or_else(|| NO_MODULE.into(), |nsm| nsm.module))
    }
}

/// The content of an answer, in its frame.
#[derive(Debug)]
pub(crate) struct Reply {
    /// What to send.
    pub(crate) frame: Zeroizing<Vec<u8>>,
    /// Whether nothing may follow on this connection.
    pub(crate) is_last: bool,
}

impl Reply {
    fn own(answer: &Answer) -> Self {
        Self::new(&answer.encode(), false)
    }

    /// The seed's clients ask once, and wait for the end.
    fn seed(answer: &seed::Answer, arrival: Arrival) -> Self {
        Self::new(&answer.encode(arrival.date), true)
    }

    fn new(content: &[u8], is_last: bool) -> Self {
        match frame::encode(content, frame::MAX_BYTES) {
            Ok(frame) => Self { frame, is_last },
            // Whoever wrote the content has seen to its size; without one, the end says it all.
            Err(_) => Self { frame: Zeroizing::default(), is_last: true },
        }
    }
}

/// When a request was complete.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    date: SystemTime,
    since: Instant,
}

impl Arrival {
    fn now() -> Self {
        Self { date: SystemTime::now(), since: Instant::now() }
    }

    fn elapsed(self) -> Duration {
        self.since.elapsed()
    }

    fn elapsed_ms(self) -> u64 {
        self.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
    }
}

/// What the seed's client is told.
enum Said {
    Reply(seed::Reply),
    Text(String),
}

/// What the seed's enclaves make, of which only the label is for its client to choose.
fn create_aes(label: KeyLabel) -> Action {
    Action::CreateKey(KeySpec { label, kind: KeyKind::Aes256, usage: None })
}

/// The key that an action is about.
fn label(action: &Action) -> Option<&KeyLabel> {
    match action {
        Action::CreateKey(spec) => Some(&spec.label),
        Action::Decrypt(decrypt) => Some(&decrypt.label),
        Action::DeleteKey(key) | Action::GetKey(key) => Some(&key.label),
        Action::Describe(_) | Action::Echo(_) | Action::ListKeys(_) | Action::Random(_) => None,
        Action::Encrypt(encrypt) => Some(&encrypt.label),
        Action::Sign(sign) => Some(&sign.label),
        Action::Verify(verify) => Some(&verify.label),
    }
}

/// What stands for the NSM's module where there is none; the original fails there.
const NO_MODULE: &str = "unknown";
