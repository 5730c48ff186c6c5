//! What is thought of an upstream that answers, and of the TLS that it speaks.

use std::time::Duration;

use serde::Serialize;
use tunnel::destination::Destination;
use tunnel::examination::{Finding, in_milliseconds, milliseconds};
use tunnel::host::Host;

use super::certificate::{Authorities, Certificate, CertificateDetails, now};
use super::tls::{Greeting, What};

/// What scripts are told of a TLS server.
#[derive(Clone, Debug, Serialize)]
pub struct TlsDetails {
    /// The version that was agreed on, if the handshake came so far.
    pub version: Option<&'static str>,
    /// How long it took, after the connection was there.
    pub milliseconds: f64,
    /// Whether it wants a certificate from its clients.
    pub wants_client_certificate: bool,
    /// Whether an authority of `--ca` has issued its certificate; nothing if nobody asked.
    pub issued_by_ca: Option<bool>,
    /// What it showed, its own certificate first.
    pub certificates: Vec<CertificateDetails>,
}

impl TlsDetails {
    pub(super) fn new(greeting: &Greeting, authorities: Option<&Authorities>) -> Option<Self> {
        let is_tls = matches!(greeting.what, What::Tls | What::Failed(_) | What::WrongKey);
        let now = now();
        is_tls.then(|| Self {
            version: greeting.version,
            milliseconds: milliseconds(greeting.took),
            wants_client_certificate: greeting.wants_client_certificate,
            issued_by_ca: authorities
                .map(|authorities| authorities.path(&readable(greeting)).is_some()),
            certificates: greeting
                .chain
                .iter()
                .flatten()
                .map(|certificate| certificate.details(now))
                .collect(),
        })
    }
}

/// Judges what answered within `connected`. `authorities` are those that must have issued its
/// certificate, if it matters who has.
pub(super) fn judge(
    subject: String,
    destination: &Destination,
    connected: Duration,
    greeting: &Greeting,
    authorities: Option<&Authorities>,
) -> Finding {
    let connected = format!("connected in {}", in_milliseconds(connected));
    let must_be_tls = authorities.is_some() || is_https(destination);
    let took = in_milliseconds(greeting.took);
    let no_tls = |what: &str| {
        let found = format!("{connected}; {what}");
        if must_be_tls {
            Finding::failed(subject.clone(), "no-tls", found, NO_TLS)
        } else {
            Finding::ok(subject.clone(), found)
        }
    };
    match &greeting.what {
        What::Silence => no_tls("no TLS: it is silent"),
        What::Closed => no_tls("no TLS: it closes the connection"),
        What::Other(words) => no_tls(&format!("no TLS: it says `{words}`")),
        What::WrongKey => Finding::failed(
            subject,
            "wrong-key",
            format!("{connected}; its private key is not that of its certificate"),
            "give the server the key that belongs to its certificate",
        ),
        // It may well refuse who has no certificate.
        What::Tls | What::Failed(_)
            if greeting.what == What::Tls || greeting.wants_client_certificate =>
        {
            let version = greeting.version.unwrap_or("TLS");
            let wanting =
                if greeting.wants_client_certificate { "; wants a client certificate" } else { "" };
            let found = format!("{connected}; {version} in {took}{wanting}");
            judge_chain(subject, destination, &found, greeting, authorities)
        }
        What::Tls | What::Failed(_) => {
            let reason = match &greeting.what {
                What::Failed(reason) => reason.as_str(),
                _ => "",
            };
            let found = format!("{connected}; the TLS handshake fails after {took}: {reason}");
            Finding::failed(subject, "tls-failed", found, HANDSHAKE).excused_if(!must_be_tls)
        }
    }
}

