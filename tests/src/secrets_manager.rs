//! AWS Secrets Manager, as moto plays it: over HTTPS, with its real name.

use std::env;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio_rustls::rustls::{ClientConnection, StreamOwned};

use crate::ca::Authority;
use crate::peers::bounded;
use crate::process::Process;
use crate::tls;

/// The name of the service.
pub const NAME: &str = "secretsmanager.ap-southeast-1.amazonaws.com";
/// Its address in the host's network.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);
/// The region.
pub const REGION: &str = "ap-southeast-1";
/// The secret that it has.
pub const SECRET: &str = "cloudhsm/cluster-teeultuftgy";

/// A running service with one secret.
#[derive(Debug)]
pub struct SecretsManager {
    process: Process,
    ca: PathBuf,
    /// Requests of our own.
    own: AtomicUsize,
}

impl SecretsManager {
    /// Starts it, with the credentials of a crypto user in [`SECRET`].
    #[must_use]
    pub fn start(authority: &Authority, user: &str, password: &str) -> Self {
        let certificate = authority.certify(&format!("DNS:{NAME}"));
        let mut command = Command::new(moto());
        command.args(["--host", &ADDRESS.to_string(), "--port", &PORT.to_string(), "--ssl-cert"]);
        command.arg(&certificate.certificate).arg("--ssl-key").arg(&certificate.key);
        // Only what it prints when it is asked for; not what it makes of a terminal.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let process = Process::new("moto", child);
        process.line("its start", |line| contains(line, "Running on"));
        let ca = authority.certificate().to_owned();
        let service = Self { process, ca, own: AtomicUsize::new(0) };
        service.ask(
            "CreateSecret",
            &json!({
                "Name": SECRET,
                "SecretString": content(user, password),
            }),
        );
        service
    }

    /// Gives the secret a new version, and says which.
    pub fn put(&self, user: &str, password: &str) -> String {
        let secret = json!({ "SecretId": SECRET, "SecretString": content(user, password) });
        let answer = self.ask("PutSecretValue", &secret);
        answer["VersionId"].as_str().expect("a version").to_owned()
    }

    /// How often others than the test have asked it for something.
    #[must_use]
    pub fn requests(&self) -> usize {
        let lines = self.process.logged();
        let all = lines.iter().filter(|line| contains(line, "\"POST / HTTP/1.1")).count();
        all - self.own.load(Ordering::Relaxed)
    }

    fn ask(&self, operation: &str, body: &Value) -> Value {
        // moto checks no signature, but it finds the region here.
        let scope = format!("test/20260101/{REGION}/secretsmanager/aws4_request");
        let body = body.to_string();
        let request = format!(
            "POST / HTTP/1.0\r\nHost: {NAME}\r\nContent-Type: application/x-amz-json-1.1\r\n\
             X-Amz-Target: secretsmanager.{operation}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = exchange(&self.ca, &request);
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        assert!(head.contains(" 200 "), "{answer}");
        self.own.fetch_add(1, Ordering::Relaxed);
        serde_json::from_str(body).expect("JSON")
    }
}

/// One request to the service, from the host.
fn exchange(ca: &Path, request: &str) -> String {
    use std::io::{Read, Write};

    let stream = bounded(TcpStream::connect(SocketAddr::from((ADDRESS, PORT))).expect("moto"));
    let name = NAME.try_into().expect("a name");
    let tls = ClientConnection::new(Arc::new(tls::client(ca)), name).expect("a client of TLS");
    let mut stream = StreamOwned::new(tls, stream);
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    // moto closes without a farewell; what is missing would be missed in the JSON.
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn content(user: &str, password: &str) -> String {
    json!({ "HSM_USER": user, "HSM_PASSWORD": password }).to_string()
}

fn contains(line: &Value, text: &str) -> bool {
    line.as_str().is_some_and(|line| line.contains(text))
}

/// `MOTO_SERVER`, or what tests/lab/setup has installed.
#[must_use]
pub fn moto() -> PathBuf {
    env::var_os("MOTO_SERVER").map_or_else(|| cache().join("moto/bin/moto_server"), PathBuf::from)
}

/// Where tests/lab/setup puts things.
#[must_use]
pub fn cache() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/lab");
    env::var_os("LAB_CACHE").map_or(own, PathBuf::from)
}

const PORT: u16 = 443;
