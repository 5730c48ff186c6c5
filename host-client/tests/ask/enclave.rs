//! An enclave that answers as its test wants.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use protocol::frame;
use serde_json::Value;
use tempfile::TempDir;

/// What comes back for a request.
pub(crate) enum Reply {
    /// A frame with this content, then what the other side makes of it.
    Content(String),
    /// These bytes, then the end.
    Raw(Vec<u8>),
    /// Nothing, until the other side goes.
    Silence,
}

/// Listens for as long as it lives.
pub(crate) struct Enclave {
    pub(crate) endpoint: String,
    requests: Receiver<Vec<u8>>,
    _place: Option<TempDir>,
}

impl Enclave {
    /// On a Unix socket.
    pub(crate) fn new(reply: impl FnMut(&[u8]) -> Reply + Send + 'static) -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("enclave");
        Self { _place: Some(place), ..Self::at(&path, reply) }
    }

    /// On this Unix socket.
    pub(crate) fn at(path: &Path, reply: impl FnMut(&[u8]) -> Reply + Send + 'static) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let streams = std::iter::from_fn(move || listener.accept().ok().map(|(stream, _)| stream));
        Self::serve(format!("unix:{}", path.display()), streams, reply)
    }

    /// On a TCP port of 127.0.0.1, and with this host in the endpoint.
    pub(crate) fn on_tcp(host: &str, reply: impl FnMut(&[u8]) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let streams = std::iter::from_fn(move || listener.accept().ok().map(|(stream, _)| stream));
        Self::serve(format!("tcp:{host}:{port}"), streams, reply)
    }

    /// That answers in our own form with this result.
    pub(crate) fn with_result(action: &'static str, result: Value) -> Self {
        Self::new(move |request| Reply::Content(done(request, action, &result)))
    }

    /// The requests so far, as text.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.try_iter().map(|request| String::from_utf8(request).unwrap()).collect()
    }

    /// The only request so far.
    pub(crate) fn request(&self) -> Value {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        serde_json::from_str(&requests[0]).unwrap()
    }

    fn serve(
        endpoint: String,
        mut streams: impl Iterator<Item = impl Read + Write> + Send + 'static,
        mut reply: impl FnMut(&[u8]) -> Reply + Send + 'static,
    ) -> Self {
        let (told, requests) = channel();
        thread::spawn(move || {
            for mut stream in streams.by_ref() {
                converse(&mut stream, &told, &mut reply);
            }
        });
        Self { endpoint, requests, _place: None }
    }
}

/// What came of an action, for the id of this request.
pub(crate) fn done(request: &[u8], action: &str, result: &Value) -> String {
    let request: Value = serde_json::from_slice(request).unwrap();
    let id = &request["id"];
    format!(r#"{{"id":{id},"action":"{action}","result":{result},"duration-ms":93}}"#)
}

/// Why nothing came of it.
pub(crate) fn failed(request: &[u8], code: &str, message: &str, retryable: bool) -> String {
    let request: Value = serde_json::from_slice(request).unwrap();
    let (id, message) = (&request["id"], Value::from(message));
    format!(
        r#"{{"id":{id},"error":{{"code":"{code}","message":{message},"retryable":{retryable}}},"duration-ms":1}}"#
    )
}

fn converse(
    stream: &mut (impl Read + Write),
    told: &Sender<Vec<u8>>,
    reply: &mut impl FnMut(&[u8]) -> Reply,
) {
    while let Ok(Some(request)) = frame::read_blocking(stream, frame::MAX_BYTES) {
        let reply = reply(&request);
        if told.send(request.to_vec()).is_err() {
            return;
        }
        match reply {
            Reply::Content(content) => {
                let frame = frame::encode(content.as_bytes(), frame::MAX_BYTES).unwrap();
                // In two halves: no reader may count on a frame to come in one.
                let (first, second) = frame.split_at(frame.len() / 2);
                stream.write_all(first).unwrap();
                stream.flush().unwrap();
                thread::yield_now();
                stream.write_all(second).unwrap();
            }
            Reply::Raw(bytes) => return stream.write_all(&bytes).unwrap(),
            Reply::Silence => drop(stream.read(&mut [0])),
        }
    }
}

/// More than any test takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
