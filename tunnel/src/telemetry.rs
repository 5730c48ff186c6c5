//! The log: to standard error, as text or as JSON, one line an event.

use std::env;
use std::fmt::{self, Debug, Formatter};
use std::io::{self, IsTerminal, Stderr};

use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::log::{LogConfig, LogFormat};
use crate::log_copy::LogAndCopy;
pub use crate::log_copy::{Copy, CopyLine};
use crate::log_line::PlainLine;
use crate::log_writer::{Form, LogWriter};

/// The target of events that tell what another process has logged. Who floods the log with them
/// makes nobody wait, and no line of this process's own is missing in their place.
pub const OTHERS: &str = "others";

/// Starts the log, and returns what changes it later.
///
/// # Errors
///
/// [`LogError`] when the process has a log already.
pub fn init(config: LogConfig) -> Result<LogHandle, LogError> {
    init_with(config, None)
}

/// As [`init`]; each line goes to `copy`, too.
///
/// # Errors
///
/// [`LogError`] when the process has a log already.
pub fn init_with(config: LogConfig, copy: Option<Copy>) -> Result<LogHandle, LogError> {
    let form = form(config.format);
    let writer = LogWriter::new(io::stderr(), form);
    let (level, levels) = reload::Layer::new(LevelFilter::from(config.level));
    let (lines, forms) = reload::Layer::new(lines(form, &writer, copy.as_ref()));
    let log = tracing_subscriber::registry().with(level).with(lines);
    log.try_init().map_err(|_| LogError)?;
    Ok(LogHandle { levels, forms, writer, copy })
}

/// Changes the log while it runs.
pub struct LogHandle {
    levels: reload::Handle<LevelFilter, Registry>,
    forms: reload::Handle<Lines, Filtered>,
    writer: LogWriter<Stderr>,
    copy: Option<Copy>,
}

impl LogHandle {
    /// Logs from now on what `config` asks for.
    pub fn set(&self, config: LogConfig) {
        let form = form(config.format);
        // They fail only after the log itself is gone.
        let _ = self.levels.reload(LevelFilter::from(config.level));
        let _ = self.forms.reload(lines(form, &self.writer, self.copy.as_ref()));
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

fn lines(form: Form, writer: &LogWriter<Stderr>, copy: Option<&Copy>) -> Lines {
    let lines = tracing_subscriber::fmt::layer().with_target(false).with_ansi(form.is_coloured);
    if form.format == LogFormat::Text && !form.is_coloured {
        let plain = PlainLine { has_time: form.has_time, has_level: true };
        let lines = lines.event_format(plain);
        return match copy {
            Some(copy) => {
                let (log, copy, text_at) = (writer.clone(), copy.clone(), plain.text_at());
                lines.with_writer(LogAndCopy { log, copy, text_at }).boxed()
            }
            None => lines.with_writer(writer.clone()).boxed(),
        };
    }
    let lines = lines.with_writer(writer.clone());
    let lines = match form.format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        // On a terminal, for which there is always the time.
        LogFormat::Text => lines.boxed(),
    };
    match copy {
        Some(copy) => {
            let text = PlainLine { has_time: false, has_level: false };
            let copies = tracing_subscriber::fmt::layer().with_writer(copy.clone());
            lines.and_then(copies.with_ansi(false).event_format(text)).boxed()
        }
        None => lines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_copy_has_the_text_alone_whatever_the_log_is_like() {
        let (text, json) = (LogFormat::Text, LogFormat::Json);
        for (format, has_time, is_coloured) in
            [(text, true, false), (text, false, false), (text, true, true), (json, true, false)]
        {
            let form = Form { format, has_time, is_coloured };
            let copied = Arc::new(Mutex::new(Vec::new()));
            let to = Arc::clone(&copied);
            let copy =
                Copy::new(move |level, line| to.lock().unwrap().push((level, line.to_vec())));
            let lines = lines(form, &LogWriter::new(io::stderr(), form), Some(&copy));
            // As in `init_with`, where they come behind the level.
            let (level, _) = reload::Layer::new(LevelFilter::INFO);
            let log = tracing_subscriber::registry().with(level).with(lines);
            tracing::subscriber::with_default(log, || {
                tracing::warn!(name = "a", "ready");
                tracing::debug!("not logged");
            });
            let expected = [(tracing::Level::WARN, b"ready name=\"a\"".to_vec())];
            assert_eq!(*copied.lock().unwrap(), expected, "{form:?}");
        }
    }
}
