//! The two heads of a routed tunnel: HTTP/1.1 `CONNECT` and its answer (RFC 9110 section 9.3.6).
//!
//! Our two proxies add a field each, which others ignore: `Tunnel-Id` gives the tunnel a number,
//! `Tunnel-Notices` says that [`notices`](crate::notices) of it can be sent. These have a
//! connection of their own, which begins with an upgrade (section 7.8). So do the
//! [`records`](crate::records) in which inproxy tells of itself.

use std::fmt::{self, Write as _};
use std::str;

use thiserror::Error;

use crate::destination::{Destination, DestinationError};
use crate::host::Clamped;

/// The longest head that is read, in bytes.
pub const MAX_HEAD: usize = 8 * 1024;

/// The most header fields that are read.
const MAX_FIELDS: usize = 64;

/// What asks for a tunnel to `destination`, which has a number if notices of it can be understood.
#[must_use]
pub fn request(destination: &Destination, id: Option<TunnelId>) -> String {
    // Every connection makes one: each part of it but once, and no room that has to grow.
    let destination = destination.to_string();
    let mut head = String::with_capacity(2 * destination.len() + LONGEST_REST);
    for part in ["CONNECT ", &destination, " HTTP/1.1\r\nHost: ", &destination, "\r\n"] {
        head.push_str(part);
    }
    if let Some(id) = id {
        // A string takes all.
        let _ = write!(head, "{TUNNEL_ID}: {id}\r\n");
    }
    head.push_str("\r\n");
    head
}

/// What asks for the connection on which the notices of a session are sent.
#[must_use]
pub fn notices_request(session: SessionId) -> String {
    format!(
        "GET {NOTICES} HTTP/1.1\r\nHost: outproxy\r\nConnection: Upgrade\r\n\
         Upgrade: {UPGRADE}\r\n{TUNNEL_SESSION}: {session}\r\n\r\n"
    )
}

/// What asks for the connection on which an inproxy tells of itself.
pub const RECORDS_REQUEST: &str = "GET /telemetry HTTP/1.1\r\nHost: outproxy\r\n\
     Connection: Upgrade\r\nUpgrade: tunnel-telemetry\r\n\r\n";

/// What grants a tunnel. Everything behind it is the tunnel's.
pub const GRANT: &str = "HTTP/1.1 200 OK\r\n\r\n";

/// What grants a tunnel of which notices can be sent.
pub const GRANT_WITH_NOTICES: &str = "HTTP/1.1 200 OK\r\nTunnel-Notices: 1\r\n\r\n";

/// What grants a connection for notices. Everything behind it is words.
pub const NOTICES_GRANT: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tunnel-notices\r\n\r\n";

/// What grants a connection on which an inproxy tells of itself. Everything behind it is
/// [`records`](crate::records).
pub const RECORDS_GRANT: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tunnel-telemetry\r\n\r\n";

/// Reads a request: what it asks for, and how long the head was. `None` asks for more.
///
/// # Errors
///
/// [`RequestError`], as soon as it is certain.
pub fn parse_request(bytes: &[u8]) -> Result<Option<(Request, usize)>, RequestError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let status = request.parse(head_of(bytes));
    // The method comes first, so that what is refused does not depend on how much has come.
    let is_upgrade =
        request.method == Some("GET") && matches!(request.path, Some(NOTICES | RECORDS));
    if let Some(method) = request.method
        && method != "CONNECT"
        && !is_upgrade
        // The path of a GET may still come.
        && (method != "GET" || request.path.is_some())
    {
        return Err(RequestError::Method(method.into()));
    }
    match status.map_err(RequestError::Http)? {
        httparse::Status::Partial if bytes.len() >= MAX_HEAD => Err(RequestError::TooLong),
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete(length) if is_upgrade => {
            let upgrade = field(request.headers, "upgrade");
            let session = field(request.headers, TUNNEL_SESSION).and_then(SessionId::parse);
            match (request.path, upgrade, session) {
                (Some(NOTICES), Some(UPGRADE), Some(session)) => {
                    Ok(Some((Request::Notices(session), length)))
                }
                (Some(RECORDS), Some(RECORDS_UPGRADE), _) => Ok(Some((Request::Records, length))),
                _ => Err(RequestError::Upgrade),
            }
        }
        httparse::Status::Complete(length) => {
            let destination = request.path.unwrap_or_default().parse()?;
            let id = field(request.headers, TUNNEL_ID).and_then(TunnelId::parse);
            Ok(Some((Request::Tunnel(destination, id), length)))
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
            let proxy_status = field(response.headers, "proxy-status").map(Clamped::from);
            let notices = field(response.headers, TUNNEL_NOTICES) == Some("1");
            let records = field(response.headers, "upgrade") == Some(RECORDS_UPGRADE);
            let status = response.code.unwrap_or_default();
            Ok(Some((Answer { status, proxy_status, notices, records }, length)))
        }
    }
}

