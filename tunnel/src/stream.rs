//! One connection, whatever carries it.

mod asynchronous;

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::libc;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_vsock::VsockStream;

use crate::buffer::Buffer;
use crate::pipe::Pipe;
use crate::vsock::LostData;
use crate::{tcp, vsock};

/// A connected byte stream.
///
/// Dropping it aborts the connection: TCP sends an RST, and the other kinds close both ways
/// before both directions are done, which [`Self::was_aborted`] tells the peer. Only
/// [`Self::finish`] ends it cleanly.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
    /// Over AF_VSOCK.
    Vsock(VsockStream),
}

impl Stream {
    /// Reads into the room that `buffer` has, and says how much; 0 is the end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
    ) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(buffer.unfilled());
        let read = match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut room),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, &mut room),
            Self::Vsock(stream) => {
                Pin::new(stream).poll_read(cx, &mut room).map_err(LostData::name)
            }
        };
        ready!(read)?;
        let n = room.filled().len();
        buffer.fill(n);
        Poll::Ready(Ok(n))
    }

    /// Writes some of `bytes`, and says how much.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Vsock(stream) => {
                let bytes = &bytes[..bytes.len().min(vsock::MAX_WRITE)];
                Pin::new(stream).poll_write(cx, bytes)
            }
        }
    }

    /// Prepares for what comes while nobody reads this stream.
    pub(crate) fn brace_for_stall(&self) {
        if let Self::Vsock(stream) = self {
            vsock::brace_for_stall(stream);
        }
    }

    /// Whether bytes can be moved from this stream to `to` by way of a pipe. vsock would copy them
    /// nevertheless.
    pub(crate) fn can_splice(&self, to: &Self) -> bool {
        !matches!(self, Self::Vsock(_)) && !matches!(to, Self::Vsock(_))
    }

    /// Moves bytes into an empty `pipe`, and says how many; 0 is the end of the stream.
    pub(crate) fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        loop {
            let filled = match self {
                Self::Tcp(stream) => {
                    ready!(stream.poll_read_ready(cx))?;
                    stream.try_io(Interest::READABLE, || pipe.fill(stream.as_fd()))
                }
                Self::Unix(stream) => {
                    ready!(stream.poll_read_ready(cx))?;
                    stream.try_io(Interest::READABLE, || pipe.fill(stream.as_fd()))
                }
                Self::Vsock(_) => Err(io::ErrorKind::Unsupported.into()),
            };
            if !is_not_ready(&filled) {
                return Poll::Ready(filled);
            }
        }
    }

    /// Moves bytes out of `pipe`, and says how many.
    pub(crate) fn poll_drain(
        &self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        loop {
            let drained = match self {
                Self::Tcp(stream) => {
                    ready!(stream.poll_write_ready(cx))?;
                    stream.try_io(Interest::WRITABLE, || pipe.drain(stream.as_fd()))
                }
                Self::Unix(stream) => {
                    ready!(stream.poll_write_ready(cx))?;
                    stream.try_io(Interest::WRITABLE, || pipe.drain(stream.as_fd()))
                }
                Self::Vsock(_) => Err(io::ErrorKind::Unsupported.into()),
            };
            if !is_not_ready(&drained) {
                return Poll::Ready(drained);
            }
        }
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
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Unix(_) | Self::Vsock(_) => None,
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// What write(2) answers.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
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
            while poll_fn(|cx| self.poll_read(cx, &mut Buffer::take())).await? > 0 {}
            io::Result::Ok(())
        };
        if let Ok(Ok(())) = timeout(limit, hanging_up).await {
            self.finish();
        }
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
        match self {
            Self::Tcp(_) => false,
            Self::Unix(_) | Self::Vsock(_) => {
                let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
                SockRef::from(self)
                    .send_with_flags(&[], flags)
                    .is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
            }
        }
    }

    /// Whether the kernel holds bytes that were not read yet.
    pub(crate) fn has_unread(&self) -> bool {
        SockRef::from(self).peek(&mut [MaybeUninit::uninit()]).is_ok_and(|n| n > 0)
    }

    /// Closes a connection of which both directions are done.
    pub fn finish(self) {
        if let Self::Tcp(stream) = &self {
            tcp::set_close_or_warn(stream);
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::Vsock(stream) => stream.as_fd(),
        }
    }
}

fn is_not_ready<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}
