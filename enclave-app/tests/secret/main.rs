//! Fetching the secret: from moto, a Secrets Manager that runs here, and from servers that do what
//! Secrets Manager would not.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod environment;
mod fetch;
mod log;
#[path = "../support/mod.rs"]
mod support;
mod trouble;
mod trust;

use std::time::Duration;

use enclave_app::secret::{CredentialSource, SecretConfig, Secrets};
use tokio::net::TcpStream;

use self::support::authority::Authority;
use self::support::canary;
use self::support::service::{Reply, Service, header};

/// A stand-in that gives these replies, and what asks it.
async fn standing_in(replies: Vec<Reply>) -> (Authority, Service, Secrets) {
    let authority = Authority::new();
    let service = Service::start(&authority.vouch("localhost"), replies).await;
    let secrets = secrets(&authority, &service.url());
    (authority, service, secrets)
}

/// What asks there, with the credentials of requests, and trusts this authority.
fn secrets(authority: &Authority, url: &str) -> Secrets {
    Secrets::new(config(authority)).with_endpoint(url)
}

fn config(authority: &Authority) -> SecretConfig {
    SecretConfig {
        name: Some(canary::name()),
        credentials: CredentialSource::Request,
        roots: authority.roots(),
    }
}

fn good() -> Reply {
    Reply::secret("v1", &canary::value())
}

async fn hang(_stream: TcpStream) {
    std::future::pending::<()>().await;
}

fn assert_signed_with_the_canary(request: &str) {
    let signature = header(request, "authorization").unwrap();
    let scope = format!("AWS4-HMAC-SHA256 Credential={}/", canary::ACCESS_KEY);
    assert!(signature.starts_with(&scope), "{signature}");
    assert_eq!(header(request, "x-amz-security-token"), Some(canary::SESSION_TOKEN));
}

/// A request is answered within 10 s; a fetch leaves something of that for the answer.
const BOUND: Duration = Duration::from_secs(9);
