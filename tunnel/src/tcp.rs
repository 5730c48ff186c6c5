//! TCP socket options; see tcp(7).

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, Socket, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

/// How long a TCP connection may be silent before the kernel asks whether the peer is there.
pub const KEEPALIVE_TIME: Duration = Duration::from_secs(15);
/// How long it waits between two such questions.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How many may stay unanswered.
pub const KEEPALIVE_RETRIES: u32 = 3;
/// How long sent data may stay unacknowledged (RFC 5482). With the default, a dead HSM would be
/// noticed after fifteen minutes.
pub const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Prepares a listener, so that what it accepts needs no preparation: Linux hands these options
/// down.
///
/// # Errors
///
/// What setsockopt(2) answers.
pub(crate) fn set_listener_options(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_linger(Some(Duration::ZERO))
}

/// Connects. Until it is told otherwise, the socket's close sends an RST.
///
/// # Errors
///
/// What socket(2) or connect(2) answers.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // close(2) then sends an RST, also when this process is killed: a relay that dies must not
    // look to its peers like one that is done. They may have accepted before this process knows.
    warn_on_error("SO_LINGER", socket.set_zero_linger());
    socket.connect(address).await
}

/// Prepares a connection over a network, so that a peer that died is noticed in seconds.
pub fn set_upstream_options(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    warn_on_error("TCP_NODELAY", socket.set_tcp_nodelay(true));
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_TIME)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    warn_on_error("keepalive", socket.set_tcp_keepalive(&keepalive));
    warn_on_error("TCP_USER_TIMEOUT", socket.set_tcp_user_timeout(Some(USER_TIMEOUT)));
}

/// Makes close(2) orderly again, for a connection of which both directions are done.
pub(crate) fn set_close_or_warn(stream: &TcpStream) {
    warn_on_error("SO_LINGER", SockRef::from(stream).set_linger(None));
}

fn warn_on_error(option: impl Display, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::warn!(%option, %error, "failed to set a socket option");
    }
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
            let mut connecting = pin!(connect(listener.local_addr().unwrap()));
            // Once, so that it has begun.
            poll_fn(|cx| Poll::Ready(connecting.as_mut().poll(cx).is_ready())).await;
        }
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let error = accepted.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}
