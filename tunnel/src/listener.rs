//! Listening on an endpoint.

mod bound;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketFlags, accept_with, acceptfrom_with};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use thiserror::Error;

pub use self::bound::{Bound, NotBound};
use crate::destination::Destination;
use crate::endpoint::{Cid, Endpoint};
use crate::event_loop::Watched;
use crate::host::Host;
use crate::stream::{Kind, Stream};
use crate::{tcp, vsock};

/// A socket that accepts connections.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    watched: Watched,
    socket: Socket,
    name: Option<UnlinkOnDrop>,
    /// Whether its clients may have connected before it had the options that they inherit.
    is_late: bool,
}

impl Listener {
    /// Binds the endpoint and listens. Needs a runtime.
    ///
    /// # Errors
    ///
    /// [`ListenError`], with what the system answered.
    pub fn bind(endpoint: &Endpoint) -> Result<Self, ListenError> {
        let listen = || {
            let (socket, name) = match endpoint {
                Endpoint::Tcp(destination) => match destination.host {
                    Host::Ip(ip) => (listen_tcp((ip, destination.port.get()).into())?, None),
                    Host::Name(_) => {
                        let reason = "a name is no address to listen on";
                        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
                    }
                },
                Endpoint::Unix(path) => (listen_unix(path)?, Some(UnlinkOnDrop::new(path))),
                Endpoint::Vsock { cid, port } => (vsock::listen(*cid, *port, BACKLOG)?, None),
            };
            Ok((Watched::new(&socket, false)?, socket, name))
        };
        match listen() {
            Ok((watched, socket, name)) => {
                Ok(Self { endpoint: endpoint.clone(), watched, socket, name, is_late: false })
            }
            Err(source) => Err(ListenError { endpoint: endpoint.clone(), source }),
        }
    }

    /// Takes over a socket that another process has bound, with the options and the backlog of a
    /// new one. It leaves the name of a Unix socket alone. Needs a runtime.
    ///
    /// # Errors
    ///
    /// [`ListenError`], with what the system answered.
    pub fn adopt(bound: Bound) -> Result<Self, ListenError> {
        let endpoint = bound.endpoint().clone();
        let adopt = |socket: Socket| {
            socket.set_nonblocking(true)?;
            let is_late = prepare(&socket, &endpoint)?;
            socket.listen(BACKLOG)?;
            Ok((Watched::new(&socket, false)?, socket, is_late))
        };
        match adopt(bound.socket) {
            Ok((watched, socket, is_late)) => {
                Ok(Self { endpoint, watched, socket, name: None, is_late })
            }
            Err(source) => Err(ListenError { endpoint, source }),
        }
    }

    /// Leaves the name of a Unix socket to whoever keeps the socket: else it is removed with this
    /// listener.
    pub fn keep_name(&self) {
        if let Some(name) = &self.name {
            name.is_kept.store(true, Ordering::Relaxed);
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Takes the next connection.
    ///
    /// # Errors
    ///
    /// What accept(2) answers; [`crate::accept`] knows which of them to wait out.
    pub async fn accept(&self) -> io::Result<(Stream, Peer)> {
        loop {
            let seen = poll_fn(|cx| self.watched.poll_readable(cx)).await;
            match self.accept_queued() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.watched.set_unreadable(seen);
                }
                accepted => return accepted,
            }
        }
    }

    fn accept_queued(&self) -> io::Result<(Stream, Peer)> {
        let listener = &self.socket;
        if !has_queued(listener)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (socket, kind, peer) = match &self.endpoint {
            Endpoint::Tcp(_) => {
                let (socket, address) = acceptfrom_with(listener, FLAGS)?;
                let address = address.ok_or(io::ErrorKind::InvalidData)?.try_into()?;
                (socket, Kind::Tcp, Peer::Tcp(address))
            }
            Endpoint::Unix(_) => (accept_with(listener, FLAGS)?, Kind::Unix, Peer::Unix),
            Endpoint::Vsock { .. } => {
                let (socket, cid, port) = vsock::accept_queued(listener)?;
                (socket.into(), Kind::Vsock, Peer::Vsock { cid, port })
            }
        };
        if self.is_late {
            prepare(&SockRef::from(&socket), &self.endpoint)?;
        }
        Ok((Stream::accepted(socket, kind)?, peer))
    }
}

