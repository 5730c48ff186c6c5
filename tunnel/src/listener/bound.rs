//! Listening sockets that another process has bound.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::libc;
use socket2::{Socket, Type};
use thiserror::Error;

use crate::destination::{Destination, Port};
use crate::endpoint::{Cid, Endpoint, VsockPort};
use crate::host::Host;

/// A socket that listens already, and where.
#[derive(Debug)]
pub struct Bound {
    pub(super) socket: Socket,
    endpoint: Endpoint,
}

impl Bound {
    /// Asks the kernel where `socket` listens.
    ///
    /// # Errors
    ///
    /// [`NotBound`] if nobody could connect to it.
    pub fn new(socket: Socket) -> Result<Self, NotBound> {
        // One that is connected has the address of the listener that accepted it, too.
        if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
            return Err(NotBound::Silent);
        }
        let endpoint = endpoint(&socket)?.ok_or(NotBound::Elsewhere)?;
        if let Endpoint::Unix(path) = &endpoint
            && !is_socket(path)
        {
            return Err(NotBound::Unlinked(endpoint));
        }
        Ok(Self { socket, endpoint })
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

/// Why a socket is not one to accept connections from.
#[derive(Debug, Error)]
pub enum NotBound {
    /// No endpoint is written like its address.
    #[error("no endpoint has its address")]
    Elsewhere,
    /// It is a socket of another kind, or a connection.
    #[error("it does not listen")]
    Silent,
    /// The system does not answer.
    #[error(transparent)]
    System(#[from] io::Error),
    /// It is a Unix socket whose name was removed.
    #[error("the name of `{0}` was removed")]
    Unlinked(Endpoint),
}

fn endpoint(socket: &Socket) -> io::Result<Option<Endpoint>> {
    let address = socket.local_addr()?;
    let endpoint = match libc::c_int::from(address.family()) {
        libc::AF_INET | libc::AF_INET6 => address.as_socket().and_then(|address| {
            let port = Port::try_from(i64::from(address.port())).ok()?;
            Some(Endpoint::Tcp(Destination { host: Host::from(address.ip()), port }))
        }),
        libc::AF_UNIX => address.as_pathname().map(|path| Endpoint::Unix(path.into())),
        libc::AF_VSOCK => address.as_vsock_address().and_then(|(cid, port)| {
            Some(Endpoint::Vsock { cid: Cid::new(cid), port: VsockPort::new(port)? })
        }),
        _ => None,
    };
    Ok(endpoint)
}

fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    #[test]
    fn a_listening_socket_says_where_it_listens() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let unix = UnixListener::bind(&path).unwrap();
        let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let [v4_port, v6_port] = [&v4, &v6].map(|tcp| tcp.local_addr().unwrap().port());
        for (socket, expected) in [
            (Socket::from(unix), format!("unix:{}", path.display())),
            (v4.into(), format!("tcp:127.0.0.1:{v4_port}")),
            (v6.into(), format!("tcp:[::1]:{v6_port}")),
        ] {
            assert_eq!(Bound::new(socket).unwrap().endpoint(), &expected.parse().unwrap());
        }
    }

    #[test]
    fn nothing_else_is_taken_for_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let unix = UnixListener::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(matches!(Bound::new(unix.into()), Err(NotBound::Unlinked(_))));

        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let _client = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let (accepted, _) = tcp.accept().unwrap();
        assert!(matches!(Bound::new(accepted.into()), Err(NotBound::Silent)));
        let datagrams = UnixDatagram::unbound().unwrap();
        assert!(matches!(Bound::new(datagrams.into()), Err(NotBound::Silent)));
    }
}
