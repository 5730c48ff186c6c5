//! The secrets that were fetched, each fetched by one request at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use protocol::answer::Failure;
use protocol::request::SecretName;

use super::fault::Fault;
use crate::pin::Secret;

/// The secrets by their names.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<HashMap<SecretName, Arc<Slot>>>);

/// Whoever holds the lock fetches; the others wait for what comes of it.
type Slot = tokio::sync::Mutex<Last>;

/// What is known of one secret.
#[derive(Debug, Default)]
struct Last {
    /// It, and since when.
    secret: Option<(Instant, Arc<Secret>)>,
    /// Why it could not be fetched since then, and when. It holds for whoever was waiting.
    failure: Option<(Instant, Failure)>,
}

impl Cache {
    /// The secret as it is known, or else as `fetch` brings it.
    ///
    /// A version that was `refused` will not do, unless it has been fetched again meanwhile.
    pub(super) async fn secret(
        &self,
        name: &SecretName,
        refused: Option<&str>,
        fetch: impl Future<Output = Result<Secret, Fault>> + Send,
    ) -> Result<Arc<Secret>, Failure> {
        let asked = Instant::now();
        let slot = self.slot(name);
        let mut last = slot.lock().await;
        if let Some((since, secret)) = &last.secret
            && (refused != Some(secret.version.as_str()) || *since >= asked)
        {
            return Ok(Arc::clone(secret));
        }
        if let Some((at, failure)) = &last.failure
            && *at >= asked
        {
            return Err(failure.clone());
        }
        match fetch.await {
            Ok(secret) => {
                let secret = Arc::new(secret);
                last.secret = Some((Instant::now(), Arc::clone(&secret)));
                Ok(secret)
            }
            Err(Fault::Request(failure)) => Err(failure),
            Err(Fault::Service(failure)) => {
                last.failure = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    fn slot(&self, name: &SecretName) -> Arc<Slot> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(name) {
            return Arc::clone(slot);
        }
        if slots.len() >= MAX_SECRETS {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(name.clone()).or_default())
    }
}

/// An HSM has one crypto user for this application, so there is one secret, or a few while an
/// operator is changing it. Requests may name others without end: when there are so many, those
/// that nobody is waiting for are forgotten.
const MAX_SECRETS: usize = 16;

#[cfg(test)]
mod tests;