/// Whether a client waits.
///
/// An accept(2) that finds nobody makes a socket and destroys it, which takes ten times as long as to
/// ask. That of vsock even puts the thread to sleep until the next tick of the kernel's clock, also
/// for a socket that does not block (`schedule_timeout(0)` in `vsock_accept`): every tunnel of this
/// thread would stand still for up to 4 ms with each connection.
fn has_queued(listener: &Socket) -> io::Result<bool> {
    let mut queue = [PollFd::new(listener, PollFlags::IN)];
    Ok(poll(&mut queue, Some(&Timespec::default()))? > 0)
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Binds an endpoint of a kind that nobody else can bind then, but does not listen, and lets it go
/// again. Not for Unix sockets, whose name would stay.
///
/// # Errors
///
/// [`ListenError`], with what the system answered.
pub fn try_bind(endpoint: &Endpoint) -> Result<(), ListenError> {
    let bind = || match endpoint {
        Endpoint::Tcp(Destination { host: Host::Ip(ip), port }) => {
            bind_tcp((*ip, port.get()).into()).map(drop)
        }
        Endpoint::Tcp(_) | Endpoint::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        Endpoint::Vsock { cid, port } => vsock::bind(*cid, *port).map(drop),
    };
    bind().map_err(|source| ListenError { endpoint: endpoint.clone(), source })
}

/// Who connected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer {
    /// A TCP address.
    Tcp(SocketAddr),
    /// Somebody on this machine.
    Unix,
    /// A virtual machine, as the kernel names it: nobody can pretend to be another.
    Vsock {
        /// Which one.
        cid: Cid,
        /// The port that it connected from.
        port: u32,
    },
}

impl Peer {
    /// The virtual machine that connected, if one did.
    #[must_use]
    pub fn cid(&self) -> Option<Cid> {
        match self {
            Self::Vsock { cid, .. } => Some(*cid),
            Self::Tcp(_) | Self::Unix => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Unix => f.write_str("unix"),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
        }
    }
}

/// An endpoint that cannot be listened on.
#[derive(Debug, Error)]
#[error("failed to listen on `{endpoint}`{}", hint(endpoint, source))]
pub struct ListenError {
    endpoint: Endpoint,
    source: io::Error,
}

impl ListenError {
    /// Whether somebody else has it.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }

    /// Whether this process lacks a privilege.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }
}

/// What an operator can do about it, where the errno alone does not say.
fn hint(endpoint: &Endpoint, error: &io::Error) -> &'static str {
    match (endpoint, error.raw_os_error()) {
        (Endpoint::Vsock { .. }, Some(libc::EADDRNOTAVAIL)) => {
            "; that CID is not this machine's: write `vsock:any:<port>`"
        }
        (Endpoint::Vsock { .. }, Some(libc::EACCES)) => {
            "; vsock ports below 1024 need CAP_NET_BIND_SERVICE"
        }
        (Endpoint::Vsock { .. }, Some(libc::EAFNOSUPPORT | libc::ENODEV)) => {
            "; this machine has no vsock: is the kernel module loaded?"
        }
        (_, Some(libc::EADDRINUSE)) => "; another program listens there",
        _ => "",
    }
}

/// Gives a listener that somebody else has bound, or what it has accepted, the options of one of
/// ours; says whether it had others.
fn prepare(socket: &Socket, endpoint: &Endpoint) -> io::Result<bool> {
    match endpoint {
        Endpoint::Tcp(_) => {
            let is_late = !tcp::has_listener_options(socket)?;
            tcp::set_listener_options(socket)?;
            Ok(is_late)
        }
        Endpoint::Unix(_) => Ok(false),
        Endpoint::Vsock { .. } => vsock::widen(socket),
    }
}

fn listen_tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = bind_tcp(address)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn bind_tcp(address: SocketAddr) -> io::Result<Socket> {
    let domain = match address.ip() {
        IpAddr::V4(_) => Domain::IPV4,
        IpAddr::V6(_) => Domain::IPV6,
    };
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    tcp::set_listener_options(&socket)?;
    if address.is_ipv6() {
        // Each family has a listener of its own; a dual one would take the other's port.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listen_unix(path: &Path) -> io::Result<Socket> {
    match std::os::unix::net::UnixStream::connect(path) {
        // A socket that nobody listens on was left behind by a process that was killed.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)?;
        }
        _ => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Removes a Unix socket's name with its listener.
#[derive(Debug)]
struct UnlinkOnDrop {
    path: PathBuf,
    is_kept: AtomicBool,
}

impl UnlinkOnDrop {
    fn new(path: &Path) -> Self {
        Self { path: path.into(), is_kept: AtomicBool::new(false) }
    }
}

impl Drop for UnlinkOnDrop {
    fn drop(&mut self) {
        if !*self.is_kept.get_mut() {
            // Somebody may have removed it already; there is nobody to tell.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// How many connections may wait for accept(2). A full vsock backlog resets at once where TCP
/// would wait; `net.core.somaxconn` (4096) caps the others.
const BACKLOG: i32 = 4096;
