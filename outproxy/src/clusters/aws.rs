//! Asks AWS for the HSMs of a cluster.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_cloudhsmv2::config::retry::RetryConfig;
use aws_sdk_cloudhsmv2::config::timeout::TimeoutConfig;
use aws_sdk_cloudhsmv2::config::{BehaviorVersion, Region, SharedHttpClient};
use aws_sdk_cloudhsmv2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cloudhsmv2::operation::describe_clusters::DescribeClustersError;
use aws_sdk_cloudhsmv2::types::{self, HsmState};
use aws_sdk_cloudhsmv2::{Client, Config};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::timeout;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber as _;

use super::{Api, Cluster, ClusterId, Fault, FaultKind, Hsm, Stage};

/// The way to the API for one cluster.
#[derive(Debug)]
pub(super) struct Aws {
    cluster: ClusterId,
    credentials: CredentialsProviderChain,
    config: Config,
}

impl Aws {
    /// Other builds have none.
    pub(super) fn new(cluster: &Cluster) -> Option<Self> {
        let http = http();
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(cluster.region.to_string()))
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                    .build(),
            )
            .http_client(http.clone());
        config.set_endpoint_url(cluster.endpoint.as_ref().map(ToString::to_string));
        let environment = EnvironmentVariableCredentialsProvider::new();
        let credentials = CredentialsProviderChain::first_try("environment", environment);
        Some(Self {
            cluster: cluster.id.clone(),
            credentials: credentials.or_else("imds", imds(&http)),
            config: config.build(),
        })
    }

    async fn credentials(&self) -> Result<Credentials, Fault> {
        let fault = |reason: &str| Fault {
            kind: FaultKind::NoCredentials,
            reason: format!("{reason}, and the environment has no AWS credentials").into(),
        };
        match timeout(IMDS_TIMEOUT, self.credentials.provide_credentials()).await {
            Ok(Ok(credentials)) => Ok(credentials),
            Ok(Err(_)) => Err(fault("the instance metadata service gives no credentials")),
            Err(_) => Err(fault("the instance metadata service does not answer")),
        }
    }

    async fn describe(&self) -> Result<Vec<Hsm>, Fault> {
        let credentials = self.credentials().await?;
        let config = self.config.to_builder().credentials_provider(credentials).build();
        let id = self.cluster.as_str();
        let request = Client::from_conf(config).describe_clusters();
        let answer = request.filters("clusterIds", vec![id.to_owned()]).send().await;
        let answer = answer.map_err(|error| fault(&error))?;
        let cluster = answer.clusters().iter().find(|cluster| cluster.cluster_id() == Some(id));
        let cluster = cluster.ok_or_else(|| Fault {
            kind: FaultKind::NoCluster,
            reason: format!("AWS knows no `{id}` in the region").into(),
        })?;
        Ok(cluster.hsms().iter().map(Hsm::from).collect())
    }
}

impl Api for Aws {
    async fn hsms(&self) -> Result<Vec<Hsm>, Fault> {
        // The SDK logs errors with the service's text, and that of a signature error repeats the
        // session token. And its futures are large.
        let asked = Box::pin(self.describe().with_subscriber(Dispatch::none()));
        timeout(TIMEOUT, asked).await.unwrap_or_else(|_| Err(silence()))
    }
}

impl From<&types::Hsm> for Hsm {
    fn from(hsm: &types::Hsm) -> Self {
        let stage = match hsm.state() {
            // One that is being made would be down for minutes, and everybody be told so.
            Some(HsmState::CreateInProgress | HsmState::Deleted) => Stage::Absent,
            Some(HsmState::DeleteInProgress) => Stage::Leaving,
            _ => Stage::Present,
        };
        let addresses = [hsm.eni_ip(), hsm.eni_ipv6()].into_iter().flatten();
        Self { stage, addresses: addresses.map(Into::into).collect() }
    }
}

fn http() -> SharedHttpClient {
    // It never fails. Otherwise the roots would be those of this machine.
    let tls = TlsContext::builder().with_trust_store(roots()).build().unwrap_or_default();
    aws_smithy_http_client::Builder::new()
        // Questions are rare: an idle connection would be dead when it is needed.
        .pool_max_idle_per_host(0)
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(tls)
        .build_https()
}

/// The roots of the web, compiled in: a static binary may find none on its machine.
fn roots() -> TrustStore {
    let mut text = String::new();
    for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        // A string never refuses.
        let _ = writeln!(
            text,
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----",
            STANDARD.encode(root)
        );
    }
    TrustStore::empty().with_pem_certificate(text)
}

fn imds(http: &SharedHttpClient) -> ImdsCredentialsProvider {
    let config = ProviderConfig::without_region().with_http_client(http.clone());
    let client = imds::Client::builder().configure(&config).max_attempts(ATTEMPTS).build();
    ImdsCredentialsProvider::builder().imds_client(client).build()
}

/// In our own words: those of the service may be long, and repeat the request's headers.
fn fault(error: &SdkError<DescribeClustersError>) -> Fault {
    let (kind, reason) = match error {
        SdkError::ServiceError(refusal) => {
            let code = refusal.err().code().unwrap_or_default();
            let is_plain =
                code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let code = if is_plain && !code.is_empty() { code } else { "an error of its own" };
            if DENIALS.iter().any(|denial| code.contains(denial)) {
                (FaultKind::Denied, format!("AWS does not allow DescribeClusters ({code})"))
            } else {
                (FaultKind::NotAnswered, format!("AWS is not able to answer at present ({code})"))
            }
        }
        SdkError::TimeoutError(_) => return silence(),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => return silence(),
        SdkError::ResponseError(_) => {
            (FaultKind::NotAnswered, "the answer of AWS was not understood".into())
        }
        _ => (FaultKind::NotAnswered, format!("cannot reach AWS: {}", innermost(error))),
    };
    Fault { kind, reason: reason.into() }
}

fn silence() -> Fault {
    Fault { kind: FaultKind::NotAnswered, reason: "AWS did not answer in time".into() }
}

/// The cause of all, which is the system's errno where there is one.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Parts of the names of errors that are about who asks.
const DENIALS: [&str; 4] = ["AccessDenied", "Token", "Signature", "UnrecognizedClient"];

/// For all of it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The metadata service answers in milliseconds, from the machine itself.
const IMDS_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// A clock that has drifted needs two: the first answer has the date in it.
const ATTEMPTS: u32 = 2;
