//! TCP socket options; see tcp(7).

use std::fmt::Display;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, Socket, TcpKeepalive};

use crate::stream::Stream;

/// How long a TCP connection may be silent before the kernel asks whether the peer is there.
pub const KEEPALIVE_TIME: Duration = Duration::from_secs(15);
/// How long it waits between two such questions. How many may stay unanswered follows from
/// [`USER_TIMEOUT`]; see tcp(7).
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
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
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_linger(Some(Duration::ZERO))
}

/// Whether what a listener accepts needs no preparation.
///
/// # Errors
///
/// What getsockopt(2) answers.
pub(crate) fn has_listener_options(socket: &Socket) -> io::Result<bool> {
    Ok(socket.tcp_nodelay()? && socket.linger()? == Some(Duration::ZERO))
}

/// Prepares a socket before it connects: until [`set_close_or_warn`] its close sends an RST.
///
/// Also when this process is killed: a relay that dies must not look to its peers like one that is
/// done. They may have accepted before this process knows.
pub(crate) fn set_abort_or_warn(socket: &Socket) {
    warn_on_error("SO_LINGER", socket.set_linger(Some(Duration::ZERO)));
}

/// Prepares a connection over a network, so that a peer that died is noticed in seconds.
pub fn set_upstream_options(stream: &impl AsFd) {
    let socket = SockRef::from(stream);
    warn_on_error("TCP_NODELAY", socket.set_tcp_nodelay(true));
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    warn_on_error("keepalive", socket.set_tcp_keepalive(&keepalive));
    warn_on_error("TCP_USER_TIMEOUT", socket.set_tcp_user_timeout(Some(USER_TIMEOUT)));
}

/// Makes close(2) orderly again, for a connection of which both directions are done.
pub(crate) fn set_close_or_warn(stream: &Stream) {
    warn_on_error("SO_LINGER", SockRef::from(stream).set_linger(None));
}

fn warn_on_error(option: impl Display, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::warn!(%option, %error, "failed to set a socket option");
    }
}
