//! What the environment says: credentials and endpoints.

use std::env;
use std::path::PathBuf;
use std::time::Instant;

use enclave_app::secret::{Ask, CredentialSource, Roots, SecretConfig, Secrets};
use protocol::request::Credentials;
use tokio::process::Command;
use zeroize::Zeroizing;

use crate::support::authority::Authority;
use crate::support::canary::{self, Log, assert_absent};
use crate::support::imds;
use crate::support::service::{Service, trickle};
use crate::{BOUND, assert_signed_with_the_canary, good, hang};

#[tokio::test]
async fn the_environment_names_the_endpoint_and_the_credentials() {
    let authority = Authority::new();
    let service = Service::start(&authority.vouch("localhost"), vec![good()]).await;
    let keys = [
        ("AWS_ACCESS_KEY_ID", canary::ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", canary::SECRET_KEY),
        ("AWS_SESSION_TOKEN", canary::SESSION_TOKEN),
    ];
    let result = elsewhere("environment", &authority, &service, &keys).await;
    assert_eq!(result, "v1");
    assert_signed_with_the_canary(&service.requests()[0]);
}

#[tokio::test]
async fn an_environment_without_credentials_is_told_so() {
    let authority = Authority::new();
    let service = Service::start(&authority.vouch("localhost"), vec![good()]).await;
    let result = elsewhere("environment", &authority, &service, &[]).await;
    assert!(
        result.starts_with("the environment of enclave-app has no AWS credentials"),
        "{result}"
    );
    assert_eq!(service.connections(), 0);
}

#[tokio::test]
async fn the_metadata_service_gives_the_credentials() {
    let authority = Authority::new();
    let service = Service::start(&authority.vouch("localhost"), vec![good()]).await;
    let metadata = imds::start().await;
    let result = elsewhere("imds", &authority, &service, &[(IMDS, &metadata.http_url())]).await;
    assert_eq!(result, "v1");
    assert_signed_with_the_canary(&service.requests()[0]);
}

#[tokio::test]
async fn a_metadata_service_that_hangs_is_given_up() {
    assert_metadata_given_up(Service::listen(hang).await).await;
}

#[tokio::test]
async fn a_metadata_service_whose_answer_never_ends_is_given_up() {
    assert_metadata_given_up(Service::listen(trickle).await).await;
}

#[tokio::test]
async fn who_the_system_trusts_is_not_trusted() {
    let (ours, systems) = (Authority::new(), Authority::new());
    let service = Service::start(&systems.vouch("localhost"), vec![good()]).await;
    let bundle = systems.bundle();
    let system = [
        ("AWS_ACCESS_KEY_ID", canary::ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", canary::SECRET_KEY),
        ("SSL_CERT_FILE", bundle.to_str().unwrap()),
    ];
    let result = elsewhere("environment", &ours, &service, &system).await;
    assert!(result.contains("is not trusted"), "{result}");
    assert_eq!(service.requests(), [""; 0]);
}

/// What some tests start again, in an environment of its own: none can change that of its process.
#[tokio::test]
#[ignore = "it needs an environment that other tests make"]
async fn elsewhere_a_secret_is_fetched() {
    let credentials = match env::var("CREDENTIALS").unwrap().as_str() {
        "environment" => CredentialSource::Environment,
        "imds" => CredentialSource::Imds,
        other => panic!("{other}"),
    };
    let roots = Roots::load(Some(&PathBuf::from(env::var_os("CA_BUNDLE").unwrap()))).unwrap();
    let config = SecretConfig { name: Some(canary::name()), credentials, roots };
    let log = Log::default();
    log.start_everywhere();
    // Credentials that the configuration does not want are not looked at.
    let unwanted = Credentials {
        access_key_id: Zeroizing::new("unwanted".to_owned()),
        secret_access_key: Zeroizing::new("unwanted".to_owned()),
        session_token: None,
    };
    let ask = Ask { credentials: Some(unwanted), name: None };
    let fetched = Secrets::new(config).current(&ask).await;
    assert_absent(&log.text());
    assert_eq!(log.text().contains("fetched the secret"), fetched.is_ok());
    let result = fetched.map_or_else(|failure| failure.message, |secret| secret.version.clone());
    std::fs::write(env::var_os("RESULT").unwrap(), result).unwrap();
}

async fn assert_metadata_given_up(metadata: Service) {
    let authority = Authority::new();
    let service = Service::start(&authority.vouch("localhost"), vec![good()]).await;
    let started = Instant::now();
    let result = elsewhere("imds", &authority, &service, &[(IMDS, &metadata.http_url())]).await;
    assert!(result.starts_with("the instance metadata service "), "{result}");
    assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
    assert_eq!(service.connections(), 0);
}

/// The version of the secret that another process fetches, or the message of its failure.
async fn elsewhere(
    credentials: &str,
    authority: &Authority,
    service: &Service,
    environment: &[(&str, &str)],
) -> String {
    let result = authority.bundle().with_extension("result");
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "--ignored", "environment::elsewhere_a_secret_is_fetched"])
        .env_clear()
        .env("CREDENTIALS", credentials)
        .env("CA_BUNDLE", authority.bundle())
        .env("RESULT", &result)
        .env("AWS_ENDPOINT_URL_SECRETS_MANAGER", service.url())
        .envs(environment.iter().copied())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(2 * BOUND, output).await.expect("it ends").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    std::fs::read_to_string(result).unwrap()
}

/// What tells the SDK where the metadata service is.
const IMDS: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
