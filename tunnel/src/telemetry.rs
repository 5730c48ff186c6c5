//! The log: to standard error, as text or as JSON, one line an event.

use std::io::{self, IsTerminal};

use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::log::{LogConfig, LogFormat};
use crate::log_writer::LogWriter;

/// Starts the log, and returns what changes its level later.
///
/// # Errors
///
/// [`LogError`] when the process has a log already.
pub fn init(config: LogConfig) -> Result<LogLevelHandle, LogError> {
    let (level, handle) = reload::Layer::new(LevelFilter::from(config.level));
    // The journal adds the time by itself; see systemd.exec(5), $JOURNAL_STREAM.
    let has_time = config.format == LogFormat::Json || std::env::var_os("JOURNAL_STREAM").is_none();
    let writer = LogWriter::new(io::stderr(), config.format, has_time);
    let lines = fmt::layer().with_writer(writer).with_target(false);
    let lines: Box<dyn Layer<_> + Send + Sync> = match config.format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text if has_time => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Text => lines.with_ansi(false).without_time().boxed(),
    };
    tracing_subscriber::registry().with(level).with(lines).try_init().map_err(|_| LogError)?;
    Ok(LogLevelHandle(handle))
}

/// Changes the level of the log while it runs.
#[derive(Debug)]
pub struct LogLevelHandle(reload::Handle<LevelFilter, Registry>);

impl LogLevelHandle {
    /// Logs from now on what `config` asks for. Its format cannot change any more.
    pub fn set(&self, config: LogConfig) {
        // It fails only after the log itself is gone.
        let _ = self.0.reload(LevelFilter::from(config.level));
    }
}

/// The process has a log already.
#[derive(Debug, Error)]
#[error("failed to start the log: there is one already")]
pub struct LogError;
