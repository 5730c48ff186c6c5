//! Secrets that must not be seen, and where they would be seen.

use std::io;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use enclave_app::secret::Ask;
use protocol::request::{Credentials, SecretName};
use tracing::Subscriber;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;
use zeroize::Zeroizing;

pub(crate) const ACCESS_KEY: &str = "AKIACANARYCANARY";
pub(crate) const SECRET_KEY: &str = "canary-of-the-secret-access-key";
pub(crate) const SESSION_TOKEN: &str = "canary-of-the-session-token";
pub(crate) const PASSWORD: &str = "canary-of-the-password";

/// The secret's value.
pub(crate) fn value() -> String {
    serde_json::json!({"HSM_USER": "cu", "HSM_PASSWORD": PASSWORD}).to_string()
}

/// The secret.
pub(crate) fn name() -> SecretName {
    SecretName { id: "cloudhsm/cluster-1".to_owned(), region: "ap-southeast-1".to_owned() }
}

/// A request with credentials.
pub(crate) fn ask() -> Ask {
    let credentials = Credentials {
        access_key_id: Zeroizing::new(ACCESS_KEY.to_owned()),
        secret_access_key: Zeroizing::new(SECRET_KEY.to_owned()),
        session_token: Some(Zeroizing::new(SESSION_TOKEN.to_owned())),
    };
    Ask { credentials: Some(credentials), name: None }
}

/// Fails if a text shows a secret, as it is or in one of the forms of bytes.
pub(crate) fn assert_absent(text: &str) {
    for secret in [SECRET_KEY, SESSION_TOKEN, PASSWORD] {
        for form in forms(secret) {
            let found = text.find(&form);
            let from = found.unwrap_or_default();
            let line = &text[text[..from].rfind('\n').unwrap_or_default()..from];
            assert!(found.is_none(), "`{secret}` is logged as `{form}`: {line}");
        }
    }
}

fn forms(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{bytes:?}").trim_matches(['[', ']']).to_owned();
    let mut forms = vec![secret.to_owned(), hex.to_uppercase(), hex, list];
    // Base64 depends on where in a group of three bytes the secret begins.
    forms.extend((0..3).map(|skipped| {
        let whole = (bytes.len() - skipped) / 3 * 3;
        STANDARD.encode(&bytes[skipped..skipped + whole])
    }));
    forms
}

/// What is logged by every crate and at every level.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Logs this thread, until the guard is dropped.
    pub(crate) fn start(&self) -> DefaultGuard {
        tracing::subscriber::set_default(self.subscriber())
    }

    /// Logs all threads of this process, for good.
    pub(crate) fn start_everywhere(&self) {
        tracing::subscriber::set_global_default(self.subscriber()).unwrap();
    }

    fn subscriber(&self) -> impl Subscriber + Send + Sync + use<> {
        tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_span_events(FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(self.clone())
            .finish()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
