//! Connecting to an endpoint.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use nix::libc;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::time::timeout;

use crate::endpoint::Endpoint;
use crate::host::Host;
use crate::stream::{Kind, Stream};
use crate::{tcp, vsock};

/// Connects to an endpoint, within `limit`. Names are not resolved.
///
/// # Errors
///
/// What connect(2) answers, or [`io::ErrorKind::TimedOut`].
pub async fn connect(endpoint: &Endpoint, limit: Duration) -> io::Result<Stream> {
    match endpoint {
        Endpoint::Tcp(destination) => match destination.host {
            Host::Ip(ip) => {
                let connecting = connect_tcp((ip, destination.port.get()).into());
                let timed_out = |_| Err(io::ErrorKind::TimedOut.into());
                let stream = timeout(limit, connecting).await.unwrap_or_else(timed_out)?;
                tcp::set_upstream_options(&stream);
                Ok(stream)
            }
            Host::Name(_) => Err(io::ErrorKind::Unsupported.into()),
        },
        Endpoint::Unix(path) => connect_unix(path),
        Endpoint::Vsock { cid, port } => vsock::connect(*cid, *port, limit).await,
    }
}

/// Connects over TCP.
///
/// # Errors
///
/// What connect(2) answers.
pub async fn connect_tcp(address: SocketAddr) -> io::Result<Stream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    begin(&socket, &address.into())?;
    Stream::connecting(socket.into(), Kind::Tcp).await
}

/// Begins to connect a socket that does not block.
pub(crate) fn begin(socket: &Socket, address: &SockAddr) -> io::Result<()> {
    match socket.connect(address) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        result => result,
    }
}

/// Never waits: a Unix socket is connected at once, or there is no room for it (EAGAIN).
fn connect_unix(path: &Path) -> io::Result<Stream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Stream::new(socket.into(), Kind::Unix)
}
