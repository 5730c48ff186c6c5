//! What is logged, and how.

use serde::Deserialize;
use tracing::level_filters::LevelFilter;

/// The `[log]` table.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, expecting = "a table `[log]`", rename_all = "kebab-case")]
pub struct LogConfig {
    /// The form of a line.
    pub format: LogFormat,
    /// The least important level that is still logged.
    pub level: LogLevel,
}

/// The form of a line in the log.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    #[default]
    Text,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Also every step of every connection.
    Debug,
    /// What failed and must be acted on.
    Error,
    /// Also every connection when it ends.
    #[default]
    Info,
    /// Nothing.
    Off,
    /// Also every read and write.
    Trace,
    /// Also what may become a failure.
    Warn,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Error => Self::ERROR,
            LogLevel::Info => Self::INFO,
            LogLevel::Off => Self::OFF,
            LogLevel::Trace => Self::TRACE,
            LogLevel::Warn => Self::WARN,
        }
    }
}
