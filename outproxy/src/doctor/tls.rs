//! Whether a server speaks TLS, and which certificate it shows.
//!
//! Nothing is sent but what the handshake needs, so nothing depends on whether the certificate is
//! true.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, verify_server_name};
use rustls::crypto::{self, CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme,
};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout};
use tunnel::host::{Clamped, Host};
use tunnel::stream::Stream;

use super::certificate::Certificate;

/// How a server greets who speaks TLS to it.
#[derive(Debug)]
pub(super) struct Greeting {
    pub(super) what: What,
    /// How long it took.
    pub(super) took: Duration,
    /// The version that was agreed on.
    pub(super) version: Option<&'static str>,
    /// The certificates that it showed, its own first; `None` for one that makes no sense.
    pub(super) chain: Vec<Option<Certificate>>,
    /// Whether its own certificate is one for the name that was asked for.
    pub(super) is_for_name: bool,
    /// Whether it wants one, too.
    pub(super) wants_client_certificate: bool,
}

/// What a server speaks.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum What {
    /// It closed the connection, and said nothing.
    Closed,
    /// Something else, which begins so.
    Other(Clamped),
    /// It said nothing.
    Silence,
    /// TLS, to the end of the handshake.
    Tls,
    /// TLS, but the handshake failed.
    Failed(String),
    /// TLS, but its private key is not that of its certificate.
    WrongKey,
}

/// Greets the server `host`, for no longer than `limit`.
pub(super) async fn greet(stream: &mut Stream, host: &Host, limit: Duration) -> Greeting {
    let witness = Arc::new(Witness::default());
    let started = Instant::now();
    let (what, version) = match Handshake::new(host, &witness) {
        Err(error) => (What::Failed(error.to_string()), None),
        Ok(mut handshake) => {
            let end = timeout(limit, handshake.run(stream)).await;
            let end = end.unwrap_or(End::TimedOut(limit));
            (handshake.judge(end, &witness), handshake.version())
        }
    };
    let seen = witness.seen();
    Greeting {
        what,
        took: started.elapsed(),
        version,
        chain: seen.chain.iter().map(|der| Certificate::parse(der)).collect(),
        is_for_name: seen.chain.first().is_some_and(|own| is_for(own, host)),
        wants_client_certificate: seen.wants_client_certificate,
    }
}

fn is_for(certificate: &CertificateDer<'_>, host: &Host) -> bool {
    let Some(name) = server_name(host) else { return false };
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|certificate| verify_server_name(&certificate, &name).is_ok())
}

fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Ip(ip) => Some((*ip).into()),
        Host::Name(name) => name.to_string().try_into().ok(),
    }
}

struct Handshake {
    tls: ClientConnection,
    sent: Vec<u8>,
    heard: Vec<u8>,
}

/// How a handshake ended.
enum End {
    Done,
    Tls(Error),
    Stream(io::Error),
    TimedOut(Duration),
}

