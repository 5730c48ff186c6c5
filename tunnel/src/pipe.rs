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

/// Closes the pipes of this thread's pool, so that a proxy at rest holds no descriptors for them.
pub fn close_idle() {
    let free = POOL.try_with(|pool| std::mem::take(&mut pool.borrow_mut().free));
    drop(free);
}

/// How many pipes this thread's pool has.
#[cfg(test)]
pub(crate) fn pooled() -> usize {
    POOL.with_borrow(|pool| pool.free.len())
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let ((mut sender, from), (to, mut receiver)) = (pair(), pair());
        sender.write_all(b"hello").unwrap();
        let mut pipe = Pipe::take().unwrap();
        assert_eq!(pipe.fill(from.as_fd()).unwrap(), 5);
        assert_eq!(pipe.drain(to.as_fd()).unwrap(), 5);
        assert_eq!(pipe.held(), 0);
        let mut bytes = [0; 5];
        receiver.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
    }

    #[test]
    fn it_says_when_there_is_nothing_and_when_it_is_the_end() {
        let (sender, from) = pair();
        let mut pipe = Pipe::take().unwrap();
        assert_eq!(pipe.fill(from.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(sender);
        assert_eq!(pipe.fill(from.as_fd()).unwrap(), 0);
    }

    #[test]
    fn one_that_is_not_empty_is_not_used_again() {
        let (mut sender, from) = pair();
        sender.write_all(b"secret").unwrap();
        let mut pipe = Pipe::take().unwrap();
        pipe.fill(from.as_fd()).unwrap();
        drop(pipe);
        assert!(POOL.with_borrow(|pool| pool.free.is_empty() && pool.taken == 0));
        drop(Pipe::take().unwrap());
        assert_eq!(POOL.with_borrow(|pool| (pool.free.len(), pool.taken)), (1, 0));
    }

    #[test]
    fn there_is_an_end_to_pipes_and_a_buffer_will_do() {
        let pipes: Vec<_> = (0..MAX_PIPES).map(|_| Pipe::take().unwrap()).collect();
        assert!(Pipe::take().is_none());
        drop(pipes);
        assert!(Pipe::take().is_some());
        assert_eq!(POOL.with_borrow(|pool| (pool.free.len(), pool.taken)), (POOLED, 0));
        close_idle();
        assert!(POOL.with_borrow(|pool| pool.free.is_empty()));
    }

    fn pair() -> (UnixStream, UnixStream) {
        let (a, b) = UnixStream::pair().unwrap();
        for end in [&a, &b] {
            end.set_nonblocking(true).unwrap();
        }
        (a, b)
    }
}
