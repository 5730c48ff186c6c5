//! Why a connection was not made, in HTTP's words and in ours.

use std::fmt::Write;
use std::io;

use thiserror::Error;
use tunnel::chain::Chain;
use tunnel::connections::Stop;
use tunnel::endpoint::Cid;
use tunnel::head::RequestError;

use crate::allowlist::{self, LimitReached};
use crate::clusters::ClusterId;
use crate::dial::DialError;
use crate::health::Down;
use crate::resolver::DnsError;

/// Why a connection was not made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No rule allows it.
    #[error(transparent)]
    Disallowed(#[from] allowlist::Refusal),
    /// The destination could not be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The destination is known to be down.
    #[error(transparent)]
    Down(#[from] Down),
    /// The client failed, or left, before it had said what it wants.
    #[error("the client left: {0}")]
    Gone(io::Error),
    /// A rule may allow it, but AWS has not told yet which HSMs the rule's cluster has.
    #[error("it is not known yet which HSMs `{cluster}` has: {reason}")]
    HsmsUnknown {
        /// The cluster.
        cluster: ClusterId,
        /// Why not.
        reason: Box<str>,
    },
    /// Nothing that makes sense was asked for.
    #[error(transparent)]
    Malformed(#[from] RequestError),
    /// The client is no enclave.
    #[error("CID {0} is no enclave, and no rule lists it in `cids`")]
    NoEnclave(Cid),
    /// The rule has all the connections that it may have.
    #[error(transparent)]
    RuleFull(#[from] LimitReached),
    /// The client did not say in time what it wants.
    #[error("no request within `header-timeout`")]
    Silent,
    /// The connection was told to end before it was made.
    #[error("stopped: {0}")]
    Stopped(Stop),
    /// The proxy has all the connections that it may have.
    #[error("all of `max-connections` are open")]
    TooMany,
    /// Too many enclaves tell of themselves.
    #[error("as many enclaves tell of themselves as may do so")]
    TooManyEnclaves,
    /// The client has all the sessions that it may have.
    #[error("the client has as many sessions as it may have")]
    TooManySessions,
}

impl Refusal {
    /// What a client is told: the status code (RFC 9110 section 15) and its reason phrase, and
    /// the error type of RFC 9209 section 2.3.
    #[must_use]
    pub fn status(&self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Disallowed(_) | Self::NoEnclave(_) => (403, "Forbidden", "http_request_denied"),
            Self::Dial(error) => dial_status(error),
            Self::Down(_) | Self::Stopped(Stop::Shutdown) => {
                (503, "Service Unavailable", "destination_unavailable")
            }
            Self::HsmsUnknown { .. } => (503, "Service Unavailable", "proxy_internal_error"),
            Self::Malformed(RequestError::Method(_)) => {
                (405, "Method Not Allowed", "http_request_error")
            }
            Self::Malformed(RequestError::TooLong) => {
                (431, "Request Header Fields Too Large", "http_request_error")
            }
            Self::Gone(_) | Self::Malformed(_) => (400, "Bad Request", "http_request_error"),
            Self::RuleFull(_) | Self::TooMany | Self::TooManyEnclaves | Self::TooManySessions => {
                (503, "Service Unavailable", "connection_limit_reached")
            }
            Self::Silent => (408, "Request Timeout", "http_request_error"),
            Self::Stopped(Stop::Disallowed) => (403, "Forbidden", "http_request_denied"),
        }
    }

    /// A word for logs and metrics, one of few.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Disallowed(_) | Self::HsmsUnknown { .. } | Self::NoEnclave(_) => "denied",
            Self::Dial(_) => "unreachable",
            Self::Down(_) => "down",
            Self::Gone(_) => "gone",
            Self::Malformed(_) => "malformed",
            Self::RuleFull(_) | Self::TooMany | Self::TooManyEnclaves | Self::TooManySessions => {
                "limit"
            }
            Self::Silent => "silent",
            Self::Stopped(_) => "stopped",
        }
    }

    /// As [`Self::word`], but more precise: one of [`REFUSAL_REASONS`].
    ///
    /// [`REFUSAL_REASONS`]: tunnel::metrics::REFUSAL_REASONS
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Disallowed(allowlist::Refusal::Draining { .. }) => "hsm-draining",
            Self::Disallowed(allowlist::Refusal::Host(_)) => "host-not-allowed",
            Self::Disallowed(allowlist::Refusal::Peer { .. }) => "cid-not-allowed",
            Self::Disallowed(allowlist::Refusal::Port { .. }) => "port-not-allowed",
            Self::Dial(error) => dial_reason(error),
            Self::Down(_) => "destination-down",
            Self::Gone(_) => "client-gone",
            Self::HsmsUnknown { .. } => "hsms-unknown",
            Self::Malformed(_) => "malformed",
            Self::NoEnclave(_) => "no-enclave",
            Self::RuleFull(_) => "rule-limit",
            Self::Silent => "silent",
            Self::Stopped(Stop::Disallowed) => "no-longer-allowed",
            Self::Stopped(Stop::Shutdown) => "shutdown",
            Self::TooMany => "limit",
            Self::TooManyEnclaves => "enclave-limit",
            Self::TooManySessions => "session-limit",
        }
    }

    /// The whole answer.
    #[must_use]
    pub fn answer(&self) -> String {
        let (code, reason, error_type) = self.status();
        let details = Chain(self).to_string();
        let rcode = match self {
            Self::Dial(DialError::Dns(error)) => error.rcode(),
            _ => None,
        };
        let rcode = rcode.map_or_else(String::new, |rcode| format!("; rcode=\"{rcode}\""));
        let body = format!("{details}\n");
        let mut answer = format!(
            "HTTP/1.1 {code} {reason}\r\nProxy-Status: outproxy; error={error_type}{rcode}; details={}\r\n",
            structured_string(&details),
        );
        if code == 405 {
            answer.push_str("Allow: CONNECT\r\n");
        }
        // Writing to a string cannot fail.
        let _ = write!(
            answer,
            "Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len(),
        );
        answer
    }
}