impl Handshake {
    fn new(host: &Host, witness: &Arc<Witness>) -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(witness) as _)
            .with_client_cert_resolver(Arc::clone(witness) as _);
        config.enable_sni = matches!(host, Host::Name(_));
        let name = server_name(host).ok_or(Error::General("no name for TLS".into()))?;
        let tls = ClientConnection::new(Arc::new(config), name)?;
        Ok(Self { tls, sent: Vec::new(), heard: Vec::new() })
    }

    async fn run(&mut self, stream: &mut Stream) -> End {
        let mut chunk = [0; 4096];
        loop {
            if let Err(error) = self.send(stream).await {
                // What it said before it closed tells more.
                while let Ok(n @ 1..) = stream.read(&mut chunk).await {
                    self.hear(&chunk[..n]);
                }
                return End::Stream(error);
            }
            if !self.tls.is_handshaking() {
                return End::Done;
            }
            let n = match stream.read(&mut chunk).await {
                Ok(0) => return End::Stream(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) => return End::Stream(error),
            };
            self.hear(&chunk[..n]);
            let mut rest = &chunk[..n];
            while !rest.is_empty() {
                let taken = match self.tls.read_tls(&mut rest) {
                    Ok(taken) => taken,
                    Err(error) => return End::Stream(error),
                };
                if let Err(error) = self.tls.process_new_packets() {
                    // The alert: the server is to know that this was the end.
                    let _ = self.send(stream).await;
                    return End::Tls(error);
                }
                if taken == 0 {
                    break;
                }
            }
        }
    }

    async fn send(&mut self, stream: &mut Stream) -> io::Result<()> {
        while self.tls.wants_write() {
            let mut bytes = Vec::new();
            self.tls.write_tls(&mut bytes)?;
            if self.sent.len() < REMEMBERED {
                self.sent.extend(&bytes);
            }
            stream.write_all(&bytes).await?;
        }
        Ok(())
    }

    fn hear(&mut self, bytes: &[u8]) {
        let room = REMEMBERED.saturating_sub(self.heard.len());
        self.heard.extend(&bytes[..room.min(bytes.len())]);
    }

    fn judge(&self, end: End, witness: &Witness) -> What {
        let reason = match end {
            End::Done => return What::Tls,
            End::Tls(Error::InvalidCertificate(CertificateError::BadSignature)) => {
                return What::WrongKey;
            }
            End::Tls(error) => error.to_string(),
            End::Stream(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                "it closes the connection".into()
            }
            End::Stream(error) => error.to_string(),
            End::TimedOut(_) if self.heard.is_empty() => return What::Silence,
            End::TimedOut(limit) => format!("it takes longer than {limit:?}"),
        };
        if self.heard.is_empty() {
            return What::Closed;
        }
        // An echo is a handshake only by its looks.
        let is_echo = self.sent.starts_with(&self.heard) || self.heard.starts_with(&self.sent);
        let is_tls = matches!(self.heard[..], [ALERT | HANDSHAKE, 3, ..]) && !is_echo;
        if is_tls || !witness.seen().chain.is_empty() {
            return What::Failed(reason);
        }
        let begin = &self.heard[..self.heard.len().min(SHOWN)];
        What::Other(Clamped::from(String::from_utf8_lossy(begin).trim_end()))
    }

    fn version(&self) -> Option<&'static str> {
        Some(match self.tls.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_2 => "TLS 1.2",
            rustls::ProtocolVersion::TLSv1_3 => "TLS 1.3",
            _ => "TLS",
        })
    }
}

/// Sees what the server shows, and lets it pass.
#[derive(Default)]
struct Witness(Mutex<Seen>);

#[derive(Clone, Default)]
struct Seen {
    chain: Vec<CertificateDer<'static>>,
    wants_client_certificate: bool,
}

impl Witness {
    fn seen(&self) -> Seen {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = [own].into_iter().chain(others).take(MOST_CERTIFICATES);
        let chain = chain.map(|certificate| certificate.clone().into_owned()).collect();
        self.note(|seen| seen.chain = chain);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        excused(crypto::verify_tls12_signature(message, certificate, signature, &algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        excused(crypto::verify_tls13_signature(message, certificate, signature, &algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// rustls understands no certificates of version 1. A signature that is wrong remains so.
fn excused(
    result: Result<HandshakeSignatureValid, Error>,
) -> Result<HandshakeSignatureValid, Error> {
    match result {
        Err(error @ Error::InvalidCertificate(CertificateError::BadSignature)) => Err(error),
        _ => Ok(HandshakeSignatureValid::assertion()),
    }
}

fn provider() -> CryptoProvider {
    ring::default_provider()
}

impl ResolvesClientCert for Witness {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.note(|seen| seen.wants_client_certificate = true);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").finish_non_exhaustive()
    }
}

/// Content types of TLS (RFC 8446 section 5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
/// How much of what goes to and fro is kept, in bytes.
const REMEMBERED: usize = 256;
/// How much of it people see, in bytes.
const SHOWN: usize = 48;
/// A chain has few; a server may send many.
const MOST_CERTIFICATES: usize = 16;
