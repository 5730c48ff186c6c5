//! A connected socket, and what the runtime watches it for.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, getpeername, recv, send};

use super::Kind;
use crate::event_loop::Watched;

/// A socket that never blocks.
///
/// It is not watched for room to write until there once was none: a Unix socket reports room
/// whenever its peer has read, and each of these reports would wake the relay for nothing.
#[derive(Debug)]
pub(super) struct Socket {
    watched: Watched,
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
        // What is ready stays so: the first write may go ahead.
        poll_fn(|cx| socket.watched.poll_writable(cx)).await;
        rustix::net::sockopt::socket_error(&socket.descriptor)??;
        Ok(socket)
    }

    fn watching(descriptor: OwnedFd, kind: Kind, watches_room: bool) -> io::Result<Self> {
        debug_assert!(
            rustix::fs::fcntl_getfl(&descriptor)?.contains(rustix::fs::OFlags::NONBLOCK),
            "every other tunnel would wait for its calls"
        );
        let watched = Watched::new(&descriptor, watches_room)?;
        Ok(Self { watched, watches_room, is_due: false, pays: None, kind, descriptor })
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
        loop {
            let seen = match self.watched.poll_readable(cx) {
                Poll::Ready(seen) => seen,
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
                        self.watched.set_emptied(seen);
                    }
                    return Poll::Ready(Ok(taken));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.watched.set_unreadable(seen);
                }
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
            self.watched.watch_room(&self.descriptor)?;
            self.watches_room = true;
        }
        loop {
            let seen = ready!(self.watched.poll_writable(cx));
            match give(self.descriptor.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.watched.set_full(seen);
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    use std::task::Waker;

    /// Without a turn of the runtime, in which it could hear of anything.
    fn read(socket: &mut Socket) -> Option<usize> {
        let mut cx = Context::from_waker(Waker::noop());
        match socket.poll_read(&mut cx, &mut [0; 64]) {
            Poll::Ready(read) => Some(read.unwrap()),
            Poll::Pending => None,
        }
    }

    async fn hear(socket: &mut Socket) -> usize {
        poll_fn(|cx| socket.poll_read(cx, &mut [0; 64])).await.unwrap()
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
        assert_eq!(hear(&mut socket).await, 5);
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
        assert_eq!(hear(&mut socket).await, 5);
    }
}
