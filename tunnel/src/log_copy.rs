//! Copies of the lines that are logged, for somebody else than who reads the log.

use std::fmt::{self, Debug, Formatter};
use std::io::{self, Stderr, Write};
use std::sync::Arc;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use crate::log_writer::{LineWriter, LogWriter};

/// What gets a copy of each line: its level, and its text without level, time and end. It must not
/// log.
#[derive(Clone)]
pub struct Copy(Arc<Take>);

impl Copy {
    /// That which calls `take`.
    pub fn new(take: impl Fn(Level, &[u8]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
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

/// Writes a line to the log, and hands on its text: for two lines that differ in their beginnings
/// it is made but once.
#[derive(Debug)]
pub(crate) struct LogAndCopy {
    pub(crate) log: LogWriter<Stderr>,
    pub(crate) copy: Copy,
    /// Where the text begins.
    pub(crate) text_at: usize,
}

impl<'a> MakeWriter<'a> for LogAndCopy {
    type Writer = LineAndCopy<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        let Self { log, copy, text_at } = self;
        LineAndCopy { line: log.make_writer(), copy: copy.make_writer(), text_at: *text_at }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Self::Writer {
        let Self { log, copy, text_at } = self;
        let (line, copy) = (log.make_writer_for(event), copy.make_writer_for(event));
        LineAndCopy { line, copy, text_at: *text_at }
    }
}

/// Takes one line, which comes as a whole.
#[derive(Debug)]
pub(crate) struct LineAndCopy<'a> {
    line: LineWriter<'a, Stderr>,
    copy: CopyLine<'a>,
    text_at: usize,
}

impl Write for LineAndCopy<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.copy.write_all(line.get(self.text_at..).unwrap_or_default())?;
        self.line.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Take = dyn Fn(Level, &[u8]) + Send + Sync;
