//! Clients and upstreams: plain blocking sockets, of which no call waits for ever.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, SockRef, Socket, Type};

use crate::namespace::Enclave;
use crate::patience::patience;

/// Listens as an upstream does, with room for many who connect at once.
#[must_use]
pub fn listen(address: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    if address.is_ipv6() {
        // Unlike IPv4, it takes no address that is local only by a route.
        socket.set_freebind_v6(true).expect("IPV6_FREEBIND");
    }
    socket.bind(&address.into()).unwrap_or_else(|error| panic!("bind {address}: {error}"));
    socket.listen(4096).expect("listen(2)");
    socket.into()
}

/// Connects from the enclave.
#[must_use]
pub fn connect(enclave: &Enclave, to: SocketAddr) -> TcpStream {
    let stream = enclave.run(|| TcpStream::connect_timeout(&to, patience()));
    bounded(stream.unwrap_or_else(|error| panic!("connect to {to}: {error}")))
}

/// Opens connections one after the other, each from end to end.
#[must_use]
pub fn connections(
    enclave: &Enclave,
    address: SocketAddr,
    listener: &TcpListener,
    count: usize,
) -> Vec<(TcpStream, TcpStream)> {
    enclave.run(|| {
        let connect = |_| {
            let mut client = bounded(TcpStream::connect(address).expect("a connection"));
            let mut upstream = accept(listener);
            ping(&mut client, &mut upstream);
            (client, upstream)
        };
        (0..count).map(connect).collect()
    })
}

/// Connects from the enclave, and asserts that the connection is reset at once.
pub fn assert_connect_resets(enclave: &Enclave, to: SocketAddr) {
    match enclave.run(|| TcpStream::connect_timeout(&to, patience())) {
        Ok(stream) => assert_reset(&mut bounded(stream)),
        // It was quicker than connect(2).
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

/// Accepts the next connection.
#[must_use]
pub fn accept(listener: &TcpListener) -> TcpStream {
    assert!(is_readable_within(listener, patience()), "nobody connects to {listener:?}");
    bounded(listener.accept().expect("a connection").0)
}

/// Whether there is something to read, or a connection to accept, before `limit` has passed.
#[must_use]
pub fn is_readable_within(socket: &impl AsFd, limit: Duration) -> bool {
    let limit = PollTimeout::try_from(limit).expect("a limit in milliseconds");
    poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], limit).expect("poll(2)") == 1
}

/// Gives every call on a stream a deadline.
#[must_use]
pub fn bounded(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(patience())).expect("SO_RCVTIMEO");
    stream.set_write_timeout(Some(patience())).expect("SO_SNDTIMEO");
    stream
}

/// Reads to the end, and says how it ended: `None` is a clean end.
pub fn read_to_end(stream: &mut impl Read) -> (Vec<u8>, Option<ErrorKind>) {
    let mut bytes = Vec::new();
    let error = stream.read_to_end(&mut bytes).err();
    assert_ne!(error.as_ref().map(std::io::Error::kind), Some(ErrorKind::WouldBlock), "it hangs");
    (bytes, error.map(|error| error.kind()))
}

/// Reads exactly so many bytes.
pub fn read_exactly(stream: &mut impl Read, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).expect("so many bytes");
    bytes
}

/// Makes certain that a connection is alive from end to end: a byte there, and a byte back.
pub fn ping(client: &mut TcpStream, upstream: &mut TcpStream) {
    client.write_all(b">").expect("the client sends");
    assert_eq!(read_exactly(upstream, 1), b">");
    upstream.write_all(b"<").expect("upstream sends");
    assert_eq!(read_exactly(client, 1), b"<");
}

/// Asserts that nothing comes but a reset.
pub fn assert_reset(stream: &mut TcpStream) {
    assert_eq!(read_to_end(stream), (vec![], Some(ErrorKind::ConnectionReset)));
}

/// Closes with an RST.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    drop(stream);
}

/// Takes as many descriptors as this process may have.
pub fn raise_descriptor_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("getrlimit(2)");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("setrlimit(2)");
}
