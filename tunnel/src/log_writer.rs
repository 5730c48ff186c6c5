//! Writes the log to whoever reads it, and goes on without a reader.

use std::borrow::Cow;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::counter;
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use crate::log::LogFormat;
use crate::log_escape::escape;
use crate::log_line;
use crate::lossy_writer::{LossyWriter, PATIENCE};
use crate::metrics as names;
use crate::telemetry::OTHERS;

/// Takes whole lines, and never waits long: nobody may read them, and the thread that logs is mostly
/// the one that relays. Lines that nobody takes are counted, and told of once somebody does.
#[derive(Debug)]
pub(crate) struct LogWriter<F>(Arc<Mutex<State<F>>>);

/// What lines are like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) format: LogFormat,
    pub(crate) has_time: bool,
    pub(crate) is_coloured: bool,
}

#[derive(Debug)]
struct State<F> {
    to: LossyWriter<F>,
    form: Form,
    /// Lines of [`OTHERS`] that are missing. What this process has to say does not wait for them,
    /// and its own count has only its own.
    others: u64,
}

impl<F: AsFd> LogWriter<F> {
    /// One for lines of this form.
    pub(crate) fn new(to: F, form: Form) -> Self {
        Self(Arc::new(Mutex::new(State { to: LossyWriter::new(to), form, others: 0 })))
    }

    /// Lines are of this form from now on.
    pub(crate) fn set_form(&self, form: Form) {
        self.lock().form = form;
    }

    fn line(&self, line: &[u8]) {
        let mut state = self.lock();
        state.tell_of_missing();
        let line = state.form.shown(line);
        if state.to.missing() > 0 || !state.to.put(&line, PATIENCE) {
            state.to.miss(1);
            counter!(names::LOG_LINES_MISSING, "cause" => "reader").increment(1);
        }
    }

