//! The bounds of connections in number and time.

use std::fmt;
use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use serde::{Deserialize, Deserializer};
use thiserror::Error;

/// The `[limits]` table.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, expecting = "a table `[limits]`", rename_all = "kebab-case")]
pub struct Limits {
    /// How many connections may be open at once, over all listeners.
    pub max_connections: MaxConnections,
    /// How long one attempt to connect to the upstream may take.
    #[serde(deserialize_with = "time")]
    pub connect_timeout: Duration,
    /// How long the other end may take to send the whole CONNECT request, or the answer to it.
    #[serde(deserialize_with = "time")]
    pub header_timeout: Duration,
    /// How long a connection may be silent in both directions. `None`, written `0s`: for ever.
    #[serde(deserialize_with = "time_or_never")]
    pub idle_timeout: Option<Duration>,
    /// How long a half-closed connection may be silent, counted from the last byte.
    #[serde(deserialize_with = "time")]
    pub half_close_timeout: Duration,
    /// How long connections may take to finish after SIGTERM. Zero: they are closed at once.
    #[serde(deserialize_with = "time_or_zero")]
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: DEFAULT_MAX_CONNECTIONS,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            header_timeout: DEFAULT_HEADER_TIMEOUT,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            half_close_timeout: DEFAULT_HALF_CLOSE_TIMEOUT,
            shutdown_grace: DEFAULT_SHUTDOWN_GRACE,
        }
    }
}

/// A number of connections: 1 to 1000000.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "i64")]
pub struct MaxConnections(usize);

impl MaxConnections {
    /// The most that can be configured. A connection takes two descriptors, and Linux gives a
    /// process at most 1048576 (`fs.nr_open`, see proc(5)) unless it is told otherwise.
    pub const MAX: usize = 1_000_000;

    /// So many, if that is in range.
    #[must_use]
    pub const fn new(number: usize) -> Option<Self> {
        match number {
            1..=Self::MAX => Some(Self(number)),
            _ => None,
        }
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> usize {
        self.0
    }
}

impl TryFrom<i64> for MaxConnections {
    type Error = MaxConnectionsError;

    fn try_from(number: i64) -> Result<Self, MaxConnectionsError> {
        usize::try_from(number).ok().and_then(Self::new).ok_or(MaxConnectionsError(number))
    }
}

impl fmt::Display for MaxConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number of connections that is out of range.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("`{0}` connections are out of range; write a number from 1 to {max}", max = MaxConnections::MAX)]
pub struct MaxConnectionsError(i64);

/// Deserializes a time from [`MIN_TIME`] to [`MAX_TIME`], such as `5s`.
///
/// # Errors
///
/// If it is no duration, or out of range.
pub fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    in_range(humantime_serde::deserialize(deserializer)?)
}

/// As [`time`], but `0s` is allowed too.
///
/// # Errors
///
/// If it is no duration, or out of range.
pub fn time_or_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    time_or_never(deserializer).map(Option::unwrap_or_default)
}

/// As [`time`], but `0s` is allowed too and means never.
///
/// # Errors
///
/// If it is no duration, or out of range.
pub fn time_or_never<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    match humantime_serde::deserialize(deserializer)? {
        Duration::ZERO => Ok(None),
        time => in_range(time).map(Some),
    }
}

fn in_range<E: serde::de::Error>(time: Duration) -> Result<Duration, E> {
    if (MIN_TIME..=MAX_TIME).contains(&time) {
        return Ok(time);
    }
    Err(E::custom(format_args!(
        "`{}` is out of range; write a time from `{}` to `{}`",
        format_duration(time),
        format_duration(MIN_TIME),
        format_duration(MAX_TIME),
    )))
}

/// The shortest time that can be configured. The timers of the runtime count milliseconds.
pub const MIN_TIME: Duration = Duration::from_millis(1);

/// The longest time that can be configured, so that adding it to a clock never overflows.
pub const MAX_TIME: Duration = Duration::from_secs(31_557_600);

/// `max-connections = 4096`
pub const DEFAULT_MAX_CONNECTIONS: MaxConnections = MaxConnections(4096);

/// `connect-timeout = "5s"`
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// `header-timeout = "5s"`
pub const DEFAULT_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// `idle-timeout = "0s"`: never, since the sessions of an HSM are long-lived.
pub const DEFAULT_IDLE_TIMEOUT: Option<Duration> = None;

/// `half-close-timeout = "60s"`
pub const DEFAULT_HALF_CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

/// `shutdown-grace = "30s"`
pub const DEFAULT_SHUTDOWN_GRACE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_the_documented_default() {
        let documented = r#"
            max-connections    = 4096
            connect-timeout    = "5s"
            header-timeout     = "5s"
            idle-timeout       = "0s"
            half-close-timeout = "60s"
            shutdown-grace     = "30s"
        "#;
        assert_eq!(toml::from_str(documented), Ok(Limits::default()));
        assert_eq!(toml::from_str(""), Ok(Limits::default()));
    }

    #[test]
    fn zero_is_refused_where_it_makes_no_sense() {
        for key in ["connect-timeout", "header-timeout", "half-close-timeout"] {
            assert_eq!(
                mistake(&format!("{key} = '0s'")),
                "`0s` is out of range; write a time from `1ms` to `1year`"
            );
        }
        assert_eq!(
            mistake("max-connections = 0"),
            "`0` connections are out of range; write a number from 1 to 1000000"
        );
    }

    #[test]
    fn zero_is_never_for_the_idle_timeout_and_at_once_for_the_grace_period() {
        let limits: Limits = toml::from_str("idle-timeout = '0s'\nshutdown-grace = '0s'").unwrap();
        assert_eq!(limits.idle_timeout, None);
        assert_eq!(limits.shutdown_grace, Duration::ZERO);
        let limits: Limits = toml::from_str("idle-timeout = '1h 30m'").unwrap();
        assert_eq!(limits.idle_timeout, Some(Duration::from_secs(5400)));
    }

    #[test]
    fn what_a_clock_cannot_count_is_refused() {
        for text in [
            "connect-timeout = '999us'",
            "idle-timeout = '1ns'",
            "shutdown-grace = '2years'",
            "max-connections = -1",
            "max-connections = 1000001",
        ] {
            assert!(mistake(text).contains("out of range"), "{text}");
        }
    }

    fn mistake(text: &str) -> String {
        toml::from_str::<Limits>(text).unwrap_err().message().into()
    }
}