fn dial_status(error: &DialError) -> (u16, &'static str, &'static str) {
    const BAD_GATEWAY: &str = "Bad Gateway";
    const GATEWAY_TIMEOUT: &str = "Gateway Timeout";
    match error {
        DialError::Dns(DnsError::TimedOut { .. }) => (504, GATEWAY_TIMEOUT, "dns_timeout"),
        DialError::Dns(_) => (502, BAD_GATEWAY, "dns_error"),
        DialError::Local { .. } => (503, "Service Unavailable", "proxy_internal_error"),
        DialError::Prohibited { .. } => (502, BAD_GATEWAY, "destination_ip_prohibited"),
        DialError::Refused { .. } => (502, BAD_GATEWAY, "connection_refused"),
        DialError::TimedOut { .. } => (504, GATEWAY_TIMEOUT, "connection_timeout"),
        DialError::Unreachable { .. } => (502, BAD_GATEWAY, "destination_ip_unroutable"),
    }
}

fn dial_reason(error: &DialError) -> &'static str {
    match error {
        DialError::Dns(DnsError::Failed { .. }) => "dns-failed",
        DialError::Dns(DnsError::NoAddress(_) | DnsError::NotFound(_)) => "dns-no-address",
        DialError::Dns(DnsError::TimedOut { .. }) => "dns-timed-out",
        DialError::Local { .. } => "local-error",
        DialError::Prohibited { .. } => "address-prohibited",
        DialError::Refused { .. } => "connection-refused",
        DialError::TimedOut { .. } => "connection-timed-out",
        DialError::Unreachable { .. } => "unreachable",
    }
}

