//! Which secret the HSM is logged in to with.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::answer::{Code, Failure};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::latch::{Advice, Latch};
use crate::pin::{PinSource, Secret};

/// The secrets that are known here: requests offer them, the supervisor logs in with them.
#[derive(Debug, Default)]
pub(super) struct Logins {
    state: Mutex<State>,
    offered: Notify,
}

#[derive(Debug, Default)]
struct State {
    latch: Latch,
    /// What the last login has succeeded with.
    good: Option<Arc<Secret>>,
    /// What a request has brought since.
    offer: Option<Arc<Secret>>,
}

impl Logins {
    /// Whether the supervisor can log in without any request's help.
    pub(super) fn is_known(&self) -> bool {
        self.state().good.is_some()
    }

    /// Asks a request's source for a secret that may be tried.
    ///
    /// # Errors
    ///
    /// What the source says, or [`Code::LoginRefused`].
    pub(super) async fn ask(&self, pins: &impl PinSource) -> Result<Arc<Secret>, Failure> {
        let secret = pins.current().await?;
        // Its own statement, since the lock must not be held while the source is asked.
        let advice = self.state().latch.advise(&secret, Instant::now());
        let secret = match advice {
            Advice::AskAgain => pins.after(&secret).await?,
            Advice::GiveUp | Advice::Use => secret,
        };
        let state = self.state();
        if state.latch.permits(&secret) { Ok(secret) } else { Err(state.refusal(&secret)) }
    }

    /// Gives the supervisor a secret to try.
    pub(super) fn offer(&self, secret: Arc<Secret>) {
        self.state().offer = Some(secret);
        self.offered.notify_one();
    }

    /// Waits for a secret to log in with.
    pub(super) async fn next(&self) -> Arc<Secret> {
        loop {
            if let Some(secret) = self.state().next() {
                return secret;
            }
            self.offered.notified().await;
        }
    }

    /// A login has succeeded.
    pub(super) fn accepted(&self, secret: &Arc<Secret>) {
        let mut state = self.state();
        state.good = Some(Arc::clone(secret));
        state.offer = None;
    }

    /// A start has failed, and not because of the secret. Requests that still want one offer theirs
    /// again, so that nobody logs in with a secret that is not known to be right without a request.
    pub(super) fn not_tried(&self) {
        self.state().offer = None;
    }

    /// The HSM refuses the password, or has locked its user. Returns what to say.
    pub(super) fn refused(&self, secret: &Secret, user_locked: bool) -> Failure {
        let mut state = self.state();
        if user_locked {
            state.latch.locked(secret, Instant::now());
        } else {
            state.latch.refused(secret, Instant::now());
        }
        // Whatever it was good for once, it is no more.
        state.good = None;
        let failure = state.refusal(secret);
        if !state.latch.permits(secret) {
            tracing::error!(
                secret = secret.id,
                version = secret.version,
                "no more logins until the secret changes"
            );
        }
        failure
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self) -> Option<Arc<Secret>> {
        let secret = self.good.clone().or_else(|| self.offer.take())?;
        self.latch.permits(&secret).then_some(secret)
    }

    fn refusal(&self, secret: &Secret) -> Failure {
        let Secret { id, version, .. } = secret;
        let what = if self.latch.is_locked(secret) {
            format!("the HSM has locked the user of version `{version}` of the secret `{id}`")
        } else {
            format!("the HSM refuses the password in version `{version}` of the secret `{id}`")
        };
        let message = if self.latch.permits(secret) {
            what
        } else {
            format!("{what}; no login is tried until the secret changes")
        };
        Failure::new(Code::LoginRefused, message)
    }
}
