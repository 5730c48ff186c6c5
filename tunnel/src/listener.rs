//! Listening on an endpoint.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::net::{SocketFlags, accept_with, acceptfrom_with};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::destination::Destination;
use crate::endpoint::{Cid, Endpoint};
use crate::host::Host;
use crate::stream::{Kind, Stream};
use crate::watch::watch;
use crate::{tcp, vsock};

/// A socket that accepts connections.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    socket: AsyncFd<Socket>,
    _name: Option<UnlinkOnDrop>,
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
                Endpoint::Unix(path) => (listen_unix(path)?, Some(UnlinkOnDrop(path.clone()))),
                Endpoint::Vsock { cid, port } => (vsock::listen(*cid, *port, BACKLOG)?, None),
            };
            Ok((watch(socket, Interest::READABLE)?, name))
        };
        match listen() {
            Ok((socket, name)) => Ok(Self { endpoint: endpoint.clone(), socket, _name: name }),
            Err(source) => Err(ListenError { endpoint: endpoint.clone(), source }),
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
            let mut queue = self.socket.readable().await?;
            if let Ok(accepted) = queue.try_io(|socket| self.accept_queued(socket.get_ref())) {
                return accepted;
            }
        }
    }

    fn accept_queued(&self, listener: &Socket) -> io::Result<(Stream, Peer)> {
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
        Ok((Stream::new(socket, kind)?, peer))
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
    socket.set_reuse_address(true)?;
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
struct UnlinkOnDrop(PathBuf);

impl Drop for UnlinkOnDrop {
    fn drop(&mut self) {
        // Somebody may have removed it already; there is nobody to tell.
        let _ = std::fs::remove_file(&self.0);
    }
}

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// How many connections may wait for accept(2). A full vsock backlog resets at once where TCP
/// would wait; `net.core.somaxconn` (4096) caps the others.
const BACKLOG: i32 = 4096;
