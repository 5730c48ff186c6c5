//! Pipes that carry bytes from socket to socket without copying them: splice(2).

use std::cell::RefCell;
use std::fmt;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::BorrowedFd;

use nix::fcntl::{FcntlArg, SpliceFFlags, fcntl, splice};

/// Bytes on their way from one socket to another, in the kernel.
///
/// As with a [`crate::buffer::Buffer`], a tunnel holds one only while there is something in it.
/// An empty one that is dropped goes back to its thread's pool.
pub struct Pipe {
    /// Taken out only when it is dropped.
    ends: Option<(PipeReader, PipeWriter)>,
    held: usize,
}

impl Pipe {
    /// An empty pipe from this thread's pool, or a new one. There is none if the process has no
    /// descriptors left for it, or has enough pipes: then a buffer does as well.
    #[must_use]
    pub fn take() -> Option<Self> {
        let pooled = POOL.with_borrow_mut(|pool| match pool.free.pop() {
            None if pool.taken >= MAX_PIPES => None,
            free => {
                pool.taken += 1;
                Some(free)
            }
        })?;
        let ends = match pooled {
            Some(ends) => Some(ends),
            None => open().inspect_err(|_| return_to_pool(None)).ok(),
        };
        Some(Self { ends: Some(ends?), held: 0 })
    }

    /// How many bytes are in it.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes from `socket` what is there, as much as fits. It must be empty: if it were full, the
    /// answer would be the same as if there were nothing to take.
    ///
    /// # Errors
    ///
    /// What splice(2) answers: [`io::ErrorKind::WouldBlock`] if there is nothing to take.
    pub fn fill(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        debug_assert_eq!(self.held, 0);
        let Some((_, writer)) = &self.ends else { return Ok(0) };
        self.held = splice(socket, None, writer, None, SIZE, FLAGS)?;
        Ok(self.held)
    }

    /// Gives `socket` what it takes.
    ///
    /// # Errors
    ///
    /// What splice(2) answers: [`io::ErrorKind::WouldBlock`] if it takes nothing now.
    pub fn drain(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let Some((reader, _)) = &self.ends else { return Ok(0) };
        let n = splice(reader, None, socket, None, self.held, FLAGS)?;
        self.held -= n;
        Ok(n)
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").field("held", &self.held).finish_non_exhaustive()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // What is left in it belongs to a tunnel that has ended, and must not reach another.
        return_to_pool(self.ends.take().filter(|_| self.held == 0));
    }
}

fn open() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    // Refused beyond /proc/sys/fs/pipe-user-pages-soft; then it is smaller, and slower.
    let _ = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(SIZE_ARGUMENT));
    Ok((reader, writer))
}

fn return_to_pool(ends: Option<(PipeReader, PipeWriter)>) {
    // The pool is gone while its thread ends.
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        pool.taken = pool.taken.saturating_sub(1);
        if let Some(ends) = ends
            && pool.free.len() < POOLED
        {
            pool.free.push(ends);
        }
    });
}

#[derive(Default)]
struct Pool {
    free: Vec<(PipeReader, PipeWriter)>,
    taken: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// What a pipe can hold, in bytes.
const SIZE: usize = 256 * 1024;
const SIZE_ARGUMENT: i32 = 256 * 1024;

/// The sockets do not block, but the pipe would.
const FLAGS: SpliceFFlags = SpliceFFlags::SPLICE_F_MOVE.union(SpliceFFlags::SPLICE_F_NONBLOCK);

/// One pipe serves any number of tunnels whose receivers keep up.
const POOLED: usize = 8;

/// How many pipes there may be at once, of two descriptors each: the descriptors are for
/// connections.
const MAX_PIPES: usize = 256;
