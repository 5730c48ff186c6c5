//! AF_VSOCK sockets of the kernel's own making, for tests of what it does with them: with its
//! defaults, unless an option is set.

use std::io::{self, ErrorKind, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, setsockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use socket2::{Domain, SockAddr, Socket, Type};
use tunnel::vsock::options::{BufferMaxSize, BufferSize, ConnectTimeout};

use crate::patience::patience;

/// The machine's own CID in tests/lab/vm, which leads back to it.
pub const OWN: u32 = 3;
/// Loopback.
pub const LOCAL: u32 = 1;
/// Any CID, to listen.
pub const ANY: u32 = u32::MAX;

/// A port that nobody else in this machine uses.
#[must_use]
pub fn port() -> u32 {
    static USED: AtomicU32 = AtomicU32::new(0);
    (1 << 20) + std::process::id() * 64 + USED.fetch_add(1, Ordering::Relaxed)
}

/// A socket of which no read or write waits for ever.
///
/// # Panics
///
/// Where there is no vsock.
#[must_use]
pub fn socket() -> Socket {
    bounded(Socket::new(Domain::VSOCK, Type::STREAM, None).expect("a vsock socket"))
}

/// Gives every read and write of a socket a deadline.
#[must_use]
pub fn bounded(socket: Socket) -> Socket {
    socket.set_read_timeout(Some(patience())).expect("SO_RCVTIMEO");
    socket.set_write_timeout(Some(patience())).expect("SO_SNDTIMEO");
    socket
}

/// Listens on a port, with this backlog.
///
/// # Errors
///
/// What bind(2) and listen(2) answer.
pub fn listen(cid: u32, port: u32, backlog: i32) -> io::Result<Socket> {
    let socket = socket();
    socket.bind(&SockAddr::vsock(cid, port))?;
    socket.listen(backlog)?;
    Ok(socket)
}

/// Connects.
///
/// # Errors
///
/// What connect(2) answers.
pub fn connect(cid: u32, port: u32) -> io::Result<Socket> {
    let socket = socket();
    // The default would be short where the machine has other work.
    set_connect_timeout(&socket, patience());
    socket.connect(&SockAddr::vsock(cid, port))?;
    Ok(socket)
}

/// Takes the next connection of a listener.
#[must_use]
pub fn accept(listener: &Socket) -> Socket {
    bounded(listener.accept().expect("a connection").0)
}

/// Two ends of a connection: who connected, and who accepted.
#[must_use]
pub fn pair() -> (Socket, Socket) {
    let port = port();
    let listener = listen(ANY, port, 1).expect("a listener");
    let client = connect(OWN, port).expect("a connection");
    let server = accept(&listener);
    (client, server)
}

/// What a send of no bytes answers: EPIPE if the peer takes nothing any more.
///
/// # Errors
///
/// What send(2) answers.
pub fn probe(socket: &Socket) -> io::Result<()> {
    socket.send_with_flags(&[], libc::MSG_NOSIGNAL).map(drop)
}

/// How many bytes wait to be read.
#[must_use]
pub fn waiting(socket: &Socket) -> usize {
    let mut bytes = vec![MaybeUninit::uninit(); 256 << 10];
    socket.recv_with_flags(&mut bytes, libc::MSG_PEEK | libc::MSG_DONTWAIT).unwrap_or(0)
}

/// Whether a socket whose peer says nothing can be read nevertheless.
#[must_use]
pub fn is_peer_gone(socket: &impl AsFd) -> bool {
    is_ready(socket, PollFlags::POLLIN, Duration::ZERO)
}

/// Whether poll(2) reports these events within `limit`.
#[must_use]
pub fn is_ready(socket: &impl AsFd, events: PollFlags, limit: Duration) -> bool {
    let limit = PollTimeout::try_from(limit).expect("a limit in milliseconds");
    poll(&mut [PollFd::new(socket.as_fd(), events)], limit).expect("poll(2)") == 1
}

/// Writes the bytes of `payload` in pieces of `size` until nothing more is taken, and says how
/// many were. Nobody takes more if nothing moves for `quiet`.
///
/// # Errors
///
/// Their number, and what write(2) answers.
pub fn fill(
    socket: &Socket,
    payload: &[u8],
    size: usize,
    quiet: Duration,
) -> Result<usize, (usize, io::Error)> {
    socket.set_nonblocking(true).expect("O_NONBLOCK");
    let mut sent = 0;
    let result = loop {
        let piece = &payload[sent..payload.len().min(sent + size)];
        if piece.is_empty() {
            break Ok(sent);
        }
        match socket.send_with_flags(piece, libc::MSG_NOSIGNAL) {
            Ok(n) => sent += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !is_ready(socket, PollFlags::POLLOUT, quiet) {
                    break Ok(sent);
                }
            }
            Err(error) => break Err((sent, error)),
        }
    };
    socket.set_nonblocking(false).expect("O_NONBLOCK");
    result
}

/// Reads to the end, and says how it ended: `None` is a clean end.
#[must_use]
pub fn read_to_end(socket: &mut impl Read) -> (Vec<u8>, Option<i32>) {
    let mut bytes = Vec::new();
    let error = socket.read_to_end(&mut bytes).err();
    let error = error.map(|error| error.raw_os_error().expect("an error of the system"));
    assert_ne!(error, Some(libc::EAGAIN), "it hangs");
    (bytes, error)
}

/// Sets the receive window, which must be done before listen(2) or connect(2).
pub fn set_buffer_size(socket: &Socket, bytes: u64) {
    setsockopt(socket, BufferMaxSize, &bytes).expect("SO_VM_SOCKETS_BUFFER_MAX_SIZE");
    setsockopt(socket, BufferSize, &bytes).expect("SO_VM_SOCKETS_BUFFER_SIZE");
}

/// The receive window.
#[must_use]
pub fn buffer_size(socket: &Socket) -> u64 {
    getsockopt(socket, BufferSize).expect("SO_VM_SOCKETS_BUFFER_SIZE")
}

/// How long connect(2) waits.
#[must_use]
pub fn connect_timeout(socket: &Socket) -> Duration {
    let value = getsockopt(socket, ConnectTimeout).expect("SO_VM_SOCKETS_CONNECT_TIMEOUT");
    let value = TimeVal::from(value).num_milliseconds();
    Duration::from_millis(value.try_into().expect("a time to come"))
}

/// Sets how long connect(2) waits.
pub fn set_connect_timeout(socket: &Socket, limit: Duration) {
    let milliseconds = limit.as_millis().try_into().expect("less than many years");
    let value = TimeVal::milliseconds(milliseconds);
    setsockopt(socket, ConnectTimeout, value.as_ref()).expect("SO_VM_SOCKETS_CONNECT_TIMEOUT");
}
