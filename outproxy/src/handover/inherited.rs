//! The sockets that a service manager has opened for this process; see sd_listen_fds(3).

use std::env;
use std::io;
use std::iter;

use listenfd::ListenFd;
use nix::libc;
use socket2::Socket;
use tunnel::listener::{Bound, NotBound};

/// Sockets that were handed to this process, each with its name in `LISTEN_FDNAMES`.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Those that clients can connect to.
    pub(super) bound: Vec<(String, Bound)>,
    /// What was wrong with the others; they are closed.
    pub(super) others: Vec<(String, NotBound)>,
    /// Why nothing was taken over, if that was wanted.
    pub(super) error: Option<io::Error>,
}

impl Inherited {
    /// Takes them over. Call it first: later their numbers might be those of other descriptors.
    #[must_use]
    pub fn take() -> Self {
        // Whether they are meant for this process, and all there. `listenfd` believes any number.
        let count = match sd_notify::listen_fds() {
            Ok(descriptors) => descriptors.len(),
            Err(error) => return Self { error: Some(error), ..Self::default() },
        };
        let mut inherited = Self::default();
        if count == 0 {
            return inherited;
        }
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(String::from).chain(iter::repeat(String::new()));
        let mut descriptors = ListenFd::from_env();
        for (index, name) in (0..count).zip(&mut names) {
            match take(&mut descriptors, index).and_then(Bound::new) {
                Ok(bound) => inherited.bound.push((name, bound)),
                Err(error) => inherited.others.push((name, error)),
            }
        }
        inherited
    }
}

/// Takes a stream socket, or closes what else it is.
fn take(descriptors: &mut ListenFd, index: usize) -> Result<Socket, NotBound> {
    for family in [libc::AF_VSOCK, libc::AF_INET, libc::AF_UNIX] {
        let kind = libc::SOCK_STREAM;
        if let Ok(Some(socket)) = descriptors.take_custom(index, family, kind, "stream socket") {
            return Ok(socket);
        }
    }
    if let Some(other) = descriptors.take_raw_fd(index)? {
        nix::unistd::close(other).map_err(io::Error::from)?;
    }
    Err(NotBound::Silent)
}
