//! The log: to standard error, as text or as JSON, one line an event.

use std::env;
use std::fmt::{self, Debug, Formatter};
use std::io::{self, IsTerminal, Stderr};
use std::sync::Arc;

use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::log::{LogConfig, LogFormat};
use crate::log_writer::{Form, LogWriter};

/// Starts the log, and returns what changes it later.
///
/// # Errors
///
/// [`LogError`] when the process has a log already.
pub fn init(config: LogConfig) -> Result<LogHandle, LogError> {
    let form = form(config.format);
    let writer = Arc::new(LogWriter::new(io::stderr(), form));
    let (level, levels) = reload::Layer::new(LevelFilter::from(config.level));
    let (lines, forms) = reload::Layer::new(lines(form, &writer));
    tracing_subscriber::registry().with(level).with(lines).try_init().map_err(|_| LogError)?;
    Ok(LogHandle { levels, forms, writer })
}

/// Changes the log while it runs.
pub struct LogHandle {
    levels: reload::Handle<LevelFilter, Registry>,
    forms: reload::Handle<Lines, Filtered>,
    writer: Arc<LogWriter<Stderr>>,
}

impl LogHandle {
    /// Logs from now on what `config` asks for.
    pub fn set(&self, config: LogConfig) {
        let form = form(config.format);
        // They fail only after the log itself is gone.
        let _ = self.levels.reload(LevelFilter::from(config.level));
        let _ = self.forms.reload(lines(form, &self.writer));
        self.writer.set_form(form);
    }
}

impl Debug for LogHandle {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogHandle").field("writer", &self.writer).finish_non_exhaustive()
    }
}

/// The process has a log already.
#[derive(Debug, Error)]
#[error("failed to start the log: there is one already")]
pub struct LogError;

type Filtered = Layered<reload::Layer<LevelFilter, Registry>, Registry>;
type Lines = Box<dyn Layer<Filtered> + Send + Sync>;

fn form(format: LogFormat) -> Form {
    let is_json = format == LogFormat::Json;
    // The journal adds the time by itself; see systemd.exec(5), $JOURNAL_STREAM.
    let has_time = is_json || env::var_os("JOURNAL_STREAM").is_none();
    let is_coloured = !is_json && has_time && io::stderr().is_terminal();
    Form { format, has_time, is_coloured }
}

fn lines(form: Form, writer: &Arc<LogWriter<Stderr>>) -> Lines {
    let lines = tracing_subscriber::fmt::layer().with_writer(Arc::clone(writer)).with_target(false);
    let lines = lines.with_ansi(form.is_coloured);
    match form.format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text if form.has_time => lines.boxed(),
        LogFormat::Text => lines.without_time().boxed(),
    }
}
