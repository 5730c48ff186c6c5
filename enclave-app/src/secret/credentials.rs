//! The AWS credentials that the secret is fetched with.

use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_secretsmanager::config::SharedHttpClient;
use protocol::answer::Code;
use protocol::request;
use serde::Deserialize;

use super::fault::Fault;

/// Where the AWS credentials come from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialSource {
    /// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN of enclave-app.
    Environment,
    /// The role of the parent instance, from its metadata service (IMDSv2) through the tunnel.
    Imds,
    /// Each request brings them.
    #[default]
    Request,
}

/// Gets credentials from where they come from.
#[derive(Debug)]
pub(super) enum Supplier {
    Environment(EnvironmentVariableCredentialsProvider),
    Imds(Box<ImdsCredentialsProvider>),
    Request,
}

impl Supplier {
    pub(super) fn new(source: CredentialSource, http: &SharedHttpClient) -> Self {
        match source {
            CredentialSource::Environment => {
                Self::Environment(EnvironmentVariableCredentialsProvider::new())
            }
            CredentialSource::Imds => Self::Imds(Box::new(imds(http))),
            CredentialSource::Request => Self::Request,
        }
    }

    /// Whether no request brings its own.
    pub(super) fn is_same_for_all(&self) -> bool {
        !matches!(self, Self::Request)
    }

    /// Those to use for a request that `brought` these.
    pub(super) async fn credentials(
        &self,
        brought: Option<&request::Credentials>,
    ) -> Result<Credentials, Fault> {
        match self {
            Self::Environment(provider) => provider
                .provide_credentials()
                .await
                .map_err(|_| Fault::lasting(NONE_IN_ENVIRONMENT)),
            Self::Imds(provider) => {
                let answer = tokio::time::timeout(IMDS_TIMEOUT, provider.provide_credentials());
                match answer.await {
                    Ok(Ok(credentials)) => Ok(credentials),
                    Ok(Err(CredentialsError::CredentialsNotLoaded(_))) => {
                        Err(Fault::passing(NONE_IN_IMDS))
                    }
                    Ok(Err(_)) => Err(Fault::passing(IMDS_FAILS)),
                    Err(_) => Err(Fault::passing(IMDS_HANGS)),
                }
            }
            Self::Request => brought.map(convert).ok_or_else(|| {
                Fault::request(Code::CredentialsMissing, "the request has no AWS credentials")
            }),
        }
    }
}

fn imds(http: &SharedHttpClient) -> ImdsCredentialsProvider {
    let client = imds::Client::builder()
        .configure(&ProviderConfig::without_region().with_http_client(http.clone()))
        .max_attempts(IMDS_ATTEMPTS)
        .build();
    ImdsCredentialsProvider::builder().imds_client(client).build()
}

/// The SDK wipes them, as we do.
fn convert(brought: &request::Credentials) -> Credentials {
    let token = brought.session_token.as_ref().map(|token| token.as_str().to_owned());
    Credentials::new(
        brought.access_key_id.as_str(),
        brought.secret_access_key.as_str(),
        token,
        None,
        "request",
    )
}

/// It answers in milliseconds, from the parent itself. Three questions: a token, the name of the
/// role, and its credentials.
const IMDS_TIMEOUT: Duration = Duration::from_secs(3);

/// A token may have expired: then the first answer asks for a new one.
const IMDS_ATTEMPTS: u32 = 2;

const NONE_IN_ENVIRONMENT: &str = "the environment of enclave-app has no AWS credentials; see \
     AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
const NONE_IN_IMDS: &str =
    "the instance metadata service has no credentials: it cannot be reached, or there is no role";
const IMDS_FAILS: &str = "the instance metadata service gives no credentials";
const IMDS_HANGS: &str = "the instance metadata service does not answer";
