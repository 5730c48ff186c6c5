//! Where everybody is on the loopback network, and sockets with unusual wishes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// A network of its own for each run, as long as few run at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Net {
    /// The port of every site; that of another process is another one.
    pub(crate) port: u16,
    run: u8,
}

impl Net {
    pub(crate) fn new() -> Self {
        static RUNS: AtomicU8 = AtomicU8::new(0);
        // Below the ports that the kernel gives to those who connect.
        let port = u16::try_from(std::process::id() % 20_000).unwrap() + 10_000;
        Self { port, run: RUNS.fetch_add(1, Ordering::Relaxed) }
    }

    /// The address of a site, or that of the trap.
    pub(crate) fn site(self, site: usize) -> SocketAddr {
        self.host(u8::try_from(site).unwrap() + 10, self.port)
    }

    pub(crate) fn name_server(self) -> SocketAddr {
        self.host(53, self.port)
    }

    /// Where clients are.
    pub(crate) fn client(self) -> SocketAddr {
        self.host(100, 0)
    }

    fn host(self, host: u8, port: u16) -> SocketAddr {
        (Ipv4Addr::new(127, 0, self.run, host), port).into()
    }
}

/// Listens on an address from which others connect at the same time, as a site does that is local
/// in the enclave too.
pub(crate) fn listen(address: SocketAddr, backlog: i32) -> TcpListener {
    let socket = shared(address);
    socket.listen(backlog).unwrap();
    TcpListener::from_std(socket.into()).unwrap()
}

/// A client, and its stream as inproxy would accept it on `local`.
///
/// inproxy's listener and a site cannot both listen on the site's address, so inproxy's end is the
/// one that connects. Nobody sees a difference afterwards.
pub(crate) fn connect(net: Net, local: IpAddr) -> (TcpStream, TcpStream) {
    let listener = std::net::TcpListener::bind(net.client()).unwrap();
    let inproxys = shared((local, net.port).into());
    inproxys.set_nonblocking(false).unwrap();
    inproxys.connect(&listener.local_addr().unwrap().into()).unwrap();
    inproxys.set_nonblocking(true).unwrap();
    let (client, _) = listener.accept().unwrap();
    client.set_nonblocking(true).unwrap();
    client.set_nodelay(true).unwrap();
    let inproxys = TcpStream::from_std(inproxys.into()).unwrap();
    tunnel::tcp::set_upstream_options(&inproxys);
    (TcpStream::from_std(client).unwrap(), inproxys)
}

/// Fills the backlog of a listener of which it is 0.
pub(crate) fn fill(net: Net, site: usize) -> std::net::TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.bind(&net.client().into()).unwrap();
    socket.connect(&net.site(site).into()).unwrap();
    socket.into()
}

fn shared(address: SocketAddr) -> Socket {
    let socket =
        Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP)).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}
