//! As much of HTTP/1.1 (RFC 9112) as a page without links needs.

use thiserror::Error;
use tunnel::host::Clamped;

/// The longest request that is read, in bytes.
pub(super) const MAX_REQUEST: usize = 4 * 1024;

/// What a client asks for.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Request {
    pub(super) method: Method,
    target: String,
}

impl Request {
    /// The target without its query.
    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The keys and values behind the `?`, as they are written.
    pub(super) fn query(&self) -> impl Iterator<Item = (&str, &str)> {
        let query = self.target.split_once('?').map(|(_, query)| query).unwrap_or_default();
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Method {
    Get,
    Head,
}

/// Reads a request, and says how long its head was. `None` asks for more.
pub(super) fn parse_request(bytes: &[u8]) -> Result<Option<(Request, usize)>, RequestError> {
    let head = &bytes[..bytes.len().min(MAX_REQUEST)];
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let status = request.parse(head).map_err(RequestError::Http)?;
    let method = match request.method {
        None | Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        Some(method) => return Err(RequestError::Method(method.into())),
    };
    match status {
        httparse::Status::Partial if head.len() == MAX_REQUEST => Err(RequestError::TooLong),
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete(length) => {
            let target = request.path.unwrap_or_default().into();
            Ok(Some((Request { method, target }, length)))
        }
    }
}

/// Why a request has no answer but its status.
#[derive(Debug, Error)]
pub(super) enum RequestError {
    #[error("the request is not HTTP: {0}")]
    Http(httparse::Error),
    #[error("method `{0}` changes nothing here; send `GET` or `HEAD`")]
    Method(Clamped),
    #[error("the request is longer than {MAX_REQUEST} bytes")]
    TooLong,
}

/// What a client gets; the connection ends with it.
#[derive(Debug)]
pub(super) struct Response {
    status: u16,
    reason: &'static str,
    content_type: &'static str,
    body: String,
}

impl Response {
    pub(super) fn ok(content_type: &'static str, body: String) -> Self {
        Self { status: 200, reason: "OK", content_type, body }
    }

    pub(super) fn error(status: u16, reason: &'static str, message: &str) -> Self {
        let body = format!("{message}\n");
        Self { status, reason, content_type: "text/plain; charset=utf-8", body }
    }

    pub(super) fn encode(&self, method: Method) -> Vec<u8> {
        let Self { status, reason, content_type, body } = self;
        // RFC 9110 section 15.5.6.
        let allow = if *status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
        let length = body.len();
        let body = if method == Method::Head { "" } else { body };
        format!(
            "HTTP/1.1 {status} {reason}\r\n{allow}Content-Type: {content_type}\r\n\
             Content-Length: {length}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

impl From<&RequestError> for Response {
    fn from(error: &RequestError) -> Self {
        let (status, reason) = match error {
            RequestError::Http(_) => (400, "Bad Request"),
            RequestError::Method(_) => (405, "Method Not Allowed"),
            RequestError::TooLong => (431, "Request Header Fields Too Large"),
        };
        Self::error(status, reason, &error.to_string())
    }
}

/// Prometheus sends about six, a browser about fifteen.
const MAX_FIELDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_read_once_it_is_whole() {
        let text = b"HEAD /metrics?name[]=up HTTP/1.1\r\nHost: a\r\n\r\n";
        for end in 0..text.len() {
            assert!(parse_request(&text[..end]).unwrap().is_none(), "{end}");
        }
        let (request, length) = parse_request(text).unwrap().unwrap();
        assert_eq!(
            (request.method, request.path(), length),
            (Method::Head, "/metrics", text.len())
        );
    }

    #[test]
    fn what_is_no_question_is_answered_with_its_status() {
        let long = [b"GET / HTTP/1.1\r\nA: ".as_slice(), &[b'a'; MAX_REQUEST]].concat();
        for (request, status) in [
            (b"POST / HTTP/1.1\r\n".as_slice(), "405"),
            (b"CONNECT a:1 HTTP/1.1\r\n", "405"),
            (b"\x16\x03\x01\x02\x00", "400"),
            (&long, "431"),
        ] {
            let response = Response::from(&parse_request(request).unwrap_err());
            let answer = String::from_utf8(response.encode(Method::Get)).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert_eq!(answer.contains("\r\nAllow: GET, HEAD\r\n"), status == "405", "{answer}");
        }
    }

    #[test]
    fn head_is_get_without_the_body() {
        let response = Response::ok("text/plain", "ok\n".into());
        let get = String::from_utf8(response.encode(Method::Get)).unwrap();
        let head = String::from_utf8(response.encode(Method::Head)).unwrap();
        assert_eq!(get, format!("{head}ok\n"));
        assert!(head.contains("\r\nContent-Length: 3\r\n"), "{head}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_ask_for_more(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Some((_, length))) = parse_request(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
