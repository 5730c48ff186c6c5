//! One end of a stream: it does its part, and writes down what it sees.

use std::io::{self, ErrorKind};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::bytes::Bytes;
use super::plan::{Finale, Part};
use super::record::{self, Recorder, Stream};

/// Which end, and of which stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Client,
    Upstream,
}

impl Side {
    pub(crate) fn of(self, stream: &mut Stream) -> &mut record::End {
        match self {
            Self::Client => &mut stream.client,
            Self::Upstream => &mut stream.upstream,
        }
    }
}

/// An end that is connected.
pub(crate) struct End<'a> {
    pub(crate) socket: TcpStream,
    pub(crate) index: usize,
    pub(crate) side: Side,
    pub(crate) part: &'a Part,
    pub(crate) sends: Bytes,
    pub(crate) expects: Bytes,
    pub(crate) recorder: Recorder,
}

impl End<'_> {
    /// Does it all, until there is nothing left to do or to see.
    pub(crate) async fn perform(mut self) {
        let mut written = 0;
        let mut steps = self.part.writes.iter().copied();
        let mut step = steps.next();
        let mut begun = Instant::now();
        loop {
            let pause = step.map_or(self.part.finale.0, |(pause, _)| pause);
            let has_acted = self.note(|end| end.half_closed.is_some() || end.is_over);
            let has_ended = self.note(|end| end.ended.is_some());
            if has_acted && has_ended || self.note(|end| end.failed.is_some()) {
                break;
            }
            let waits = step.is_none()
                && match self.part.finale.1 {
                    Finale::HalfClose | Finale::Reset => false,
                    Finale::Polite => !has_ended,
                    Finale::Silent => true,
                };
            tokio::select! {
                biased;
                result = self.socket.readable(), if !has_ended => self.read(result),
                error = failure(&self.socket), if has_ended => self.fail(&error),
                () = sleep_until(begun + Duration::from_millis(pause)), if !has_acted && !waits => {
                    begun = Instant::now();
                    match step {
                        Some((_, size)) => self.write(&mut written, size).await,
                        None if self.part.finale.1 == Finale::Reset => return self.reset(),
                        None => self.half_close(),
                    }
                    step = steps.next();
                }
            }
        }
        self.note(|end| end.is_over = true);
    }

    fn note<T>(&self, note: impl FnOnce(&mut record::End) -> T) -> T {
        note(self.side.of(&mut self.recorder.lock().streams[self.index]))
    }

    fn read(&mut self, ready: io::Result<()>) {
        let mut buffer = [0; 16 * 1024];
        let now = self.recorder.now();
        match ready.and_then(|()| self.socket.try_read(&mut buffer)) {
            Ok(0) => self.note(|end| end.ended = Some(now)),
            Ok(n) => self.note(|end| {
                let before = end.total_read();
                end.corrupt |= !self.expects.match_at(before, &buffer[..n]);
                end.read.push((now, before + n as u64));
            }),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => self.fail(&error),
        }
    }

    async fn write(&mut self, written: &mut u64, size: usize) {
        let mut bytes = self.sends.at(*written, size);
        while !bytes.is_empty() {
            match self.socket.try_write(&bytes) {
                Ok(n) => {
                    *written += n as u64;
                    bytes.drain(..n);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // An error shows in the next attempt.
                    let _ = self.socket.writable().await;
                }
                Err(error) => return self.fail(&error),
            }
        }
        let now = self.recorder.now();
        self.note(|end| end.written.push((now, *written)));
    }

    fn half_close(&self) {
        let now = self.recorder.now();
        match SockRef::from(&self.socket).shutdown(std::net::Shutdown::Write) {
            Ok(()) => self.note(|end| end.half_closed = Some(now)),
            Err(error) => self.fail(&error),
        }
    }

    fn reset(self) {
        let now = self.recorder.now();
        SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).unwrap();
        self.note(|end| (end.reset, end.is_over) = (Some(now), true));
    }

    fn fail(&self, _error: &io::Error) {
        let now = self.recorder.now();
        self.note(|end| end.failed = Some(now));
    }
}

/// Ready once the connection was reset.
async fn failure(socket: &TcpStream) -> io::Error {
    // An error of the wait itself is as good.
    let _ = socket.ready(Interest::ERROR).await;
    socket.take_error().ok().flatten().unwrap_or_else(|| ErrorKind::ConnectionReset.into())
}
