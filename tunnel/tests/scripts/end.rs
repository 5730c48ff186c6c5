//! One end of a tunnel, and what it sees.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::yield_now;

use super::bytes::Bytes;
use super::script::{Part, Step};

/// What an end has done and seen so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Bytes that its socket took.
    pub(crate) written: u64,
    /// Whether a write or a half-close failed.
    pub(crate) write_failed: bool,
    /// Whether its writer waits for somebody else.
    waits: bool,
    pub(crate) half_closed: bool,
    /// Bytes that it read.
    pub(crate) read: u64,
    /// Whether one of them was not what the other end had sent.
    pub(crate) corrupt: bool,
    pub(crate) ending: Option<Ending>,
    pub(crate) closing: Option<Closing>,
    is_over: bool,
}

/// How its reading ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    Aborted(io::ErrorKind),
    Clean,
    /// The relay aborted, and left this end to its own half-close time-out.
    TimedOut,
}

/// How it left before its time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Closing {
    /// By close(2).
    Close,
    /// By an RST.
    Reset,
}

/// One end of a tunnel.
pub(crate) struct End<'a> {
    pub(crate) socket: Socket,
    pub(crate) part: &'a Part,
    pub(crate) sends: Bytes,
    pub(crate) expects: Bytes,
    pub(crate) progress: &'a watch::Sender<Progress>,
    pub(crate) peer: &'a watch::Sender<Progress>,
    /// Becomes true when the relay has aborted.
    pub(crate) relay_aborted: watch::Receiver<bool>,
}

impl End<'_> {
    /// Does its part, reads to the end and closes.
    pub(crate) async fn perform(self) {
        tokio::select! {
            closing = self.write() => match closing {
                None => self.read().await,
                Some(closing) => self.progress.send_modify(|progress| progress.closing = Some(closing)),
            },
            () = async { self.read().await; std::future::pending().await } => {}
        }
        self.socket.close(self.progress.borrow().closing);
        self.progress.send_modify(|progress| progress.is_over = true);
    }

    async fn write(&self) -> Option<Closing> {
        for step in &self.part.steps {
            let result = match *step {
                Step::Close => return Some(Closing::Close),
                Step::Reset => return Some(Closing::Reset),
                Step::HalfClose => self.half_close(),
                Step::Write(size) => self.write_all(size).await,
                pause => {
                    self.pause(pause).await;
                    Ok(())
                }
            };
            if result.is_err() {
                self.progress.send_modify(|progress| progress.write_failed = true);
                break;
            }
        }
        self.progress.send_modify(|progress| progress.waits = true);
        None
    }

    async fn write_all(&self, mut size: usize) -> io::Result<()> {
        while size > 0 {
            let position = self.progress.borrow().written;
            match self.socket.try_write(self.sends.at(position, size)) {
                Ok(n) => {
                    size -= n;
                    self.progress.send_modify(|progress| progress.written += n as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.waiting(self.socket.writable()).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn half_close(&self) -> io::Result<()> {
        // Afterwards an abort could not be told from a clean end.
        if self.socket.was_aborted() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.progress.send_modify(|progress| progress.half_closed = true);
        match SockRef::from(&self.socket).shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    async fn pause(&self, step: Step) {
        match step {
            Step::AwaitEnd => self.until(self.progress, |me| me.ending.is_some()).await,
            Step::AwaitRead => {
                let written = self.progress.borrow().written;
                let is_read =
                    |peer: &Progress| peer.read >= written || peer.ending.is_some() || peer.is_over;
                self.until(self.peer, is_read).await;
            }
            Step::Yield(times) => {
                for _ in 0..times {
                    yield_now().await;
                }
            }
            Step::Close | Step::HalfClose | Step::Reset | Step::Write(_) => {}
        }
    }

    async fn until(&self, end: &watch::Sender<Progress>, condition: impl FnMut(&Progress) -> bool) {
        let mut progress = end.subscribe();
        // What it returns is a lock on the progress.
        self.waiting(async { drop(progress.wait_for(condition).await) }).await;
    }

    async fn waiting<T>(&self, future: impl Future<Output = T>) -> T {
        self.progress.send_modify(|progress| progress.waits = true);
        let value = future.await;
        self.progress.send_modify(|progress| progress.waits = false);
        value
    }

    /// Reads to the end; to be called again after it was cancelled.
    async fn read(&self) {
        let mut peer = self.peer.subscribe();
        let mut relay_aborted = self.relay_aborted.clone();
        let mut chunk = vec![0; self.part.chunk];
        while self.progress.borrow().ending.is_none() {
            if self.part.lazy {
                let _ = peer.wait_for(|peer| peer.waits || peer.is_over).await;
            }
            let gives_up = *relay_aborted.borrow_and_update() && self.cannot_see_an_abort();
            match recv(self.socket.as_fd().as_raw_fd(), &mut chunk, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => self.end(self.socket_end()),
                Ok(n) => self.progress.send_modify(|progress| {
                    progress.corrupt |= !self.expects.match_at(progress.read, &chunk[..n]);
                    progress.read += n as u64;
                }),
                Err(nix::Error::EAGAIN) if gives_up => self.end(Ending::TimedOut),
                Err(nix::Error::EAGAIN) => tokio::select! {
                    result = self.socket.readable() => result.unwrap(),
                    Ok(()) = relay_aborted.changed() => {}
                },
                Err(error) => self.end(Ending::Aborted(io::Error::from(error).kind())),
            }
        }
    }

    fn end(&self, ending: Ending) {
        self.progress.send_modify(|progress| progress.ending = Some(ending));
    }

    fn socket_end(&self) -> Ending {
        let progress = self.progress.borrow();
        // A write that failed took the error away that the read would have reported.
        if progress.write_failed || !progress.half_closed && self.socket.was_aborted() {
            Ending::Aborted(io::ErrorKind::ConnectionAborted)
        } else {
            Ending::Clean
        }
    }

    fn cannot_see_an_abort(&self) -> bool {
        self.progress.borrow().half_closed && matches!(self.socket, Socket::Unix(_))
    }
}

/// What an end holds of its tunnel.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    async fn readable(&self) -> io::Result<()> {
        // recv(2) is called past tokio, which has to be told that nothing is left.
        let empty = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        match self {
            Self::Tcp(stream) => {
                let _ = stream.try_io(tokio::io::Interest::READABLE, empty);
                stream.readable().await
            }
            Self::Unix(stream) => {
                let _ = stream.try_io(tokio::io::Interest::READABLE, empty);
                stream.readable().await
            }
        }
    }

    async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.writable().await,
            Self::Unix(stream) => stream.writable().await,
        }
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }

    /// What a vsock or Unix peer has to ask before it half-closes, and after an end of file.
    fn was_aborted(&self) -> bool {
        let probe = || SockRef::from(self).send_with_flags(&[], MsgFlags::MSG_NOSIGNAL.bits());
        matches!(self, Self::Unix(_)) && probe().is_err()
    }

    fn close(self, closing: Option<Closing>) {
        if closing == Some(Closing::Reset) {
            // Only TCP has something to linger for.
            let _ = SockRef::from(&self).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}
