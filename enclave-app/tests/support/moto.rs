//! Moto, a Secrets Manager that runs here.

use std::env;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_sdk_secretsmanager::{Client, Config};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use super::authority::Authority;
use super::canary;

/// A Secrets Manager over HTTPS at localhost. It ends with its value.
pub(crate) struct Moto {
    port: u16,
    admin: Client,
    _process: Child,
}

impl Moto {
    /// Nothing, and a line that says so, where moto is not installed. CI has it.
    pub(crate) async fn start(authority: &Authority) -> Option<Self> {
        let program = program();
        if !program.exists() {
            assert_ne!(env::var("CI").as_deref(), Ok("true"), "CI must have moto");
            say(&format!("SKIPPED: there is no `{}`; see tests/lab/setup", program.display()));
            return None;
        }
        let port = free_port();
        let mut process = command(&program, port, authority).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let (ready, listening) = oneshot::channel();
        tokio::spawn(async move {
            let mut ready = Some(ready);
            // To the end, since it waits where nobody reads what it logs.
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains("Running on https://")
                    && let Some(ready) = ready.take()
                {
                    ready.send(()).unwrap();
                }
            }
        });
        let listening = tokio::time::timeout(START_TIMEOUT, listening).await;
        listening.expect("moto starts in time").expect("moto listens");
        let admin = admin(port, authority);
        Some(Self { port, admin, _process: process })
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Makes the secret, and returns its version.
    pub(crate) async fn create(&self, value: &str) -> String {
        let request = self.admin.create_secret().name(canary::name().id).secret_string(value);
        Box::pin(request.send()).await.unwrap().version_id.unwrap()
    }

    /// Gives the secret another value, and returns the new version.
    pub(crate) async fn put(&self, value: &str) -> String {
        let request = self.admin.put_secret_value().secret_id(canary::name().id);
        Box::pin(request.secret_string(value).send()).await.unwrap().version_id.unwrap()
    }
}

fn command(program: &Path, port: u16, authority: &Authority) -> Command {
    let server = authority.vouch("localhost");
    let mut command = Command::new(program);
    command
        .args(["-H", "127.0.0.1", "-p", &port.to_string()])
        .arg("-c")
        .arg(server.certificate)
        .arg("-k")
        .arg(server.key)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn admin(port: u16, authority: &Authority) -> Client {
    let bundle = std::fs::read(authority.bundle()).unwrap();
    let store = TrustStore::empty().with_pem_certificate(bundle);
    let http = Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(TlsContext::builder().with_trust_store(store).build().unwrap())
        .build_https();
    Client::from_conf(
        Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .endpoint_url(format!("https://localhost:{port}"))
            .region(Region::new(canary::name().region))
            .credentials_provider(Credentials::new("admin", "admin", None, None, "test"))
            .build(),
    )
}

fn program() -> PathBuf {
    let lab = || {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/lab");
        env::var_os("LAB_CACHE").map_or(target, PathBuf::from).join("moto/bin/moto_server")
    };
    env::var_os("MOTO_SERVER").map_or_else(lab, PathBuf::from)
}

/// Where nobody listens. Moto cannot choose one itself and say which.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[expect(clippy::print_stderr, reason = "whoever runs the tests wants to know")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// It takes some 2 s, and longer where all tests begin at once.
const START_TIMEOUT: Duration = Duration::from_secs(60);
