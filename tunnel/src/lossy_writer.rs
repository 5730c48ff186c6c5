//! Writing to whoever may not read.

use std::borrow::Cow;
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;
use rustix::io::{ReadWriteFlags, pwritev2};

/// Writes whole pieces to a descriptor that may block, and never waits long. A reader that is not
/// there costs [`PATIENCE`] once; from then on a piece is written only if there is room for it.
#[derive(Debug)]
pub struct LossyWriter<F> {
    to: F,
    missing: u64,
    /// Whether the last line has no end.
    torn: bool,
    /// Whether a write can be told not to wait: to sockets, and by newer kernels to pipes.
    can_refuse: bool,
}

impl<F: AsFd> LossyWriter<F> {
    /// One of whose pieces none is missing yet.
    pub const fn new(to: F) -> Self {
        Self { to, missing: 0, torn: false, can_refuse: true }
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
            let part = &rest[..rest.len().min(ATOMIC)];
            match self.write(part, patience, &mut deadline) {
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

    /// `None` if there was no room in time.
    fn write(
        &mut self,
        part: &[u8],
        patience: Duration,
        deadline: &mut Option<Instant>,
    ) -> Option<Result<usize, Errno>> {
        if self.can_refuse {
            match pwritev2(&self.to, &[IoSlice::new(part)], CURRENT, ReadWriteFlags::NOWAIT) {
                Ok(count) => return Some(Ok(count)),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(_) => self.can_refuse = false,
            }
        }
        // A pipe that has room has room for so much, or write(2) would wait.
        self.is_ready(patience, deadline).then(|| write(&self.to, part))
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
/// Not at an offset, but where the file is; see pwritev2(2).
const CURRENT: u64 = u64::MAX;
