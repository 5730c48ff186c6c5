//! Whoever asks: blocking sockets, of which no call waits for ever.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use crate::app::PATIENCE;

/// A connection to enclave-app.
pub(crate) struct Client {
    stream: Box<dyn Stream>,
}

trait Stream: Read + Write {
    fn half_close(&self);
}

impl Stream for TcpStream {
    fn half_close(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

impl Stream for UnixStream {
    fn half_close(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

impl Client {
    pub(crate) fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream: Box::new(stream) }
    }

    pub(crate) fn connect_tcp(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream: Box::new(stream) }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends bytes for ever, and returns once the application will have no more.
    pub(crate) fn send_for_ever(&mut self, bytes: &[u8]) {
        loop {
            if let Err(error) = self.stream.write_all(bytes) {
                let kinds = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                assert!(kinds.contains(&error.kind()), "{error}");
                return;
            }
        }
    }

    /// Ends the requests.
    pub(crate) fn half_close(&self) {
        self.stream.half_close();
    }

    /// Sends a frame and reads the answer.
    pub(crate) fn ask(&mut self, content: &str) -> Value {
        self.send(&frame(content));
        self.answer()
    }

    /// Sends a frame that nothing but an error answers, and says its code, message and id.
    pub(crate) fn ask_in_vain(&mut self, content: &str) -> Refusal {
        self.send(&frame(content));
        self.refusal()
    }

    /// The content of the next frame.
    pub(crate) fn content(&mut self) -> Vec<u8> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).expect("an answer");
        let mut content = vec![0; u32::from_le_bytes(header).try_into().unwrap()];
        self.stream.read_exact(&mut content).expect("a whole answer");
        content
    }

    /// The next frame.
    pub(crate) fn answer(&mut self) -> Value {
        serde_json::from_slice(&self.content()).expect("JSON")
    }

    /// The next frame, which tells of an error.
    pub(crate) fn refusal(&mut self) -> Refusal {
        let answer = self.answer();
        let error = &answer["error"];
        Refusal {
            code: error["code"].as_str().expect("a code").to_owned(),
            message: error["message"].as_str().expect("a message").to_owned(),
            id: answer["id"].as_str().map(str::to_owned),
        }
    }

    /// Asserts that nothing more comes but the end.
    pub(crate) fn assert_end(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("a clean end");
        assert_eq!(rest, b"");
    }

    /// Asserts that nothing more comes, however it ends.
    pub(crate) fn assert_cut_off(&mut self) {
        let mut rest = Vec::new();
        if let Err(error) = self.stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        assert_eq!(rest, b"");
    }

    /// Asserts that the application serves this connection.
    pub(crate) fn assert_served(&mut self) {
        let answer = self.ask(r#"{"id":"ping","action":"echo","message":"pong"}"#);
        assert_eq!(answer["result"]["message"], "pong", "{answer}");
    }
}

/// An error in an answer.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) id: Option<String>,
}

/// A frame with this content.
pub(crate) fn frame(content: &str) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    [&length.to_le_bytes(), content.as_bytes()].concat()
}