fn judge_chain(
    subject: String,
    destination: &Destination,
    found: &str,
    greeting: &Greeting,
    authorities: Option<&Authorities>,
) -> Finding {
    let Some(Some(own)) = greeting.chain.first() else {
        let found = format!("{found}; its certificate makes no sense");
        return Finding::warning(subject, "strange-certificate", found, STRANGE);
    };
    let (now, chain) = (now(), readable(greeting));
    let shown = describe(own, now);
    let found = format!("{found}; {shown}");
    let path = authorities.map(|authorities| authorities.path(&chain));
    if matches!(path, Some(None)) {
        return Finding::failed(subject, "wrong-issuer", format!("{found}; {WRONG}"), ISSUER);
    }
    let path = path.flatten();
    let is_vouched_for = path.is_some();
    let must_hold = path.unwrap_or_else(|| vec![own]);
    if let Some(worst) = must_hold.iter().find_map(|certificate| judge_dates(certificate, now)) {
        return worst.into_finding(subject, &found);
    }
    let is_wrong_name =
        is_https(destination) && matches!(destination.host, Host::Name(_)) && !greeting.is_for_name;
    if is_wrong_name {
        let found = format!("{found}; it is not for `{}`", destination.host);
        return Finding::warning(subject, "wrong-name", found, NAME);
    }
    let mut shown = must_hold.iter().copied().chain(&chain);
    if let Some(soon) = shown.find_map(|certificate| is_soon(certificate, now)) {
        return soon.into_finding(subject, &found);
    }
    let by = if is_vouched_for { ", as `--ca` says" } else { "" };
    Finding::ok(subject, format!("{found}{by}"))
}

/// Something about the dates of a certificate.
struct Dated {
    problem: &'static str,
    what: String,
    is_wrong: bool,
}

impl Dated {
    fn into_finding(self, subject: String, found: &str) -> Finding {
        let found = format!("{found}; {}", self.what);
        let advice = match self.problem {
            "not-yet-valid" => CLOCK,
            _ => RENEW,
        };
        Finding::failed(subject, self.problem, found, advice).excused_if(!self.is_wrong)
    }
}

fn judge_dates(certificate: &Certificate, now: i64) -> Option<Dated> {
    let whose = certificate.subject();
    if certificate.not_after() < now {
        let what = format!("that of `{whose}` has expired");
        Some(Dated { problem: "expired", what, is_wrong: true })
    } else if certificate.not_before() > now {
        let what = format!("that of `{whose}` does not hold yet");
        Some(Dated { problem: "not-yet-valid", what, is_wrong: true })
    } else {
        None
    }
}

/// Whether a certificate that holds ends soon, or one that is only shown has ended. Servers show
/// some that nobody needs.
fn is_soon(certificate: &Certificate, now: i64) -> Option<Dated> {
    let (whose, days) = (certificate.subject(), certificate.days_left(now));
    if days >= SOON {
        return None;
    }
    let what = if days < 0 {
        format!("that of `{whose}`, which it shows, too, has expired")
    } else {
        format!("that of `{whose}` expires in less than {} days", days + 1)
    };
    Some(Dated { problem: "expires-soon", what, is_wrong: false })
}

fn describe(certificate: &Certificate, now: i64) -> String {
    let days = certificate.days_left(now);
    let details = certificate.details(now);
    let left = if days < 0 { format!("for {} days", -days) } else { format!("{days} days left") };
    let until = details.not_after.split('T').next().unwrap_or_default();
    let until = if days < 0 { format!("expired {until}") } else { format!("until {until}") };
    format!("certificate of `{}` by `{}`, {until}, {left}", details.subject, details.issuer)
}

/// What can be read of the chain, as far as it begins with what can be read.
fn readable(greeting: &Greeting) -> Vec<Certificate> {
    match greeting.chain.first() {
        Some(Some(_)) => greeting.chain.iter().flatten().cloned().collect(),
        _ => Vec::new(),
    }
}

/// Whether whoever connects speaks TLS for sure.
pub(super) fn is_https(destination: &Destination) -> bool {
    destination.port.get() == 443
}

/// How many days before its end a certificate is renewed at the latest.
const SOON: i64 = 14;
const CLOCK: &str = "see that the clock of this machine is right (`timedatectl`), and that of \
     whoever made the certificate";
const HANDSHAKE: &str = "see what it speaks: `openssl s_client -connect`; this needs TLS 1.2 with \
     ECDHE, or TLS 1.3";
const ISSUER: &str = "for an HSM, give the customerCA.crt with which its cluster was initialised; \
     if that is the one, something else answers here in the place of the HSM";
const NAME: &str = "clients that look at the name will refuse it: see that the name leads to the \
     right server";
const NO_TLS: &str = "see that what listens there is the service that is meant, and speaks TLS";
const RENEW: &str = "renew the certificate; that of an HSM comes with its cluster";
const STRANGE: &str = "see what it shows: `openssl s_client -showcerts -connect`";
const WRONG: &str = "no authority of `--ca` has issued it";