/// A string as in RFC 9651 section 3.3.3: printable ASCII, quoted.
fn structured_string(text: &str) -> String {
    let printable = text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' });
    let escaped =
        printable.flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c]));
    ['"'].into_iter().chain(escaped).chain(['"']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::time::Duration;

    use hickory_resolver::net::NetError;
    use tunnel::destination::Destination;
    use tunnel::host::DnsName;
    use tunnel::label::Label;
    use tunnel::metrics::{OUTCOMES, REFUSAL_REASONS};

    #[test]
    fn an_answer_says_why_in_the_words_of_rfc_9209() {
        let answer = Refusal::NoEnclave(Cid::LOCAL).answer();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        assert_eq!(lines.next(), Some("HTTP/1.1 403 Forbidden"));
        assert_eq!(
            lines.next(),
            Some(
                "Proxy-Status: outproxy; error=http_request_denied; \
                 details=\"CID 1 is no enclave, and no rule lists it in `cids`\""
            )
        );
        assert!(lines.any(|line| line == format!("Content-Length: {}", body.len())));
    }

    #[test]
    fn every_refusal_has_a_reason_of_the_catalogue_and_every_reason_a_refusal() {
        let mut reasons: Vec<_> = one_of_each().iter().map(Refusal::reason).collect();
        reasons.sort_unstable();
        reasons.dedup();
        assert_eq!(reasons, REFUSAL_REASONS);
        for refusal in one_of_each() {
            assert!(OUTCOMES.contains(&refusal.word()), "{refusal}");
        }
    }

    fn one_of_each() -> Vec<Refusal> {
        let destination = || "hsm.example:2223".parse::<Destination>().unwrap();
        let name = || "hsm.example".parse::<DnsName>().unwrap();
        let rule = || "hsm".parse::<Label>().unwrap();
        let addr = SocketAddr::from(([10, 0, 10, 103], 2223));
        let (peer, after) = (None, Duration::ZERO);
        let source = || io::Error::other("no");
        let cluster = "cluster-teeultuftgy".parse().unwrap();
        let disallowed = [
            allowlist::Refusal::Draining { rule: rule(), host: destination().host },
            allowlist::Refusal::Host(destination().host),
            allowlist::Refusal::Peer { rule: rule(), destination: destination(), peer },
            allowlist::Refusal::Port { rule: rule(), destination: destination() },
        ];
        let dial = [
            DnsError::failed(&name(), NetError::Busy).into(),
            DnsError::NoAddress(name()).into(),
            DnsError::NotFound(name()).into(),
            DnsError::TimedOut { name: name(), after }.into(),
            DialError::Local { addr, source: source() },
            DialError::Prohibited { ip: addr.ip() },
            DialError::Refused { addr },
            DialError::TimedOut { addr, after },
            DialError::Unreachable { addr, source: source() },
        ];
        let others = [
            Down { address: addr, lasts: after, was_tried: false, reason: "no".into() }.into(),
            Refusal::Gone(source()),
            Refusal::HsmsUnknown { cluster, reason: "no".into() },
            Refusal::Malformed(RequestError::TooLong),
            Refusal::NoEnclave(Cid::LOCAL),
            LimitReached { rule: rule(), limit: 7 }.into(),
            Refusal::Silent,
            Refusal::Stopped(Stop::Disallowed),
            Refusal::Stopped(Stop::Shutdown),
            Refusal::TooMany,
            Refusal::TooManyEnclaves,
            Refusal::TooManySessions,
        ];
        let disallowed = disallowed.into_iter().map(Refusal::from);
        disallowed.chain(dial.into_iter().map(Refusal::from)).chain(others).collect()
    }

    #[test]
    fn a_failed_resolution_names_the_response_code() {
        let name = "no.example".parse().unwrap();
        let answer = Refusal::from(DialError::from(DnsError::NotFound(name))).answer();
        assert!(answer.contains("error=dns_error; rcode=\"NXDOMAIN\"; details="), "{answer}");
    }

    #[test]
    fn a_structured_string_holds_no_byte_that_could_end_it() {
        assert_eq!(structured_string("a\"b\\c\r\nd\u{e9}"), r#""a\"b\\c??d?""#);
    }
}
