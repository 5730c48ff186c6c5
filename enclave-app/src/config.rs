//! What is configured in the enclave's image, and so measured with it.

mod file;
mod values;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use protocol::request::SecretName;
use toml::Spanned;
use tunnel::config::{self, ConfigError, Mistakes, Report};
use tunnel::destination::Destination;
use tunnel::endpoint::{Cid, Endpoint, VsockPort};
use tunnel::host::Host;
use tunnel::limits::MaxConnections;
use tunnel::log::LogConfig;

use self::file::{File, HsmFile, LimitsFile, SecretFile};
use self::values::Time;
use crate::hsm::{CALL_TIMEOUT, HsmConfig, Program, REQUEST_TIMEOUT};
use crate::secret::{CredentialSource, InvalidName, check_name};
use crate::wire::Open;

/// The validated configuration of enclave-app. Every key has a default: an empty file is one.
#[derive(Debug)]
pub struct Config {
    /// Where requests are served. A `tcp:` endpoint has an address, not a name.
    pub listen: Endpoint,
    /// Where the PIN comes from.
    pub secret: SecretTable,
    /// The HSM. Also how long a request may take, from its last byte on.
    pub hsm: HsmConfig,
    /// The bounds of connections and requests in number and time.
    pub limits: Limits,
    /// What is logged, and how.
    pub log: LogConfig,
}

/// The `[secret]` table: a [`secret::SecretConfig`](crate::secret::SecretConfig) whose bundle was
/// not read yet.
#[derive(Debug)]
pub struct SecretTable {
    /// The secret; nothing if each request names it.
    pub name: Option<SecretName>,
    /// Where the AWS credentials come from.
    pub credentials: CredentialSource,
    /// A PEM file of roots that are trusted beside those compiled in.
    pub ca_bundle: Option<PathBuf>,
}

/// The `[limits]` table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// How many connections may be open at once.
    pub max_connections: MaxConnections,
    /// How long a client may take to begin a request, after it connected or was answered.
    pub header_timeout: Duration,
    /// How long it may then take to send the rest, or to take the answer.
    pub body_timeout: Duration,
    /// How long requests may take to finish after SIGTERM. Zero: they are dropped at once.
    pub shutdown_grace: Duration,
}

impl Config {
    /// Loads the file at `path`. Touches nothing else.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or has mistakes.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        config::load::<File, Self>(path)
    }
}

impl FromStr for Config {
    type Err = Report;

    /// Parses the text of a file.
    fn from_str(text: &str) -> Result<Self, Report> {
        config::parse::<File, Self>(text)
    }
}

impl TryFrom<File> for Config {
    type Error = Mistakes;

    fn try_from(file: File) -> Result<Self, Mistakes> {
        let mut mistakes = Mistakes::default();
        if let Some(listen) = &file.listen {
            refuse_name(listen, &mut mistakes);
        }
        refuse_unanswerable_hang(&file.hsm, &file.limits, &mut mistakes);
        let request_timeout = time_or(file.limits.request_timeout.as_ref(), REQUEST_TIMEOUT);
        let secret = secret(file.secret, &mut mistakes);
        mistakes.or(Self {
            listen: file.listen.map_or_else(default_listen, Spanned::into_inner),
            secret,
            hsm: hsm(file.hsm, request_timeout),
            limits: file.limits.into(),
            log: file.log,
        })
    }
}

impl From<LimitsFile> for Limits {
    fn from(file: LimitsFile) -> Self {
        Self {
            max_connections: file.max_connections,
            header_timeout: file.header_timeout,
            body_timeout: file.body_timeout,
            shutdown_grace: file.shutdown_grace,
        }
    }
}

fn secret(file: SecretFile, mistakes: &mut Mistakes) -> SecretTable {
    let name = match (file.id, file.region) {
        (Some(id), Some(region)) => {
            let (id_at, region_at) = (id.span(), region.span());
            let name = SecretName { id: id.into_inner(), region: region.into_inner() };
            if let Err(error) = check_name(&name) {
                let at = if error == InvalidName::Region { region_at } else { id_at };
                mistakes.add(at, error.to_string());
            }
            Some(name)
        }
        (Some(id), None) => {
            mistakes.add(
                id.span(),
                "a secret is in a region; write `region = \"ap-southeast-1\"`, or where it is",
            );
            None
        }
        (None, Some(region)) => {
            mistakes.add(
                region.span(),
                "a region without a secret; write `id = \"cloudhsm/...\"`, or remove `region`",
            );
            None
        }
        (None, None) => None,
    };
    let ca_bundle = file.ca_bundle.map(PathBuf::from);
    SecretTable { name, credentials: file.credentials, ca_bundle }
}

fn hsm(file: HsmFile, request_timeout: Duration) -> HsmConfig {
    let call_timeout = time_or(file.call_timeout.as_ref(), CALL_TIMEOUT);
    let open = Open {
        module: file.module.map_or_else(|| DEFAULT_MODULE.into(), PathBuf::from),
        token: file.token.map(String::from),
        sessions: file.sessions.map_or(DEFAULT_SESSIONS, usize::from),
    };
    HsmConfig { open, call_timeout, request_timeout, program: Program::default() }
}

fn refuse_name(listen: &Spanned<Endpoint>, mistakes: &mut Mistakes) {
    if let Endpoint::Tcp(Destination { host: Host::Name(name), port }) = listen.get_ref() {
        mistakes.add(
            listen.span(),
            format!(
                "`{name}` may stand for several addresses; \
                 write the one to listen on, as in `tcp:127.0.0.1:{port}`"
            ),
        );
    }
}

/// Refuses a call that may take longer than the request that waits for it: nobody would be left to
/// be told that the module hangs.
fn refuse_unanswerable_hang(hsm: &HsmFile, limits: &LimitsFile, mistakes: &mut Mistakes) {
    let call = time_or(hsm.call_timeout.as_ref(), CALL_TIMEOUT);
    let request = time_or(limits.request_timeout.as_ref(), REQUEST_TIMEOUT);
    let (call_span, request_span) = (
        hsm.call_timeout.as_ref().map(Spanned::span),
        limits.request_timeout.as_ref().map(Spanned::span),
    );
    if call < request {
        return;
    }
    let message = format!(
        "a request may take `{}`, and a call of the module that it waits for `{}`; \
         write a shorter `call-timeout` or a longer `request-timeout`",
        format_duration(request),
        format_duration(call),
    );
    match (call_span, request_span) {
        (Some(call), Some(request)) => mistakes.add_clash(call, request, message),
        (Some(at), None) | (None, Some(at)) => mistakes.add(at, message),
        (None, None) => mistakes.add_missing(message),
    }
}

fn time_or(time: Option<&Spanned<Time>>, default: Duration) -> Duration {
    time.map_or(default, |time| time.get_ref().0)
}

fn default_listen() -> Endpoint {
    Endpoint::Vsock { cid: Cid::ANY, port: DEFAULT_PORT }
}

const DEFAULT_PORT: VsockPort = match VsockPort::new(5000) {
    Some(port) => port,
    None => unreachable!(),
};
const DEFAULT_MODULE: &str = "/opt/cloudhsm/lib/libcloudhsm_pkcs11.so";
const DEFAULT_SESSIONS: usize = 4;

#[cfg(test)]
mod tests;
