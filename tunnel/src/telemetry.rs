//! The log: to standard error, as text or as JSON, one line an event.

use std::env;
use std::fmt::{self, Debug, Formatter};
use std::io::{self, IsTerminal, Stderr, Write};

use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::log::{LogConfig, LogFormat};
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
    let (lines, forms) = reload::Layer::new(lines(form, &writer));
    let copies = copy.map(|copy| {
        let copies = tracing_subscriber::fmt::layer().with_writer(copy).with_ansi(false);
        copies.without_time().with_level(false).with_target(false)
    });
    let log = tracing_subscriber::registry().with(level).with(lines).with(copies);
    log.try_init().map_err(|_| LogError)?;
    Ok(LogHandle { levels, forms, writer })
}

/// What gets a copy of each line: its level, and its text without level, time and end. It must not
/// log.
pub struct Copy(Box<Take>);

type Take = dyn Fn(Level, &[u8]) + Send + Sync;

impl Copy {
    /// That which calls `take`.
    pub fn new(take: impl Fn(Level, &[u8]) + Send + Sync + 'static) -> Self {
        Self(Box::new(take))
    }
}

impl Debug for Copy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copy").finish_non_exhaustive()
    }
}

impl<'a> MakeWriter<'a> for Copy {
    type Writer = CopyLine<'a>;

    fn make_writer(&'a self) -> CopyLine<'a> {
        CopyLine { copy: self, level: Level::INFO }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> CopyLine<'a> {
        CopyLine { copy: self, level: *event.level() }
    }
}

/// Takes one line, which comes as a whole.
#[derive(Debug)]
pub struct CopyLine<'a> {
    copy: &'a Copy,
    level: Level,
}

impl Write for CopyLine<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        (self.copy.0)(self.level, line.trim_ascii_end());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Changes the log while it runs.
pub struct LogHandle {
    levels: reload::Handle<LevelFilter, Registry>,
    forms: reload::Handle<Lines, Filtered>,
    writer: LogWriter<Stderr>,
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

fn lines(form: Form, writer: &LogWriter<Stderr>) -> Lines {
    let lines = tracing_subscriber::fmt::layer().with_writer(writer.clone()).with_target(false);
    let lines = lines.with_ansi(form.is_coloured);
    match form.format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text if form.has_time => lines.boxed(),
        LogFormat::Text => lines.without_time().boxed(),
    }
}
