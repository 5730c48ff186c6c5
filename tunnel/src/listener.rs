//! Listening on an endpoint.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};

use crate::endpoint::{Cid, Endpoint};
use crate::host::Host;
use crate::stream::Stream;
use crate::tcp;
use crate::vsock::{self, VsockListener};

/// A socket that accepts connections.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    socket: ListenSocket,
}

#[derive(Debug)]
enum ListenSocket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _name: UnlinkOnDrop },
    Vsock(VsockListener),
}

impl Listener {
    /// Binds the endpoint and listens. Needs a runtime.
    ///
    /// # Errors
    ///
    /// [`ListenError`], with what the system answered.
    pub fn bind(endpoint: &Endpoint) -> Result<Self, ListenError> {
        let socket = match endpoint {
            Endpoint::Tcp(destination) => match destination.host {
                Host::Ip(ip) => {
                    listen_tcp((ip, destination.port.get()).into()).map(ListenSocket::Tcp)
                }
                Host::Name(_) => Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "a name is no address to listen on",
                )),
            },
            Endpoint::Unix(path) => listen_unix(path)
                .map(|listener| ListenSocket::Unix { listener, _name: UnlinkOnDrop(path.clone()) }),
            Endpoint::Vsock { cid, port } => {
                vsock::listen(*cid, *port, BACKLOG).map(ListenSocket::Vsock)
            }
        };
        match socket {
            Ok(socket) => Ok(Self { endpoint: endpoint.clone(), socket }),
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
        match &self.socket {
            ListenSocket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Stream::Tcp(stream), Peer::Tcp(address)))
            }
            ListenSocket::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::Unix))
            }
            ListenSocket::Vsock(listener) => {
                let (stream, address) = listener.accept().await?;
                let peer = Peer::Vsock { cid: Cid::new(address.cid()), port: address.port() };
                Ok((Stream::Vsock(stream), peer))
            }
        }
    }
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

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
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
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn listen_unix(path: &Path) -> io::Result<UnixListener> {
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
    UnixListener::from_std(std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(
        socket,
    )))
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

/// How many connections may wait for accept(2). A full vsock backlog resets at once where TCP
/// would wait; `net.core.somaxconn` (4096) caps the others.
const BACKLOG: i32 = 4096;
