//! The AWS credentials that the enclave fetches the HSM's password with.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::imds::Client;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError as SdkError;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::request::Credentials;
use thiserror::Error;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::cli::Source;

/// Fetches credentials; there may be none to fetch.
///
/// # Errors
///
/// [`CredentialsError`].
pub async fn fetch(source: Source) -> Result<Option<Credentials>, CredentialsError> {
    let credentials = match source {
        Source::Imds => within(IMDS_LIMIT, from_imds()).await.map_err(CredentialsError::Imds)?,
        Source::None => return Ok(None),
        Source::Sdk => {
            within(SDK_LIMIT, Box::pin(from_sdk())).await.map_err(CredentialsError::Sdk)?
        }
    };
    Ok(Some(Credentials {
        access_key_id: Zeroizing::new(credentials.access_key_id().to_owned()),
        secret_access_key: Zeroizing::new(credentials.secret_access_key().to_owned()),
        session_token: credentials.session_token().map(str::to_owned).map(Zeroizing::new),
    }))
}

/// Why there are no credentials.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The metadata service gives none.
    #[error("failed to get credentials from the instance metadata service")]
    Imds(#[source] SdkError),
    /// Nothing that the SDK knows gives any.
    #[error("failed to get credentials the way of the AWS SDKs")]
    Sdk(#[source] SdkError),
}

async fn within(
    limit: Duration,
    fetching: impl Future<Output = Result<aws_credential_types::Credentials, SdkError>>,
) -> Result<aws_credential_types::Credentials, SdkError> {
    timeout(limit, fetching).await.unwrap_or_else(|_| Err(SdkError::provider_timed_out(limit)))
}

async fn from_imds() -> Result<aws_credential_types::Credentials, SdkError> {
    let config = ProviderConfig::default().with_http_client(Builder::new().build_http());
    let client = Client::builder()
        .configure(&config)
        .connect_timeout(Duration::from_secs(1))
        .read_timeout(Duration::from_secs(1))
        .max_attempts(2)
        .build();
    let provider =
        ImdsCredentialsProvider::builder().configure(&config).imds_client(client).build();
    provider.provide_credentials().await
}

async fn from_sdk() -> Result<aws_credential_types::Credentials, SdkError> {
    let tls = TlsContext::builder().with_trust_store(roots()).build();
    let tls = tls.map_err(SdkError::invalid_configuration)?;
    let http = Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(tls)
        .build_https();
    let config = aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await;
    match config.credentials_provider() {
        Some(provider) => provider.provide_credentials().await,
        None => Err(SdkError::not_loaded("there is no provider of credentials")),
    }
}

/// The roots of the web, compiled in: a static binary may find none on its machine.
fn roots() -> TrustStore {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().fold(TrustStore::empty(), |roots, root| {
        roots.with_pem_certificate(format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            STANDARD.encode(root)
        ))
    })
}

/// The service is on this very machine; without it, every request is to be told so soon.
const IMDS_LIMIT: Duration = Duration::from_secs(3);
const SDK_LIMIT: Duration = Duration::from_secs(10);
