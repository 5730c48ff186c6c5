//! One connection, whatever carries it.

mod asynchronous;
mod socket;

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::libc;
use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::buffer::Buffer;
use crate::event_loop::poll_proceed;
use crate::pipe::Pipe;
use crate::vsock::LostData;
use crate::{tcp, vsock};
use socket::Socket;

/// A connected byte stream.
///
/// Dropping it aborts the connection: TCP sends an RST, and the other kinds close both ways
/// before both directions are done, which [`Self::was_aborted`] tells the peer. Only
/// [`Self::finish`] ends it cleanly.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
}

/// What carries a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// TCP, which can say "abort".
    Tcp,
    /// A Unix socket.
    Unix,
    /// AF_VSOCK.
    Vsock,
}

impl Stream {
    /// A stream over a connected socket that does not block.
    pub(crate) fn new(socket: OwnedFd, kind: Kind) -> io::Result<Self> {
        Ok(Self { socket: Socket::new(socket, kind)? })
    }

    /// A stream over a socket that accept(2) has just given and that does not block.
    pub(crate) fn accepted(socket: OwnedFd, kind: Kind) -> io::Result<Self> {
        Ok(Self { socket: Socket::accepted(socket, kind)? })
    }

    /// A stream over a socket that connect(2) was called for, once it is connected.
    pub(crate) async fn connecting(socket: OwnedFd, kind: Kind) -> io::Result<Self> {
        Ok(Self { socket: Socket::connecting(socket, kind).await? })
    }

    /// What carries it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.socket.kind()
    }

    /// Reads into the room that `buffer` has, and says how much; 0 is the end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.socket.poll_read(cx, buffer.unfilled())).map_err(|e| self.name(e))?;
        buffer.fill(n);
        Poll::Ready(Ok(n))
    }

    /// Reads into a buffer that is taken when there may be something to read, and no earlier. An
    /// empty one is the end of the stream.
    pub(crate) fn poll_read_buffer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Buffer>> {
        let read = self.socket.poll_take(cx, |socket| {
            let mut buffer = Buffer::take();
            let (n, was_all) = socket::read(socket, buffer.unfilled())?;
            buffer.fill(n);
            Ok((buffer, was_all))
        });
        read.map_err(|error| self.name(error))
    }

    fn name(&self, error: io::Error) -> io::Error {
        match self.kind() {
            Kind::Tcp | Kind::Unix => error,
            Kind::Vsock => LostData::name(error),
        }
    }

    /// Writes some of `bytes`, and says how much.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let most = match self.kind() {
            Kind::Tcp | Kind::Unix => bytes.len(),
            Kind::Vsock => bytes.len().min(vsock::MAX_WRITE),
        };
        self.socket.poll_write(cx, &bytes[..most])
    }

    /// Prepares for what comes while nobody reads this stream.
    pub(crate) fn brace_for_stall(&self) {
        if self.kind() == Kind::Vsock {
            vsock::brace_for_stall(self);
        }
    }

    /// Whether bytes can be moved from this stream to `to` by way of a pipe. vsock would copy them
    /// nevertheless.
    pub(crate) fn can_splice(&self, to: &Self) -> bool {
        self.kind() != Kind::Vsock && to.kind() != Kind::Vsock
    }

    /// Moves bytes into an empty `pipe`, and says how many; 0 is the end of the stream.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_take(cx, |socket| Ok((pipe.fill(socket)?, false)))
    }

    /// Moves bytes out of `pipe`, and says how many.
    pub(crate) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_give(cx, |socket| pipe.drain(socket))
    }

    /// Reads what can be read without waiting, into the room that `buffer` has.
    ///
    /// # Errors
    ///
    /// What read(2) answers.
    pub async fn read_ready(&mut self, buffer: &mut Buffer) -> io::Result<()> {
        poll_fn(|cx| match self.poll_read(cx, buffer) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Ready(Ok(())),
        })
        .await
    }

    /// The address on this side, of a TCP stream.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        SockRef::from(self).local_addr().ok()?.as_socket()
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// What write(2) answers.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            // As long as the peer takes all of it nothing else would end the turn of this task.
            poll_fn(poll_proceed).await;
            let n = poll_fn(|cx| self.poll_write(cx, bytes)).await?;
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Sends `last_words`, then closes the stream once the peer has closed it or `limit` has
    /// passed.
    ///
    /// Closed at once, TCP would reset a peer that has more to say, and it might never read them;
    /// nor might a vsock peer on Nitro (aws-nitro-enclaves-samples issue 22).
    pub async fn hang_up(mut self, last_words: &[u8], limit: Duration) {
        let hanging_up = async {
            self.write_all(last_words).await?;
            self.shutdown_write()?;
            while !poll_fn(|cx| self.poll_read_buffer(cx)).await?.is_empty() {}
            io::Result::Ok(())
        };
        if let Ok(Ok(())) = timeout(limit, hanging_up).await {
            self.finish();
        }
    }

    /// Closes a stream on which nothing was said, without an RST, which some services log as an
    /// attack: waits until the peer closes, too, or `limit` has passed.
    pub async fn take_leave(mut self, limit: Duration) {
        if self.kind() == Kind::Tcp {
            // Also if this future is dropped.
            tcp::set_close_or_warn(&self);
        }
        let closing = async {
            self.shutdown_write()?;
            while !poll_fn(|cx| self.poll_read_buffer(cx)).await?.is_empty() {}
            io::Result::Ok(())
        };
        // A peer that does not close, or fails, was told all the same.
        let _ = timeout(limit, closing).await;
    }

    /// Tells the peer that nothing more will be sent: the half-close of shutdown(2).
    ///
    /// # Errors
    ///
    /// What shutdown(2) answers, but for ENOTCONN: then the peer has gone, and whoever reads next
    /// learns how.
    pub fn shutdown_write(&self) -> io::Result<()> {
        match SockRef::from(self).shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    /// After the end of the stream was read: whether the peer closed both ways, though this side
    /// was not done yet.
    ///
    /// A vsock or Unix peer that dies reads as a clean end of file. A send of no bytes tells the
    /// two apart: EPIPE after a full close, success after a mere half-close. TCP has the RST.
    #[must_use]
    pub fn was_aborted(&self) -> bool {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        self.kind() != Kind::Tcp
            && SockRef::from(self)
                .send_with_flags(&[], flags)
                .is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether the kernel holds bytes that were not read yet.
    pub(crate) fn has_unread(&self) -> bool {
        SockRef::from(self).peek(&mut [MaybeUninit::uninit()]).is_ok_and(|n| n > 0)
    }

    /// Whether [`Self::finish`] also tells the peer that nothing more will be sent. vsock might lose
    /// what was sent last (aws-nitro-enclaves-samples issue 22).
    pub(crate) fn closes_as_it_ends(&self) -> bool {
        self.kind() != Kind::Vsock
    }

    /// Closes a connection of which both directions are done.
    pub fn finish(self) {
        if self.kind() == Kind::Tcp {
            tcp::set_close_or_warn(&self);
        }
    }
}

impl TryFrom<TcpStream> for Stream {
    type Error = io::Error;

    fn try_from(stream: TcpStream) -> io::Result<Self> {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        Self::new(stream.into_std()?.into(), Kind::Tcp)
    }
}

impl TryFrom<UnixStream> for Stream {
    type Error = io::Error;

    fn try_from(stream: UnixStream) -> io::Result<Self> {
        Self::new(stream.into_std()?.into(), Kind::Unix)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
