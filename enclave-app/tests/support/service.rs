//! Stands in for Secrets Manager where the real thing, or moto, would never do as wanted.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use super::authority::Identity;

/// What it does with a request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Answers with this status, further headers, and this body.
    Json(u16, &'static str, String),
    /// Answers, and stops in the midst of the body.
    Cut,
    /// Closes the connection.
    Close,
    /// Never answers.
    Silence,
    /// Answers a byte a second.
    Trickle,
}

impl Reply {
    /// A secret of this version and value.
    pub(crate) fn secret(version: &str, value: &str) -> Self {
        let value = serde_json::to_string(value).unwrap();
        Self::Json(200, "", format!(r#"{{"VersionId":"{version}","SecretString":{value}}}"#))
    }

    /// A refusal.
    pub(crate) fn error(code: &str, message: &str) -> Self {
        let message = serde_json::to_string(message).unwrap();
        Self::Json(400, "", format!(r#"{{"__type":"{code}","message":{message}}}"#))
    }
}

/// A server at localhost. It ends with its value.
pub(crate) struct Service {
    port: u16,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    _accepting: JoinSet<()>,
}

impl Service {
    /// Speaks TLS, and replies to the n-th request with the n-th reply, or the last.
    pub(crate) async fn start(identity: &Identity, replies: Vec<Reply>) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(tls(identity)));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let served = Self::listen(move |stream| {
            let (acceptor, seen, replies) = (acceptor.clone(), Arc::clone(&seen), replies.clone());
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, &seen, &replies).await;
                }
            }
        });
        Self { requests, ..served.await }
    }

    /// Accepts connections, and does this with each.
    pub(crate) async fn listen<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                serving.spawn(serve(stream));
            }
        });
        Self { port, connections, requests: Arc::default(), _accepting: accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    pub(crate) fn http_url(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The requests so far, each with its head and body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// The value of a header.
pub(crate) fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// Reads a request with its body; nothing at the end of the stream.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut text = String::new();
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = header(head, "content-length").map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return Some(text);
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(0) => return None,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
            read => text.push_str(std::str::from_utf8(&buffer[..read.unwrap()]).unwrap()),
        }
    }
}

/// Answers a byte a second, and not to the end in the time of any test.
pub(crate) async fn trickle(mut stream: impl AsyncWrite + Unpin) {
    stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 99\r\n\r\n").await.unwrap();
    while stream.write_all(b" ").await.is_ok() {
        // The pace of a server that is slow.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn serve(mut stream: TlsStream<TcpStream>, seen: &Mutex<Vec<String>>, replies: &[Reply]) {
    while let Some(request) = read_request(&mut stream).await {
        let reply = {
            let mut seen = seen.lock().unwrap();
            seen.push(request);
            replies[seen.len().min(replies.len()) - 1].clone()
        };
        match reply {
            Reply::Json(status, headers, body) => {
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\n\r\n");
                stream.write_all((head + &body).as_bytes()).await.unwrap();
            }
            Reply::Close => return,
            Reply::Cut => {
                stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 99\r\n\r\n{\"").await.unwrap();
                return;
            }
            Reply::Silence => std::future::pending().await,
            Reply::Trickle => return trickle(stream).await,
        }
    }
}

fn tls(identity: &Identity) -> ServerConfig {
    let chain = CertificateDer::pem_file_iter(&identity.certificate).unwrap();
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            chain.collect::<Result<_, _>>().unwrap(),
            PrivateKeyDer::from_pem_file(&identity.key).unwrap(),
        )
        .unwrap()
}