    fn line_of_others(&self, line: &[u8]) {
        let mut state = self.lock();
        state.tell_of_missing();
        let is_told = state.others == 0 || {
            let notice = state.form.notice(MISSING_OF_OTHERS, state.others);
            state.to.put(notice.as_bytes(), Duration::ZERO)
        };
        if is_told {
            state.others = 0;
        }
        let line = state.form.shown(line);
        if state.to.missing() > 0 || !is_told || !state.to.put(&line, Duration::ZERO) {
            state.others += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<F>> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Clone for LogWriter<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F: AsFd> State<F> {
    fn tell_of_missing(&mut self) {
        if self.to.missing() > 0 {
            let notice = self.form.notice(MISSING, self.to.missing());
            if self.to.put(notice.as_bytes(), Duration::ZERO) {
                self.to.found();
            }
        }
    }
}

impl Form {
    fn shown(self, line: &[u8]) -> Cow<'_, [u8]> {
        escape(line, self.format, self.is_coloured)
    }

    fn notice(self, what: &str, lines: u64) -> String {
        let time = log_line::time();
        match self.format {
            LogFormat::Json => format!(
                "{{\"timestamp\":\"{time}\",\"level\":\"WARN\",\"message\":\"{what}\",\
                 \"lines\":{lines}}}\n"
            ),
            LogFormat::Text if self.has_time => format!("{time}  WARN {what} lines={lines}\n"),
            LogFormat::Text => format!(" WARN {what} lines={lines}\n"),
        }
    }
}

/// Writes the lines of this process, or those of [`OTHERS`].
#[derive(Debug)]
pub(crate) struct LineWriter<'a, F> {
    log: &'a LogWriter<F>,
    of_others: bool,
}

impl<F: AsFd> Write for LineWriter<'_, F> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.of_others {
            self.log.line_of_others(line);
        } else {
            self.log.line(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a, F: AsFd + 'a> MakeWriter<'a> for LogWriter<F> {
    type Writer = LineWriter<'a, F>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter { log: self, of_others: false }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Self::Writer {
        LineWriter { log: self, of_others: event.target() == OTHERS }
    }
}

const MISSING: &str = "lines not logged, since nobody took them";
const MISSING_OF_OTHERS: &str = "lines of enclaves not logged, since nobody took them";

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::io::{PipeReader, Read, pipe};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Instant;

    const JSON: Form = Form { format: LogFormat::Json, has_time: true, is_coloured: false };
    const TEXT: Form = Form { format: LogFormat::Text, has_time: false, is_coloured: false };
    const LINE: &[u8] = b"connection ended\n";

    #[test]
    fn a_log_that_nobody_reads_stops_nobody() {
        let (mut reader, writer) = pipe().unwrap();
        let log = LogWriter::new(writer, TEXT);
        let (done, is_done) = mpsc::channel();
        thread::spawn(move || {
            for _ in 0..MANY {
                log.line(LINE);
            }
            done.send(log).unwrap();
        });
        let log = is_done.recv_timeout(Duration::from_secs(10)).unwrap();

        let before = drain(&mut reader, &log);
        log.line(LINE);
        drop(log);
        let mut after = String::new();
        reader.read_to_string(&mut after).unwrap();
        let (notice, line) = after.split_once('\n').unwrap();
        let missing = notice.split_once("lines=").unwrap().1.parse::<usize>().unwrap();
        assert_eq!(before + missing, MANY, "{after}");
        assert_eq!(line.as_bytes(), LINE);
    }

    #[test]
    fn a_reader_that_is_slow_gets_everything() {
        let (mut reader, writer) = pipe().unwrap();
        let log = LogWriter::new(writer, TEXT);
        let long = [b"x".repeat(3 * PAGE), b"\n".to_vec()].concat();
        let expected = long.repeat(20);
        let reading = thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all
        });
        for _ in 0..20 {
            log.line(&long);
        }
        drop(log);
        assert!(reading.join().unwrap() == expected);
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let log = LogWriter::new(writer, JSON);
        log.line(LINE);
        assert_eq!(log.lock().to.missing(), 1);
    }

    #[test]
    fn what_is_told_of_missing_lines_is_json_where_the_log_is() {
        let (mut reader, writer) = pipe().unwrap();
        let log = LogWriter::new(writer, JSON);
        log.lock().to.miss(7);
        log.line(b"{}\n");
        drop(log);
        let mut lines = String::new();
        reader.read_to_string(&mut lines).unwrap();
        let (notice, line) = lines.split_once('\n').unwrap();
        assert!(notice.starts_with("{\"timestamp\":\"2") && notice.ends_with(",\"lines\":7}"));
        assert_eq!(line, "{}\n");
    }

    #[test]
    fn the_lines_of_others_wait_for_nobody_and_have_a_count_of_their_own() {
        let (mut reader, writer) = pipe().unwrap();
        let log = LogWriter::new(writer, TEXT);
        let started = Instant::now();
        for _ in 0..MANY {
            log.line_of_others(LINE);
        }
        assert!(started.elapsed() < PATIENCE, "it has waited");
        let others = log.lock().others;
        assert!(others > 0 && log.lock().to.missing() == 0);
        let mut taken = vec![0; (MANY - usize::try_from(others).unwrap()) * LINE.len()];
        reader.read_exact(&mut taken).unwrap();
        log.line(b"own\n");
        log.line_of_others(LINE);
        drop(log);
        let mut after = String::new();
        reader.read_to_string(&mut after).unwrap();
        let (own, others_after) = after.split_once('\n').unwrap();
        assert!(own.ends_with("own"), "{after}");
        let notice = format!(" WARN {MISSING_OF_OTHERS} lines={others}\n");
        assert!(others_after.starts_with(&notice), "{after}");
        assert!(after.ends_with("connection ended\n"), "{after}");
    }

    /// Reads what is there, and says how many lines that was.
    fn drain<F: AsFd>(reader: &mut PipeReader, log: &LogWriter<F>) -> usize {
        let (mut lines, mut chunk) = (Vec::<u8>::new(), [0; PAGE]);
        while poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO)
            == Ok(1)
        {
            let count = reader.read(&mut chunk).unwrap();
            lines.extend(&chunk[..count]);
        }
        assert!(log.lock().to.missing() > 0);
        lines.split_inclusive(|byte| *byte == b'\n').filter(|line| *line == LINE).count()
    }

    /// More lines than a pipe takes.
    const MANY: usize = 20_000;
    /// What a pipe takes at once, in bytes.
    const PAGE: usize = 4096;
}