/// The value of a field, if there is one that is text.
fn field<'a>(fields: &[httparse::Header<'a>], name: &str) -> Option<&'a str> {
    let field = fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
    str::from_utf8(field.value).ok()
}

/// What a request asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// The connection on which the notices of a session are sent.
    Notices(SessionId),
    /// The connection on which an inproxy tells of itself.
    Records,
    /// A tunnel, of which notices can be understood if it has a number.
    Tunnel(Destination, Option<TunnelId>),
}

/// Names the tunnels of one process: 128 bits that nobody can guess.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SessionId(u128);

impl SessionId {
    /// The session of this name.
    #[must_use]
    pub const fn new(id: u128) -> Self {
        Self(id)
    }

    fn parse(text: &str) -> Option<Self> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Names one tunnel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TunnelId {
    /// Whose.
    pub session: SessionId,
    /// Which of them.
    pub number: u64,
}

impl TunnelId {
    fn parse(text: &str) -> Option<Self> {
        let (session, number) = text.split_once('-')?;
        Some(Self { session: SessionId::parse(session)?, number: number.parse().ok()? })
    }
}

impl fmt::Display for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.session, self.number)
    }
}

/// What a proxy answered to a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The status code (RFC 9110 section 15).
    pub status: u16,
    /// Why, in the words of RFC 9209.
    pub proxy_status: Option<Clamped>,
    /// Whether notices of the tunnel can be sent.
    pub notices: bool,
    /// Whether it speaks of [`records`](crate::records).
    pub records: bool,
}

impl Answer {
    /// Whether what follows is the tunnel's.
    #[must_use]
    pub fn is_grant(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether what follows is records.
    #[must_use]
    pub fn is_records_grant(&self) -> bool {
        self.status == 101 && self.records
    }

    /// Whether what follows is words.
    #[must_use]
    pub fn is_notices_grant(&self) -> bool {
        self.status == 101
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
    /// It asks for another protocol in a way that nobody understands.
    #[error(
        "the request lacks `Upgrade: tunnel-notices` and a `Tunnel-Session`, \
         or `Upgrade: tunnel-telemetry`"
    )]
    Upgrade,
}

/// The part of `bytes` in which a head may be; what is behind it may be the tunnel's.
fn head_of(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(MAX_HEAD)]
}

const NOTICES: &str = "/notices";
const RECORDS: &str = "/telemetry";
const RECORDS_UPGRADE: &str = "tunnel-telemetry";
const TUNNEL_ID: &str = "Tunnel-Id";
const TUNNEL_NOTICES: &str = "Tunnel-Notices";
const TUNNEL_SESSION: &str = "Tunnel-Session";
const UPGRADE: &str = "tunnel-notices";
/// What a request for a tunnel has beside its destination, in bytes: 45, and what names the tunnel.
const LONGEST_REST: usize = 128;

#[cfg(test)]
mod tests;
