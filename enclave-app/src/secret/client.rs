//! Asks Secrets Manager.

use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_secretsmanager::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_secretsmanager::config::{
    self, ConfigBag, Intercept, RuntimeComponents, SharedHttpClient,
};
use aws_sdk_secretsmanager::error::BoxError;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use protocol::request::{Credentials, SecretName};
use thiserror::Error;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber as _;

use super::content;
use super::credentials::{CredentialSource, Supplier};
use super::fault::Fault;
use super::roots::Roots;
use crate::pin::Secret;

/// How long a fetch takes at most, credentials included. A request is answered within 10 s, and
/// wants to say why it fails.
pub(super) const BUDGET: Duration = Duration::from_secs(8);

/// The way to Secrets Manager.
#[derive(Debug)]
pub(super) struct Client {
    http: SharedHttpClient,
    supplier: Supplier,
    endpoint: Option<String>,
    /// What the environment says, such as AWS_ENDPOINT_URL_SECRETS_MANAGER.
    environment: OnceCell<SdkConfig>,
}

impl Client {
    pub(super) fn new(credentials: CredentialSource, roots: &Roots) -> Self {
        let http = Builder::new()
            // Fetches are rare. An idle connection would hold a tunnel, and be dead when needed.
            .pool_max_idle_per_host(0)
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(roots.tls())
            .build_https();
        Self {
            supplier: Supplier::new(credentials, &http),
            http,
            endpoint: None,
            environment: OnceCell::new(),
        }
    }

    pub(super) fn set_endpoint(&mut self, url: String) {
        self.endpoint = Some(url);
    }

    /// The current version of the secret. It takes [`BUDGET`] at most.
    pub(super) async fn fetch(
        &self,
        name: &SecretName,
        brought: Option<&Credentials>,
    ) -> Result<Secret, Fault> {
        let started = Instant::now();
        // The SDK logs every error with the service's text, and that of a signature error repeats
        // the session token.
        let unlogged = self.ask(name, brought, started + BUDGET).with_subscriber(Dispatch::none());
        // Its futures are too large for a stack that others share.
        let output = Box::pin(unlogged).await?;
        let secret = content::secret(&name.id, output)
            .map_err(|error| Fault::lasting(format!("the secret `{}` {error}", name.id)))?;
        tracing::info!(
            secret = secret.id,
            version = secret.version,
            ms = started.elapsed().as_millis(),
            "fetched the secret"
        );
        Ok(secret)
    }

    async fn ask(
        &self,
        name: &SecretName,
        brought: Option<&Credentials>,
        deadline: Instant,
    ) -> Result<GetSecretValueOutput, Fault> {
        let credentials = self.supplier.credentials(brought).await?;
        let config = config::Builder::from(self.environment(name).await)
            .region(Region::new(name.region.clone()))
            .credentials_provider(credentials)
            .timeout_config(time_outs(deadline.saturating_duration_since(Instant::now())))
            .interceptor(TlsOnly)
            .build();
        let client = aws_sdk_secretsmanager::Client::from_conf(config);
        let request = client.get_secret_value().secret_id(&name.id);
        request.send().await.map_err(|error| {
            let fault = Fault::from_sdk(name, &error);
            if self.supplier.is_same_for_all() { fault.of_all() } else { fault }
        })
    }

    async fn environment(&self, name: &SecretName) -> &SdkConfig {
        self.environment
            .get_or_init(|| async {
                let mut loader = aws_config::defaults(BehaviorVersion::latest())
                    .http_client(self.http.clone())
                    // Nothing that the SDK would look for by itself: each fetch brings its own.
                    .no_credentials()
                    .identity_cache(IdentityCache::no_cache())
                    .region(Region::new(name.region.clone()))
                    .retry_config(
                        RetryConfig::standard()
                            .with_max_attempts(MAX_ATTEMPTS)
                            .with_initial_backoff(BACKOFF),
                    );
                if let Some(endpoint) = &self.endpoint {
                    loader = loader.endpoint_url(endpoint);
                }
                loader.load().await
            })
            .await
    }
}

fn time_outs(operation: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(operation)
        .build()
}

/// Refuses to send credentials in the clear, where the environment's endpoint would have it so.
#[derive(Debug)]
struct TlsOnly;

impl Intercept for TlsOnly {
    fn name(&self) -> &'static str {
        "TlsOnly"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if context.request().uri().starts_with("https://") { Ok(()) } else { Err(NoTls.into()) }
    }
}

/// The environment gives Secrets Manager an endpoint without TLS.
#[derive(Debug, Error)]
#[error("its endpoint is not an `https://` URL; see AWS_ENDPOINT_URL_SECRETS_MANAGER")]
pub(super) struct NoTls;

/// The tunnel's connection is there in milliseconds, and the TLS handshake is two round trips to a
/// service in the same region; inproxy may wait 2 s for an outproxy that is being restarted.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// An answer takes some 50 ms. Two attempts that hang, and a third that does not, fit in [`BUDGET`].
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// A clock that has drifted needs two: the first answer has the date in it.
const MAX_ATTEMPTS: u32 = 3;

/// The SDK waits for a random part of this, then of the double. Its own default, 1 s, would take
/// the time of an attempt.
const BACKOFF: Duration = Duration::from_millis(200);
