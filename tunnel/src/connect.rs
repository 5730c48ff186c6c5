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

/// Connects over TCP. Until the stream is finished, its close sends an RST.
///
/// # Errors
///
/// What connect(2) answers.
pub async fn connect_tcp(address: SocketAddr) -> io::Result<Stream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    tcp::set_abort_or_warn(&socket);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::io::{ErrorKind, Read};
    use std::net::TcpListener;
    use std::pin::pin;
    use std::task::Poll;

    #[tokio::test]
    async fn who_dies_while_it_connects_is_not_taken_for_one_that_is_done() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        {
            let mut connecting = pin!(connect_tcp(listener.local_addr().unwrap()));
            // Once, so that it has begun.
            poll_fn(|cx| Poll::Ready(connecting.as_mut().poll(cx).is_ready())).await;
        }
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let error = accepted.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}
