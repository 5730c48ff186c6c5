//! What carries bytes out of the enclave.

use std::io;
use std::path::{Path, PathBuf};
use std::process;

use socket2::{SockAddr, Socket, Type};

use crate::patience::{is_emulated, patience};

/// Real AF_VSOCK, or Unix sockets in its place.
#[derive(Clone, Debug)]
pub enum Leg {
    /// Sockets in this directory.
    Unix(PathBuf),
    /// Ports from this one.
    Vsock(u32),
}

impl Leg {
    /// The one that `TUNNEL_LEG` names, with names or ports that no other process has.
    #[must_use]
    pub fn from_env(directory: &Path) -> Self {
        if is_emulated() {
            Self::Vsock(10_000 + process::id() * 10)
        } else {
            Self::Unix(directory.to_owned())
        }
    }

    /// The endpoint that outproxy listens on; there are ten.
    #[must_use]
    pub fn listen(&self, number: u32) -> String {
        match self {
            Self::Unix(_) => self.connect(number),
            Self::Vsock(first) => format!("vsock:any:{}", first + number),
        }
    }

    /// The endpoint that leads there.
    #[must_use]
    pub fn connect(&self, number: u32) -> String {
        match self {
            Self::Unix(directory) => format!("unix:{}/leg{number}", directory.display()),
            Self::Vsock(first) => format!("vsock:3:{}", first + number),
        }
    }

    /// The vsock port that it is.
    ///
    /// # Panics
    ///
    /// Over Unix sockets.
    #[must_use]
    pub fn port(&self, number: u32) -> u32 {
        match self {
            Self::Unix(_) => panic!("there is no vsock here"),
            Self::Vsock(first) => first + number,
        }
    }

    /// What a rule needs: over vsock everybody here is CID 1, loopback, which is refused unless it
    /// is listed.
    #[must_use]
    pub fn cids(&self) -> &'static str {
        match self {
            Self::Unix(_) => "",
            Self::Vsock(_) => "cids = [1]",
        }
    }

    /// Connects past inproxy, with deadlines.
    ///
    /// # Errors
    ///
    /// What connect(2) answers.
    pub fn dial(&self, number: u32) -> io::Result<Socket> {
        let address = self.address(number, 3)?;
        let socket = Socket::new(address.domain(), Type::STREAM, None)?;
        socket.set_read_timeout(Some(patience()))?;
        socket.set_write_timeout(Some(patience()))?;
        socket.connect(&address)?;
        Ok(socket)
    }

    /// Listens in outproxy's place.
    ///
    /// # Errors
    ///
    /// What bind(2) and listen(2) answer.
    pub fn bind(&self, number: u32) -> io::Result<Socket> {
        let address = self.address(number, u32::MAX)?;
        let socket = Socket::new(address.domain(), Type::STREAM, None)?;
        socket.bind(&address)?;
        socket.listen(16)?;
        Ok(socket)
    }

    fn address(&self, number: u32, cid: u32) -> io::Result<SockAddr> {
        match self {
            Self::Unix(directory) => SockAddr::unix(directory.join(format!("leg{number}"))),
            Self::Vsock(first) => Ok(SockAddr::vsock(cid, first + number)),
        }
    }
}
