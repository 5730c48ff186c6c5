//! Writing to whoever may not read.

use std::borrow::Cow;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;

/// Writes whole pieces to a descriptor that may block, and never waits long. A reader that is not
/// there costs [`PATIENCE`] once; from then on a piece is written only if there is room for it.
#[derive(Debug)]
pub struct LossyWriter<F> {
    to: F,
    missing: u64,
    /// Whether the last line has no end.
    torn: bool,
}

impl<F: AsFd> LossyWriter<F> {
    /// One of whose pieces none is missing yet.
    pub const fn new(to: F) -> Self {
        Self { to, missing: 0, torn: false }
    }

    /// How many lines were not taken since [`Self::found`].
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// So many lines more are missing.
    pub fn miss(&mut self, lines: u64) {
        self.missing += lines;
    }

    /// The reader is back, and has been told how many lines are missing.
    pub fn found(&mut self) {
        self.missing = 0;
    }

    /// Whether all of a piece was taken within `patience`. What was taken of another one ends with
    /// the line.
    pub fn put(&mut self, piece: &[u8], patience: Duration) -> bool {
        let patience = if self.missing > 0 { Duration::ZERO } else { patience };
        let mut deadline = None;
        let whole = if self.torn { [b"\n", piece].concat().into() } else { Cow::from(piece) };
        let mut rest = &*whole;
        while !rest.is_empty() {
            // A pipe that has room has room for so much, or write(2) would wait.
            let part = &rest[..rest.len().min(ATOMIC)];
            match self.is_ready(patience, &mut deadline).then(|| write(&self.to, part)) {
                Some(Ok(count @ 1..)) => rest = &rest[count..],
                Some(Err(Errno::EINTR)) => {}
                _ => break,
            }
        }
        if rest.len() < whole.len() {
            self.torn = !rest.is_empty();
        }
        rest.is_empty()
    }

    /// The clock is asked only once there was no room.
    fn is_ready(&self, patience: Duration, deadline: &mut Option<Instant>) -> bool {
        if self.is_ready_within(Duration::ZERO) {
            return true;
        }
        let now = Instant::now();
        let left = deadline.get_or_insert(now + patience).saturating_duration_since(now);
        !left.is_zero() && self.is_ready_within(left)
    }

    fn is_ready_within(&self, limit: Duration) -> bool {
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::ZERO);
        let mut target = [PollFd::new(self.to.as_fd(), PollFlags::POLLOUT)];
        matches!(poll(&mut target, limit), Ok(1) | Err(Errno::EINTR))
    }
}

/// How long a reader that is merely slow may take.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// PIPE_BUF of Linux, in bytes; see pipe(7).
const ATOMIC: usize = 4096;
