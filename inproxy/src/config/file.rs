//! The keys of inproxy.toml, as they are written.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;
use tunnel::cidr::Cidr;
use tunnel::config::List;
use tunnel::destination::Port;
use tunnel::endpoint::Endpoint;
use tunnel::host::Host;
use tunnel::label::Label;
use tunnel::limits::{self, Limits, MaxConnections};
use tunnel::log::LogConfig;

use super::DEFAULT_OUTPROXY_RETRY;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) outproxy: Option<Spanned<Endpoint>>,
    #[serde(default)]
    pub(super) await_answer: bool,
    #[serde(default)]
    pub(super) forward: Vec<ForwardFile>,
    #[serde(default)]
    pub(super) limits: LimitsFile,
    #[serde(default)]
    pub(super) telemetry: TelemetryFile,
    #[serde(default)]
    pub(super) log: LogConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table `[telemetry]`",
    rename_all = "kebab-case"
)]
pub(super) struct TelemetryFile {
    pub(super) enabled: Option<bool>,
    pub(super) application_output: Option<Spanned<bool>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table `[[forward]]`", rename_all = "kebab-case")]
pub(super) struct ForwardFile {
    pub(super) name: Spanned<Label>,
    pub(super) addresses: Option<List<Cidr>>,
    pub(super) host: Option<Spanned<Host>>,
    pub(super) ports: List<Port>,
    pub(super) via: Option<Spanned<Endpoint>>,
}

/// The keys of [`Limits`] and one more.
///
/// They stand here again because serde's `flatten` would let unknown keys pass, and would report
/// other mistakes without their line.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table `[limits]`", rename_all = "kebab-case")]
pub(super) struct LimitsFile {
    max_connections: MaxConnections,
    #[serde(deserialize_with = "limits::time")]
    connect_timeout: Duration,
    #[serde(deserialize_with = "limits::time")]
    header_timeout: Duration,
    #[serde(deserialize_with = "limits::time_or_never")]
    idle_timeout: Option<Duration>,
    #[serde(deserialize_with = "limits::time")]
    half_close_timeout: Duration,
    #[serde(deserialize_with = "limits::time_or_zero")]
    shutdown_grace: Duration,
    #[serde(deserialize_with = "limits::time_or_zero")]
    pub(super) outproxy_retry: Duration,
}

impl Default for LimitsFile {
    fn default() -> Self {
        // Taken apart without `..`, so that a key that `Limits` gains is not forgotten here.
        let Limits {
            max_connections,
            connect_timeout,
            header_timeout,
            idle_timeout,
            half_close_timeout,
            shutdown_grace,
        } = Limits::default();
        Self {
            max_connections,
            connect_timeout,
            header_timeout,
            idle_timeout,
            half_close_timeout,
            shutdown_grace,
            outproxy_retry: DEFAULT_OUTPROXY_RETRY,
        }
    }
}

impl From<LimitsFile> for Limits {
    fn from(file: LimitsFile) -> Self {
        Self {
            max_connections: file.max_connections,
            connect_timeout: file.connect_timeout,
            header_timeout: file.header_timeout,
            idle_timeout: file.idle_timeout,
            half_close_timeout: file.half_close_timeout,
            shutdown_grace: file.shutdown_grace,
        }
    }
}
