//! Writes the log to whoever reads it, and goes on without a reader.

use std::borrow::Cow;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::counter;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::log::LogFormat;
use crate::log_escape::escape;
use crate::metrics as names;

/// Takes whole lines, and never waits long: nobody may read them, and the one thread that logs is
/// the one that relays. Lines that nobody takes are counted, and told of once somebody does.
#[derive(Debug)]
pub(crate) struct LogWriter<F> {
    to: F,
    state: Mutex<State>,
}

/// What lines are like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) format: LogFormat,
    pub(crate) has_time: bool,
    pub(crate) is_coloured: bool,
}

#[derive(Debug)]
struct State {
    form: Form,
    missing: u64,
    /// Whether the last line has no end.
    torn: bool,
}

impl<F: AsFd> LogWriter<F> {
    /// One for lines of this form.
    pub(crate) fn new(to: F, form: Form) -> Self {
        Self { to, state: Mutex::new(State { form, missing: 0, torn: false }) }
    }

    /// Lines are of this form from now on.
    pub(crate) fn set_form(&self, form: Form) {
        self.lock().form = form;
    }

    fn line(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.missing > 0 {
            let notice = state.form.notice(state.missing);
            if self.put(&mut state, notice.as_bytes()) {
                state.missing = 0;
            }
        }
        let Form { format, is_coloured, .. } = state.form;
        if state.missing > 0 || !self.put(&mut state, &escape(line, format, is_coloured)) {
            state.missing += 1;
            counter!(names::LOG_LINES_MISSING, "cause" => "reader").increment(1);
        }
    }

    /// Whether all of a line was taken.
    fn put(&self, state: &mut State, line: &[u8]) -> bool {
        let patience = if state.missing > 0 { PollTimeout::ZERO } else { patience() };
        let whole = if state.torn { [b"\n", line].concat().into() } else { Cow::from(line) };
        let mut rest = &*whole;
        while !rest.is_empty() {
            // A pipe that has room has room for so much, or write(2) would wait.
            let part = &rest[..rest.len().min(ATOMIC)];
            match self.is_ready(patience).then(|| write(&self.to, part)) {
                Some(Ok(count @ 1..)) => rest = &rest[count..],
                Some(Err(Errno::EINTR)) => {}
                _ => break,
            }
        }
        if rest.len() < whole.len() {
            state.torn = !rest.is_empty();
        }
        rest.is_empty()
    }

    fn is_ready(&self, patience: PollTimeout) -> bool {
        let mut target = [PollFd::new(self.to.as_fd(), PollFlags::POLLOUT)];
        matches!(poll(&mut target, patience), Ok(1) | Err(Errno::EINTR))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Form {
    fn notice(self, lines: u64) -> String {
        let mut time = String::new();
        // A string takes all.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        match self.format {
            LogFormat::Json => format!(
                "{{\"timestamp\":\"{time}\",\"level\":\"WARN\",\"message\":\"{MISSING}\",\
                 \"lines\":{lines}}}\n"
            ),
            LogFormat::Text if self.has_time => format!("{time}  WARN {MISSING} lines={lines}\n"),
            LogFormat::Text => format!(" WARN {MISSING} lines={lines}\n"),
        }
    }
}

impl<F: AsFd> Write for &LogWriter<F> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How long a reader that is merely slow may take: one that is not there costs so much once.
fn patience() -> PollTimeout {
    PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::ZERO)
}

const PATIENCE: Duration = Duration::from_secs(1);
/// PIPE_BUF of Linux, in bytes; see pipe(7).
const ATOMIC: usize = 4096;
const MISSING: &str = "lines not logged, since nobody took them";

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeReader, Read, pipe};
    use std::sync::mpsc;
    use std::thread;

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
                (&log).write_all(LINE).unwrap();
            }
            done.send(log).unwrap();
        });
        let log = is_done.recv_timeout(Duration::from_secs(10)).unwrap();

        let before = drain(&mut reader, &log);
        (&log).write_all(LINE).unwrap();
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
        let long = [b"x".repeat(3 * ATOMIC), b"\n".to_vec()].concat();
        let expected = long.repeat(20);
        let reading = thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all
        });
        for _ in 0..20 {
            (&log).write_all(&long).unwrap();
        }
        drop(log);
        assert!(reading.join().unwrap() == expected);
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let log = LogWriter::new(writer, JSON);
        (&log).write_all(LINE).unwrap();
        assert_eq!(log.lock().missing, 1);
    }

    #[test]
    fn what_is_told_of_missing_lines_is_json_where_the_log_is() {
        let (mut reader, writer) = pipe().unwrap();
        let log = LogWriter::new(writer, JSON);
        log.lock().missing = 7;
        (&log).write_all(b"{}\n").unwrap();
        drop(log);
        let mut lines = String::new();
        reader.read_to_string(&mut lines).unwrap();
        let (notice, line) = lines.split_once('\n').unwrap();
        assert!(notice.starts_with("{\"timestamp\":\"2") && notice.ends_with(",\"lines\":7}"));
        assert_eq!(line, "{}\n");
    }

    /// Reads what is there, and says how many lines that was.
    fn drain<F: AsFd>(reader: &mut PipeReader, log: &LogWriter<F>) -> usize {
        let (mut lines, mut chunk) = (Vec::<u8>::new(), [0; ATOMIC]);
        while poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO)
            == Ok(1)
        {
            let count = reader.read(&mut chunk).unwrap();
            lines.extend(&chunk[..count]);
        }
        assert!(log.lock().missing > 0);
        lines.split_inclusive(|byte| *byte == b'\n').filter(|line| *line == LINE).count()
    }

    /// More lines than a pipe takes.
    const MANY: usize = 20_000;
}
