//! A connected socket, and what the runtime watches it for.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, getpeername, recv, send};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Kind;
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
    /// Whether to look what there is to read, though the runtime has not heard of anything. Who
    /// connects mostly speaks at once; and who was sent something may have run and answered before
    /// the call came back.
    is_due: bool,
    /// Whether a look has found something each time so far. Nobody knows before there was
    /// something to read: a peer that has said nothing yet is seldom that quick.
    pays: Option<bool>,
    /// It stands here, where it takes no room: every idle tunnel has two of these.
    kind: Kind,
    descriptor: OwnedFd,
}

impl Socket {
    /// Watches a connected socket.
    pub(super) fn new(descriptor: OwnedFd, kind: Kind) -> io::Result<Self> {
        Self::watching(descriptor, kind, false)
    }

    /// Watches a socket that was just accepted.
    pub(super) fn accepted(descriptor: OwnedFd, kind: Kind) -> io::Result<Self> {
        Ok(Self { is_due: true, ..Self::watching(descriptor, kind, false)? })
    }

    /// Watches a socket whose connect(2) may still be in progress, until that has ended.
    pub(super) async fn connecting(descriptor: OwnedFd, kind: Kind) -> io::Result<Self> {
        // On one machine TCP connects before connect(2) comes back, though that says EINPROGRESS.
        if getpeername(&descriptor).is_ok() {
            return Self::new(descriptor, kind);
        }
        let socket = Self::watching(descriptor, kind, true)?;
        if let Some(watched) = &socket.watched {
            // What is ready stays so: the first write may go ahead.
            watched.writable().await?.retain_ready();
        }
        rustix::net::sockopt::socket_error(&socket.descriptor)??;
        Ok(socket)
    }

    fn watching(descriptor: OwnedFd, kind: Kind, watches_room: bool) -> io::Result<Self> {
        debug_assert!(
            rustix::fs::fcntl_getfl(&descriptor)?.contains(rustix::fs::OFlags::NONBLOCK),
            "every other tunnel would wait for its calls"
        );
        let mut socket =
            Self { watched: None, watches_room, is_due: false, pays: None, kind, descriptor };
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

    /// What carries it.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Reads into `room`, which must not be empty, and says how much; 0 is the end of the stream.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_take(cx, |socket| read(socket, room))
    }

    /// Writes some of `bytes`, and says how much.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_give(cx, |socket| Ok(send(socket, bytes, SendFlags::NOSIGNAL)?))
    }

    /// Calls `take` when there may be something to read. It says what it took, and whether that was
    /// all.
    pub(super) fn poll_take<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(BorrowedFd<'_>) -> io::Result<(T, bool)>,
    ) -> Poll<io::Result<T>> {
        let watched = self.watched.as_ref().ok_or_else(unwatched)?;
        loop {
            let mut readable = match watched.poll_read_ready(cx) {
                Poll::Ready(readable) => readable?,
                Poll::Pending if mem::take(&mut self.is_due) => {
                    return match take(self.descriptor.as_fd()) {
                        Err(error) if is_passing(&error) => {
                            self.pays = Some(false);
                            Poll::Pending
                        }
                        // If that was not all, the runtime will hear of the rest.
                        taken => {
                            self.pays.get_or_insert(true);
                            Poll::Ready(taken.map(|(taken, _)| taken))
                        }
                    };
                }
                Poll::Pending => return Poll::Pending,
            };
            self.is_due = false;
            match take(self.descriptor.as_fd()) {
                Ok((taken, was_all)) => {
                    self.pays.get_or_insert(true);
                    if was_all {
                        readable.clear_ready();
                    } else {
                        readable.retain_ready();
                    }
                    return Poll::Ready(Ok(taken));
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
                given => {
                    self.is_due = self.pays == Some(true);
                    return Poll::Ready(given);
                }
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
                given => {
                    self.is_due = self.pays == Some(true);
                    return Poll::Ready(given);
                }
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Reads into `room`, which must not be empty. Says how much, and whether that was all.
pub(super) fn read(socket: BorrowedFd<'_>, room: &mut [u8]) -> io::Result<(usize, bool)> {
    let size = room.len();
    let (n, _) = recv(socket, room, RecvFlags::empty())?;
    Ok((n, 0 < n && n < size))
}

/// Whether a call may succeed a moment later.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

/// The kernel had no memory to watch it.
fn unwatched() -> io::Error {
    io::ErrorKind::OutOfMemory.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    use std::task::Waker;

    // Nothing is awaited: the runtime never has a turn in which it could hear of anything.

    fn read(socket: &mut Socket) -> Option<usize> {
        let mut cx = Context::from_waker(Waker::noop());
        match socket.poll_read(&mut cx, &mut [0; 64]) {
            Poll::Ready(read) => Some(read.unwrap()),
            Poll::Pending => None,
        }
    }

    fn write(socket: &mut Socket) {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(socket.poll_write(&mut cx, b"request"), Poll::Ready(Ok(7))));
    }

    fn pair() -> (UnixStream, OwnedFd) {
        let (peer, socket) = UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        (peer, socket.into())
    }

    #[tokio::test]
    async fn what_a_client_has_said_already_is_not_waited_for() {
        let (mut peer, socket) = pair();
        peer.write_all(b"hello").unwrap();
        let mut socket = Socket::accepted(socket, Kind::Unix).unwrap();
        assert_eq!(read(&mut socket), Some(5));
        peer.write_all(b"again").unwrap();
        assert_eq!(read(&mut socket), None, "the runtime tells of what comes later");
    }

    /// A socket whose peer has answered once.
    async fn acquainted() -> (UnixStream, Socket) {
        let (mut peer, socket) = pair();
        let mut socket = Socket::new(socket, Kind::Unix).unwrap();
        exchange(&mut peer, &mut socket);
        assert_eq!(read(&mut socket), None, "nobody answers at once the first time");
        tokio::task::yield_now().await;
        assert_eq!(read(&mut socket), Some(5), "the runtime has heard of it");
        (peer, socket)
    }

    fn exchange(peer: &mut UnixStream, socket: &mut Socket) {
        write(socket);
        peer.read_exact(&mut [0; 7]).unwrap();
        peer.write_all(b"reply").unwrap();
    }

    #[tokio::test]
    async fn an_answer_that_is_there_already_is_not_waited_for() {
        let (mut peer, mut socket) = acquainted().await;
        for _ in 0..3 {
            exchange(&mut peer, &mut socket);
            assert_eq!(read(&mut socket), Some(5));
        }
    }

    #[tokio::test]
    async fn who_takes_his_time_is_not_looked_for_again() {
        let (mut peer, mut socket) = acquainted().await;
        write(&mut socket);
        assert_eq!(read(&mut socket), None);
        write(&mut socket);
        peer.write_all(b"reply").unwrap();
        assert_eq!(read(&mut socket), None);
        tokio::task::yield_now().await;
        assert_eq!(read(&mut socket), Some(5), "the runtime has heard of it");
    }
}
