//! A line of the log as text without colours: what tracing itself would write, made with half of
//! the work.
//!
//! Every connection ends with such a line, in both proxies. Of all that a short one costs them
//! outside the kernel, tracing's own way to make it was the largest part.

use std::fmt::{self, Debug};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Formats events, which must be in no span.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainLine {
    pub(crate) has_time: bool,
    pub(crate) has_level: bool,
}

impl PlainLine {
    /// Where in a line the text begins, behind time and level.
    pub(crate) fn text_at(self) -> usize {
        let time = if self.has_time { TIME } else { 0 };
        let level = if self.has_level { LEVEL } else { 0 };
        time + level
    }
}

/// The time of a line, in UTC and to the microsecond; see RFC 3339.
pub(crate) fn time() -> impl fmt::Display {
    // It has no form for what comes before.
    humantime::format_rfc3339_micros(SystemTime::now().max(UNIX_EPOCH))
}

impl<S, N> FormatEvent<S, N> for PlainLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.has_time {
            write!(line, "{} ", time())?;
        }
        if self.has_level {
            line.write_str(word(*event.metadata().level()))?;
        }
        let mut fields = Fields { line, is_first: true, result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        fields.line.write_char('\n')
    }
}

/// The level and a space.
fn word(level: Level) -> &'static str {
    match level {
        Level::DEBUG => "DEBUG ",
        Level::ERROR => "ERROR ",
        Level::INFO => " INFO ",
        Level::TRACE => "TRACE ",
        Level::WARN => " WARN ",
    }
}

/// How long the time is, and its space.
const TIME: usize = "2026-11-30T08:08:31.832385Z ".len();
/// How long every level is, and its space.
const LEVEL: usize = " INFO ".len();

struct Fields<'a> {
    line: Writer<'a>,
    is_first: bool,
    result: fmt::Result,
}

impl Fields<'_> {
    fn begin(&mut self, name: &str) -> fmt::Result {
        if !self.is_first {
            self.line.write_char(' ')?;
        }
        self.is_first = false;
        if name != MESSAGE {
            self.line.write_str(name.strip_prefix("r#").unwrap_or(name))?;
            self.line.write_char('=')?;
        }
        Ok(())
    }

    fn put(&mut self, name: &str, value: &dyn Debug) -> fmt::Result {
        self.begin(name)?;
        write!(self.line, "{value:?}")
    }

    fn put_number(&mut self, name: &str, number: u64) -> fmt::Result {
        self.begin(name)?;
        self.line.write_str(itoa::Buffer::new().format(number))
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if self.result.is_ok() {
            self.result = self.put(field.name(), value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE {
            // It stands without quotation marks.
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if self.result.is_ok() {
            self.result = self.put_number(field.name(), value);
        }
    }
}

/// The field in which tracing keeps what stands behind all others in a call.
const MESSAGE: &str = "message";

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing::subscriber::with_default;
    use tracing_subscriber::fmt::{self, MakeWriter};
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::registry;

    #[derive(Clone, Debug, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    impl io::Write for Lines {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn log_everything() {
        let nothing = None::<tracing::field::DisplayValue<u8>>;
        tracing::info!("only a message");
        tracing::warn!(lines = 7_u64, "a message of {} words", 4);
        tracing::error!(error = %"display", kind = ?"debug", "failed");
        tracing::debug!(text = "a \"quoted\"\nline", nothing, some = Some(display(1.5)), "fields");
        tracing::trace!(seconds = 0.000_123_4, wide = u128::MAX, minus = -1, is = true, "numbers");
        tracing::info!(r#type = "keyword", nested.name = debug([1, 2]));
        tracing::info!(message = "a field");
    }

    #[test]
    fn it_is_what_tracing_writes() {
        let tracings = fmt::layer().with_ansi(false).with_target(false).without_time();
        let plain = PlainLine { has_time: false, has_level: true };
        let (ours, theirs) = (Lines::default(), Lines::default());
        let log = registry().with(fmt::layer().event_format(plain).with_writer(ours.clone()));
        with_default(log, log_everything);
        with_default(registry().with(tracings.with_writer(theirs.clone())), log_everything);
        let ours = ours.take();
        assert_eq!(ours, theirs.take());
        assert!(ours.contains("fields text=\"a \\\"quoted\\\"\\nline\" some=1.5\n"), "{ours}");
    }

    #[test]
    fn it_begins_with_the_time() {
        let lines = Lines::default();
        let plain = PlainLine { has_time: true, has_level: true };
        let log = registry().with(fmt::layer().event_format(plain).with_writer(lines.clone()));
        let before = time().to_string();
        with_default(log, || tracing::info!("ready"));
        let line = lines.take();
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(before.as_str() <= time, "{line}");
        assert_eq!(rest, " INFO ready\n");
        assert_eq!(&line[plain.text_at()..], "ready\n");
    }
}
