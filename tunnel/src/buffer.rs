//! Buffers that are held only while there is something in them.

use std::cell::RefCell;
use std::fmt;

/// Bytes on their way from one socket to another.
///
/// An idle tunnel holds none: memory for ten thousand of them is that of their sockets and tasks.
/// A dropped buffer goes back to its thread's pool, so that a busy tunnel does not allocate.
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// What one read can take, in bytes: two full vsock writes (see [`crate::vsock::MAX_WRITE`]).
    pub const CAPACITY: usize = 2 * crate::vsock::MAX_WRITE;

    /// An empty buffer from this thread's pool.
    #[must_use]
    pub fn take() -> Self {
        let pooled = POOL.with_borrow_mut(Vec::pop);
        Self { bytes: pooled.unwrap_or_else(|| vec![0; Self::CAPACITY].into()), start: 0, end: 0 }
    }

    /// A buffer of just these bytes, for those who wait long: it keeps none of the pool's.
    #[must_use]
    pub fn holding(bytes: &[u8]) -> Self {
        Self { bytes: bytes.into(), start: 0, end: bytes.len() }
    }

    /// The bytes that wait.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Room for more bytes.
    pub fn unfilled(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Counts `n` bytes of [`Self::unfilled`] as filled.
    pub fn fill(&mut self, n: usize) {
        self.end += n;
        debug_assert!(self.end <= self.bytes.len());
    }

    /// Forgets the first `n` waiting bytes.
    pub fn consume(&mut self, n: usize) {
        self.start += n;
        debug_assert!(self.start <= self.end);
    }

    /// Appends what fits of `bytes`, and says how many that were.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let room = self.unfilled();
        let n = bytes.len().min(room.len());
        room[..n].copy_from_slice(&bytes[..n]);
        self.fill(n);
        n
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the bytes: they are somebody's payload.
        f.debug_struct("Buffer").field("filled", &(self.end - self.start)).finish_non_exhaustive()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // The pool is gone while its thread ends.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if bytes.len() == Self::CAPACITY && pool.len() < POOLED {
                pool.push(bytes);
            }
        });
    }
}

/// Gives back what this thread's pool has beyond one buffer: a proxy at rest needs no more.
pub fn release_spare() {
    // The pool is gone while its thread ends.
    let _ = POOL.try_with(|pool| pool.borrow_mut().truncate(1));
}

/// How many buffers this thread's pool has.
#[cfg(test)]
pub(crate) fn pooled() -> usize {
    POOL.with_borrow(Vec::len)
}

/// One buffer serves any number of tunnels whose peers keep up; the others are for those who do
/// not. Past this many, memory goes back to the system as the burst ends.
const POOLED: usize = 8;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}
