//! The secret that opens the HSM: where it is, with which credentials it is fetched, and what of it
//! is known.
//!
//! Secrets Manager is asked over TLS, and sees no credential before its certificate is verified
//! against [`Roots`]. What it gives is kept until the HSM refuses it.

mod cache;
mod client;
mod content;
mod credentials;
mod fault;
mod logging;
mod name;
mod roots;

use std::sync::{Arc, Mutex, PoisonError};

use protocol::action::SecretDescription;
use protocol::answer::Failure;
use protocol::request::{Credentials, SecretName};

pub use self::credentials::CredentialSource;
pub use self::logging::{SensitiveLogging, refuse_sensitive_logging};
pub use self::name::{InvalidName, check_name};
pub use self::roots::{Roots, RootsError};

use self::cache::Cache;
use self::client::Client;
use crate::pin::{PinSource, Secret};

/// Which secret, and how it is fetched.
#[derive(Clone, Debug)]
pub struct SecretConfig {
    /// The secret; nothing if each request names it. [`check_name`] says whether it can be one.
    pub name: Option<SecretName>,
    /// Where the AWS credentials come from.
    pub credentials: CredentialSource,
    /// Who vouches for Secrets Manager.
    pub roots: Roots,
}

/// What one request brought to fetch the secret with.
#[derive(Debug, Default)]
pub struct Ask {
    /// Used only if the configuration wants them from requests, and the secret is not known yet.
    pub credentials: Option<Credentials>,
    /// The secret, where the configuration names none.
    pub name: Option<SecretName>,
}

/// The secrets that are known, and the way to the others.
#[derive(Debug)]
pub struct Secrets {
    name: Option<SecretName>,
    client: Client,
    cache: Cache,
    /// For [`Self::known`], which must not wait for a fetch.
    latest: Mutex<Option<SecretDescription>>,
}

impl Secrets {
    /// Knows none yet.
    #[must_use]
    pub fn new(config: SecretConfig) -> Self {
        Self {
            name: config.name,
            client: Client::new(config.credentials, &config.roots),
            cache: Cache::default(),
            latest: Mutex::default(),
        }
    }

    /// Asks this endpoint, an `https://` URL, whatever the environment says.
    #[must_use]
    pub fn with_endpoint(mut self, url: impl Into<String>) -> Self {
        self.client.set_endpoint(url.into());
        self
    }

    /// The secret as it is known, or else fetched.
    ///
    /// Who finds it known needs no credentials. Requests that arrive while it is being fetched
    /// wait for the same answer; but if the credentials of one request are refused, the next
    /// tries its own.
    ///
    /// # Errors
    ///
    /// - [`CredentialsMissing`](protocol::answer::Code::CredentialsMissing): the request has none.
    /// - [`InvalidRequest`](protocol::answer::Code::InvalidRequest): it names no secret, or one
    ///   that is not the configured one.
    /// - [`SecretUnavailable`](protocol::answer::Code::SecretUnavailable): any other reason. It
    ///   comes at most 8 s after the request has had its turn.
    pub async fn current(&self, ask: &Ask) -> Result<Arc<Secret>, Failure> {
        self.secret(ask, None).await
    }

    /// The secret as it is now, because the HSM has refused this version of it.
    ///
    /// # Errors
    ///
    /// As those of [`Self::current`]. What was known remains so.
    pub async fn after(&self, ask: &Ask, refused: &Secret) -> Result<Arc<Secret>, Failure> {
        self.secret(ask, Some(&refused.version)).await
    }

    /// The secret that was fetched last, if any was.
    #[must_use]
    pub fn known(&self) -> Option<SecretDescription> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn secret(&self, ask: &Ask, refused: Option<&str>) -> Result<Arc<Secret>, Failure> {
        let name = name::choose(self.name.as_ref(), ask.name.as_ref())?;
        let fetch = async {
            let secret = self.client.fetch(name, ask.credentials.as_ref()).await?;
            *self.latest.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(SecretDescription { id: secret.id.clone(), version: secret.version.clone() });
            Ok(secret)
        };
        self.cache.secret(name, refused, fetch).await
    }
}

/// What one request asks of the secrets.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// What the request brought.
    pub ask: &'a Ask,
    /// The secrets.
    pub secrets: &'a Secrets,
}

impl PinSource for Asking<'_> {
    async fn current(&self) -> Result<Arc<Secret>, Failure> {
        self.secrets.current(self.ask).await
    }

    async fn after(&self, refused: &Secret) -> Result<Arc<Secret>, Failure> {
        self.secrets.after(self.ask, refused).await
    }
}
