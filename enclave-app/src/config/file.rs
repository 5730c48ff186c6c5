//! The keys of enclave-app.toml, as they are written.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;
use tunnel::endpoint::Endpoint;
use tunnel::limits::{MaxConnections, time, time_or_zero};
use tunnel::log::LogConfig;

use super::values::{AbsolutePath, Sessions, Time, TokenLabel};
use crate::secret::CredentialSource;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) listen: Option<Spanned<Endpoint>>,
    #[serde(default)]
    pub(super) secret: SecretFile,
    #[serde(default)]
    pub(super) hsm: HsmFile,
    #[serde(default)]
    pub(super) limits: LimitsFile,
    #[serde(default)]
    pub(super) log: LogConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table `[secret]`", rename_all = "kebab-case")]
pub(super) struct SecretFile {
    pub(super) id: Option<Spanned<String>>,
    pub(super) region: Option<Spanned<String>>,
    pub(super) credentials: CredentialSource,
    pub(super) ca_bundle: Option<AbsolutePath>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table `[hsm]`", rename_all = "kebab-case")]
pub(super) struct HsmFile {
    pub(super) module: Option<AbsolutePath>,
    pub(super) token: Option<TokenLabel>,
    pub(super) sessions: Option<Sessions>,
    pub(super) call_timeout: Option<Spanned<Time>>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table `[limits]`", rename_all = "kebab-case")]
pub(super) struct LimitsFile {
    pub(super) max_connections: MaxConnections,
    #[serde(deserialize_with = "time")]
    pub(super) header_timeout: Duration,
    #[serde(deserialize_with = "time")]
    pub(super) body_timeout: Duration,
    pub(super) request_timeout: Option<Spanned<Time>>,
    #[serde(deserialize_with = "time_or_zero")]
    pub(super) shutdown_grace: Duration,
}

impl Default for LimitsFile {
    fn default() -> Self {
        Self {
            max_connections: DEFAULT_MAX_CONNECTIONS,
            header_timeout: DEFAULT_HEADER_TIMEOUT,
            body_timeout: DEFAULT_BODY_TIMEOUT,
            request_timeout: None,
            shutdown_grace: DEFAULT_SHUTDOWN_GRACE,
        }
    }
}

const DEFAULT_MAX_CONNECTIONS: MaxConnections = match MaxConnections::new(256) {
    Some(number) => number,
    None => unreachable!(),
};
const DEFAULT_HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_BODY_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
