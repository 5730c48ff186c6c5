//! The two heads of a routed tunnel: HTTP/1.1 `CONNECT` and its answer (RFC 9110 section 9.3.6).

use std::fmt;
use std::str;

use thiserror::Error;

use crate::destination::{Destination, DestinationError};
use crate::host::Clamped;

/// The longest head that is read, in bytes.
pub const MAX_HEAD: usize = 8 * 1024;

/// The most header fields that are read.
const MAX_FIELDS: usize = 64;

/// What asks for a tunnel to `destination`.
#[must_use]
pub fn request(destination: &Destination) -> String {
    format!("CONNECT {destination} HTTP/1.1\r\nHost: {destination}\r\n\r\n")
}

/// What grants a tunnel. Everything behind it is the tunnel's.
pub const GRANT: &str = "HTTP/1.1 200 OK\r\n\r\n";

/// Reads a request for a tunnel: where to, and how long the head was. `None` asks for more.
///
/// # Errors
///
/// [`RequestError`], as soon as it is certain.
pub fn parse_request(bytes: &[u8]) -> Result<Option<(Destination, usize)>, RequestError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let status = request.parse(head_of(bytes)).map_err(RequestError::Http)?;
    if let Some(method) = request.method
        && method != "CONNECT"
    {
        return Err(RequestError::Method(method.into()));
    }
    match status {
        httparse::Status::Partial if bytes.len() >= MAX_HEAD => Err(RequestError::TooLong),
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete(length) => {
            let target = request.path.unwrap_or_default();
            Ok(Some((target.parse()?, length)))
        }
    }
}

/// Reads the answer to a request for a tunnel, and says how long the head was. `None` asks for
/// more.
///
/// # Errors
///
/// [`AnswerError`], as soon as it is certain.
pub fn parse_answer(bytes: &[u8]) -> Result<Option<(Answer, usize)>, AnswerError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(head_of(bytes)).map_err(AnswerError::Http)? {
        httparse::Status::Partial if bytes.len() >= MAX_HEAD => Err(AnswerError::TooLong),
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete(length) => {
            let proxy_status = response
                .headers
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case("proxy-status"))
                .and_then(|field| str::from_utf8(field.value).ok())
                .map(Clamped::from);
            let status = response.code.unwrap_or_default();
            Ok(Some((Answer { status, proxy_status }, length)))
        }
    }
}

/// What a proxy answered to a request for a tunnel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The status code (RFC 9110 section 15).
    pub status: u16,
    /// Why, in the words of RFC 9209.
    pub proxy_status: Option<Clamped>,
}

impl Answer {
    /// Whether what follows is the tunnel's.
    #[must_use]
    pub fn is_grant(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.proxy_status {
            Some(proxy_status) => write!(f, "{} {proxy_status}", self.status),
            None => self.status.fmt(f),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// It is not HTTP/1.
    #[error("the answer is not HTTP: {0}")]
    Http(httparse::Error),
    /// It is longer than [`MAX_HEAD`].
    #[error("the answer's head is longer than {MAX_HEAD} bytes")]
    TooLong,
}

/// Why a request cannot be served.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The target is not in authority form, or no destination.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// It is not HTTP/1.
    #[error("the request is not HTTP: {0}")]
    Http(httparse::Error),
    /// It asks for something else than a tunnel.
    #[error("method `{0}` is not `CONNECT`")]
    Method(Clamped),
    /// It is longer than [`MAX_HEAD`].
    #[error("the request's head is longer than {MAX_HEAD} bytes")]
    TooLong,
}

/// The part of `bytes` in which a head may be; what is behind it may be the tunnel's.
fn head_of(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(MAX_HEAD)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        for text in ["10.0.11.27:2223", "[fd00::10]:2223", "hsm.example.com:443"] {
            let destination: Destination = text.parse().unwrap();
            let head = request(&destination);
            let with_data = format!("{head}\u{16}\u{3}hello");
            let (read, length) = parse_request(with_data.as_bytes()).unwrap().unwrap();
            assert_eq!((read, length), (destination, head.len()));
        }
    }

    #[test]
    fn a_request_split_anywhere_asks_for_more() {
        let head =
            b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nUser-Agent: x\r\n\r\n";
        for end in 0..head.len() {
            assert!(parse_request(&head[..end]).unwrap().is_none(), "{end}");
        }
        assert!(parse_request(head).unwrap().is_some());
    }

    #[test]
    fn unusable_requests_are_refused_at_once() {
        let refused = |head: &[u8]| parse_request(head).unwrap_err().to_string();
        assert!(refused(b"GET / HTTP/1.1\r\n").contains("`GET`"));
        assert!(refused(b"\x16\x03\x01\x02\0\x01\0").contains("not HTTP"));
        assert!(refused(b"CONNECT / HTTP/1.1\r\n\r\n").contains("has no port"));
        assert!(refused(b"CONNECT 127.1:443 HTTP/1.1\r\n\r\n").contains("IPv4"));
        assert!(refused(b"CONNECT a:0 HTTP/1.1\r\n\r\n").contains("65535"));
        let endless = [b"CONNECT a:1 HTTP/1.1\r\nA: ".as_slice(), &[b'a'; MAX_HEAD]].concat();
        assert!(refused(&endless).contains("longer"));
        let fields = format!("CONNECT a:1 HTTP/1.1\r\n{}", "A: b\r\n".repeat(MAX_FIELDS + 1));
        assert!(refused(fields.as_bytes()).contains("not HTTP"));
    }

    #[test]
    fn an_answer_says_why_not() {
        let head = b"HTTP/1.1 403 Forbidden\r\nProxy-Status: outproxy; error=http_request_denied\r\n\r\nbody";
        let (answer, length) = parse_answer(head).unwrap().unwrap();
        assert_eq!(length, head.len() - 4);
        assert!(!answer.is_grant());
        assert_eq!(answer.to_string(), "403 outproxy; error=http_request_denied");
        let (answer, length) = parse_answer(GRANT.as_bytes()).unwrap().unwrap();
        assert!(answer.is_grant() && length == GRANT.len());
    }

    #[test]
    fn an_answer_that_is_none_is_refused() {
        assert!(parse_answer(b"SSH-2.0-OpenSSH_9.2\r\n").is_err());
        assert!(
            parse_answer(&[b"HTTP/1.1 200 OK\r\nA: ".as_slice(), &[b'a'; MAX_HEAD]].concat())
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_ask_for_more(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_answer(&bytes);
            if let Ok(Some((_, length))) = parse_request(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
