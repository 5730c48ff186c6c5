//! Many sockets in one thread, with few system calls: what a load adds must not hide what a relay
//! costs.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv, send};

/// Sockets that are waited for, each with a number.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

/// What a socket is waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Interest {
    Read,
    Write,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, events: vec![EpollEvent::empty(); MOST_EVENTS] })
    }

    /// Waits for a socket from now on, until it is closed.
    pub(crate) fn add(
        &self,
        socket: &impl AsFd,
        number: usize,
        interest: Interest,
    ) -> io::Result<()> {
        Ok(self.epoll.add(socket, EpollEvent::new(interest.flags(), number as u64))?)
    }

    /// Waits for something else.
    pub(crate) fn change(
        &self,
        socket: &impl AsFd,
        number: usize,
        interest: Interest,
    ) -> io::Result<()> {
        let mut event = EpollEvent::new(interest.flags(), number as u64);
        Ok(self.epoll.modify(socket, &mut event)?)
    }

    /// The numbers of those that are ready; none if `limit` passes first.
    pub(crate) fn wait(&mut self, limit: Duration) -> io::Result<impl Iterator<Item = usize>> {
        // Rounded up: the last millisecond would be spent in a loop.
        let limit =
            EpollTimeout::try_from(limit + Duration::from_millis(1)).map_err(io::Error::other)?;
        let count = match self.epoll.wait(&mut self.events, limit) {
            Err(Errno::EINTR) => 0,
            result => result?,
        };
        Ok(self.events[..count].iter().filter_map(|event| usize::try_from(event.data()).ok()))
    }
}

impl Interest {
    fn flags(self) -> EpollFlags {
        match self {
            Self::Read => EpollFlags::EPOLLIN,
            Self::Write => EpollFlags::EPOLLOUT,
        }
    }
}

/// Reads what is there; `None` if nothing is.
pub(crate) fn read_ready(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    ready(recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT))
}

/// Writes what the socket takes; `None` if it takes nothing.
pub(crate) fn write_ready(socket: &impl AsRawFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    ready(send(socket.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL))
}

fn ready(result: nix::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        result => Ok(Some(result?)),
    }
}

const MOST_EVENTS: usize = 256;
