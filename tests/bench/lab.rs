//! Where a benchmark runs: the host's and the enclave's network, what joins them, and the cores.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;

use anyhow::Context;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tempfile::TempDir;
use tests::namespace::{Enclave, become_host, reuse_ports};
use tests::patience::is_emulated;
use tests::peers::raise_descriptor_limit;

/// The two sides, and what joins them.
#[derive(Debug)]
pub(crate) struct Lab {
    enclave: Enclave,
    directory: TempDir,
    cores: usize,
}

/// The side on which a process runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Enclave,
    Host,
}

impl Lab {
    /// Turns this process, which must have one thread, into the host of a new lab.
    pub(crate) fn enter() -> anyhow::Result<Self> {
        become_host(&[NETWORK.parse()?]);
        raise_descriptor_limit();
        let cores = sched_getaffinity(Pid::from_raw(0)).context("failed to count the cores")?;
        let cores =
            (0..CpuSet::count()).filter(|core| cores.is_set(*core).unwrap_or(false)).count();
        let directory = TempDir::new().context("failed to make a directory")?;
        let lab = Self { enclave: Enclave::new(), directory, cores };
        lab.prepare_host().context("failed to prepare the host's network")?;
        lab.enclave.run_in_network(prepare_enclave).context("failed to prepare the enclave's")?;
        Ok(lab)
    }

    /// A name for a file that nobody else has.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts a process on a side, and on a core if the machine has that.
    pub(crate) fn spawn(
        &self,
        side: Side,
        core: Option<usize>,
        command: &mut Command,
    ) -> anyhow::Result<Child> {
        let spawn = || {
            if let Some(core) = core.filter(|core| *core < self.cores) {
                let mut cores = CpuSet::new();
                cores.set(core)?;
                // Of this thread, whose child inherits it.
                sched_setaffinity(Pid::from_raw(0), &cores)?;
            }
            command.spawn()
        };
        let child = match side {
            Side::Enclave => self.enclave.run_in_network(spawn),
            Side::Host => thread::scope(|scope| {
                scope.spawn(spawn).join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
            }),
        };
        child.with_context(|| format!("failed to start `{}`", command.get_program().display()))
    }

    /// Calls `f` with the network of a side.
    pub(crate) fn run<T: Send>(&self, side: Side, f: impl FnOnce() -> T + Send) -> T {
        match side {
            Side::Enclave => self.enclave.run_in_network(f),
            Side::Host => f(),
        }
    }

    /// What joins the relays of one chain; numbers keep chains apart.
    pub(crate) fn leg(&self, number: u16) -> Leg {
        if is_emulated() {
            Leg::Vsock(FIRST_VSOCK_PORT + u32::from(number))
        } else {
            Leg::Unix(self.path(&format!("leg{number}")))
        }
    }

    fn prepare_host(&self) -> io::Result<()> {
        debug_assert!(self.directory.path().is_absolute());
        reuse_ports()
    }
}

/// The enclave's `lo` is needed before inproxy, which would bring it up, is there.
fn prepare_enclave() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(inproxy::network::make_local(&[]))?;
    Ok(reuse_ports()?)
}

/// What joins the two relays of a chain.
#[derive(Clone, Debug)]
pub(crate) enum Leg {
    Unix(PathBuf),
    /// AF_VSOCK's loopback, CID 1: a guest whose instructions are counted has no other.
    Vsock(u32),
}

impl Leg {
    /// What the in-relay connects to, as inproxy's configuration has it.
    pub(crate) fn connect(&self) -> String {
        match self {
            Self::Unix(path) => format!("unix:{}", path.display()),
            Self::Vsock(port) => format!("vsock:1:{port}"),
        }
    }

    /// What the out-relay listens on, as outproxy's configuration has it.
    pub(crate) fn listen(&self) -> String {
        match self {
            Self::Unix(_) => self.connect(),
            Self::Vsock(port) => format!("vsock:any:{port}"),
        }
    }

    /// What a rule of outproxy needs: CID 1 is refused unless it is listed.
    pub(crate) fn cids(&self) -> &'static str {
        match self {
            Self::Unix(_) => "",
            Self::Vsock(_) => "cids = [1]",
        }
    }

    /// Where a Unix socket is.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Vsock(_) => None,
        }
    }
}

/// Where a chain leads to: an HSM's address, at a port of the chain's own. Two inproxies in one
/// enclave can have the same address, but not the same port.
pub(crate) fn server_address(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 10, 103], 2300 + number))
}

/// Where the peers' in-relays listen.
pub(crate) fn entry_address(number: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 2400 + number))
}

const NETWORK: &str = "10.0.10.0/24";
const FIRST_VSOCK_PORT: u32 = 20_000;
