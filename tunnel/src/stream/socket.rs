//! A connected socket, and what the runtime watches it for.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::watch::watch;

/// A socket that never blocks.
///
/// It is not watched for room to write until there once was none: a Unix socket reports room
/// whenever its peer has read, and each of these reports would wake the relay for nothing.
#[derive(Debug)]
pub(super) struct Socket {
    /// Before the descriptor, since it must end before that is closed.
    watched: Option<AsyncFd<RawFd>>,
    watches_room: bool,
    /// Whether nobody has looked yet whether there is something to read. Who connects mostly speaks
    /// at once: what is there already need not wait for the runtime to hear of it.
    is_fresh: bool,
    descriptor: OwnedFd,
}

impl Socket {
    /// Watches a connected socket.
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        Self::watching(descriptor, false)
    }

    /// Watches a socket that was just accepted.
    pub(super) fn accepted(descriptor: OwnedFd) -> io::Result<Self> {
        Ok(Self { is_fresh: true, ..Self::watching(descriptor, false)? })
    }

    /// Watches a socket whose connect(2) may still be in progress, until that has ended.
    pub(super) async fn connecting(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = Self::watching(descriptor, true)?;
        if let Some(watched) = &socket.watched {
            // What is ready stays so: the first write may go ahead.
            watched.writable().await?.retain_ready();
        }
        rustix::net::sockopt::socket_error(&socket.descriptor)??;
        Ok(socket)
    }

    fn watching(descriptor: OwnedFd, watches_room: bool) -> io::Result<Self> {
        debug_assert!(
            rustix::fs::fcntl_getfl(&descriptor)?.contains(rustix::fs::OFlags::NONBLOCK),
            "every other tunnel would wait for its calls"
        );
        let mut socket = Self { watched: None, watches_room, is_fresh: false, descriptor };
        socket.watch()?;
        Ok(socket)
    }

    fn watch(&mut self) -> io::Result<()> {
        let interest = if self.watches_room {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        // The kernel knows a descriptor once only.
        self.watched = None;
        self.watched = Some(watch(self.descriptor.as_raw_fd(), interest)?);
        Ok(())
    }

    /// Reads into `room`, which must not be empty, and says how much; 0 is the end of the stream.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let size = room.len();
        self.poll_take(cx, |socket| {
            let (n, _) = recv(socket, &mut *room, RecvFlags::empty())?;
            // Less than there is room for was all that there is.
            Ok((n, 0 < n && n < size))
        })
    }

    /// Writes some of `bytes`, and says how much.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_give(cx, |socket| Ok(send(socket, bytes, SendFlags::NOSIGNAL)?))
    }

    /// Calls `take` when there may be something to read. It says how much it took, and whether
    /// that was all.
    pub(super) fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(BorrowedFd<'_>) -> io::Result<(usize, bool)>,
    ) -> Poll<io::Result<usize>> {
        let watched = self.watched.as_ref().ok_or_else(unwatched)?;
        loop {
            let mut readable = match watched.poll_read_ready(cx) {
                Poll::Ready(readable) => readable?,
                Poll::Pending if mem::take(&mut self.is_fresh) => {
                    return match take(self.descriptor.as_fd()) {
                        Err(error) if is_passing(&error) => Poll::Pending,
                        // If that was not all, the runtime will hear of the rest.
                        taken => Poll::Ready(taken.map(|(n, _)| n)),
                    };
                }
                Poll::Pending => return Poll::Pending,
            };
            self.is_fresh = false;
            match take(self.descriptor.as_fd()) {
                Ok((n, was_all)) => {
                    if was_all {
                        readable.clear_ready();
                    } else {
                        readable.retain_ready();
                    }
                    return Poll::Ready(Ok(n));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => readable.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Calls `give` when there may be room to write. It says how much it gave.
    pub(super) fn poll_give(
        &mut self,
        cx: &mut Context<'_>,
        mut give: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if !self.watches_room {
            match give(self.descriptor.as_fd()) {
                Err(error) if is_passing(&error) => {}
                given => return Poll::Ready(given),
            }
            self.watches_room = true;
            self.watch()?;
            // Whoever waited to read was forgotten with the old registration.
            cx.waker().wake_by_ref();
        }
        let watched = self.watched.as_ref().ok_or_else(unwatched)?;
        loop {
            let mut writable = ready!(watched.poll_write_ready(cx))?;
            match give(self.descriptor.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => writable.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                given => return Poll::Ready(given),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Whether a call may succeed a moment later.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

/// The kernel had no memory to watch it.
fn unwatched() -> io::Error {
    io::ErrorKind::OutOfMemory.into()
}
