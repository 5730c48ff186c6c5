//! AF_VSOCK sockets, created and configured before they listen or connect; see vsock(7).

pub mod options;

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{getsockopt, setsockopt};
use nix::sys::time::TimeVal;
use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

use crate::connect;
use crate::endpoint::{Cid, VsockPort};
use crate::kernel::loses_vsock_data;
use crate::stream::{Kind, Stream};
use options::{BufferMaxSize, BufferSize, ConnectTimeout};

/// The most that one write hands to the kernel, in bytes.
///
/// Some guest kernels under some VMMs corrupt writes over 32 KiB without a word
/// (cloud-hypervisor issue 7672, firecracker issue 5475).
pub const MAX_WRITE: usize = 31 * 1024;

/// The receive window of one connection, in bytes.
///
/// Throughput grows with it. A sender's own window bounds what it has on its way, too, in kernels
/// of 2026 and later.
pub const BUFFER_SIZE: u64 = 1 << 20;

/// The receive window of a connection whose reader stalls, where [`loses_vsock_data`], in bytes.
///
/// Such a kernel has room for one packet in 576 bytes. The smallest that it does not merge have 65
/// bytes, so any packets that a sender with [`BUFFER_SIZE`] may have on their way fit into nine
/// times as much. Both ends cannot have it from the start: then the sender may send as much more.
const STALLED_BUFFER_SIZE: u64 = 9 * BUFFER_SIZE;

/// Listens on a port.
///
/// # Errors
///
/// What socket(2), bind(2) and listen(2) answer: ENODEV or EAFNOSUPPORT where the machine has no
/// vsock, EADDRNOTAVAIL for a CID that is not its own, EACCES below port 1024.
pub(crate) fn listen(cid: Cid, port: VsockPort, backlog: i32) -> io::Result<Socket> {
    let socket = bind(cid, port)?;
    socket.listen(backlog)?;
    Ok(socket)
}

/// As [`listen`], but without listening.
pub(crate) fn bind(cid: Cid, port: VsockPort) -> io::Result<Socket> {
    let socket = socket()?;
    socket.bind(&SockAddr::vsock(cid.get(), port.get()))?;
    Ok(socket)
}

/// Gives a socket that another process has made the receive window of ours; says whether it had
/// another one.
///
/// # Errors
///
/// What getsockopt(2) and setsockopt(2) answer.
pub(crate) fn widen(socket: &Socket) -> io::Result<bool> {
    let had_another = getsockopt(socket, BufferSize)? != BUFFER_SIZE;
    set_buffer_size(socket, BUFFER_SIZE)?;
    Ok(had_another)
}

/// Takes the next connection, which must be queued, and says who connected: CID and port.
///
/// # Errors
///
/// What accept(2) answers.
pub(crate) fn accept_queued(listener: &Socket) -> io::Result<(Socket, Cid, u32)> {
    let (socket, address) = listener.accept()?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    let (cid, port) = address.as_vsock_address().ok_or(io::ErrorKind::InvalidData)?;
    Ok((socket, Cid::new(cid), port))
}

/// Connects, within `timeout`.
///
/// # Errors
///
/// Whatever connect(2) answers. ECONNRESET (no listener), ETIMEDOUT (no such CID) and ENODEV all
/// mean that the peer is not ready yet.
pub async fn connect(cid: Cid, port: VsockPort, timeout: Duration) -> io::Result<Stream> {
    let socket = socket()?;
    set_connect_timeout(&socket, timeout)?;
    connect::begin(&socket, &SockAddr::vsock(cid.get(), port.get()))?;
    Stream::connecting(socket.into(), Kind::Vsock).await
}

/// Keeps what arrives from being lost while nobody reads; see [`STALLED_BUFFER_SIZE`].
pub(crate) fn brace_for_stall(socket: &impl AsFd) {
    if loses_vsock_data()
        && let Err(error) = set_buffer_size(socket, STALLED_BUFFER_SIZE)
    {
        tracing::warn!(%error, "failed to widen the receive window of a vsock connection");
    }
}

/// Data that the kernel has lost. What it had not lost was read before.
#[derive(Debug, Error)]
#[error(
    "the kernel lost vsock data, since packets came faster than they were read: \
     a bug of Linux 6.12.92 to 6.12.100"
)]
pub(crate) struct LostData(#[source] io::Error);

impl LostData {
    /// Names the bug that an error of a read shows, if it shows one.
    pub(crate) fn name(error: io::Error) -> io::Error {
        match error.raw_os_error() {
            Some(libc::ENOBUFS) => io::Error::other(Self(error)),
            _ => error,
        }
    }

    /// Whether an error is one that [`Self::name`] has named.
    pub(crate) fn is_named_by(error: &io::Error) -> bool {
        matches!(error.get_ref(), Some(inner) if inner.is::<Self>())
    }
}

/// The CID of this machine, or `None` where it has no `/dev/vsock`.
#[must_use]
pub fn local_cid() -> Option<Cid> {
    try_local_cid().ok()
}

/// The CID of this machine: [`Cid::ANY`] where it has no transport.
///
/// # Errors
///
/// What open(2) of `/dev/vsock` answers.
pub(crate) fn try_local_cid() -> io::Result<Cid> {
    ::vsock::get_local_cid().map(Cid::new)
}

fn socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::VSOCK, Type::STREAM.nonblocking(), None)?;
    // Accepted sockets inherit it.
    set_buffer_size(&socket, BUFFER_SIZE)?;
    Ok(socket)
}

fn set_buffer_size(socket: &impl AsFd, bytes: u64) -> io::Result<()> {
    // The maximum first: the kernel clamps the size to it.
    setsockopt(socket, BufferMaxSize, &bytes)?;
    Ok(setsockopt(socket, BufferSize, &bytes)?)
}

fn set_connect_timeout(socket: &Socket, timeout: Duration) -> io::Result<()> {
    let micros = i64::try_from(timeout.as_micros()).unwrap_or(i64::MAX);
    let value = TimeVal::new(micros / 1_000_000, micros % 1_000_000);
    Ok(setsockopt(socket, ConnectTimeout, value.as_ref())?)
}
