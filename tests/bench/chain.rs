//! The chains of relays that are compared, and how each is started and ended.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::patience::patience;
use tests::peers::is_readable_within;

use crate::lab::{Lab, Leg, Side, entry_address, server_address};
use crate::relays::{self, Relay};

/// Who relays.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, ValueEnum)]
pub(crate) enum Kind {
    /// Nobody: client and server are on one side.
    Direct,
    Socat,
    /// socat in the enclave, AWS vsock-proxy on the host.
    VsockProxy,
    Haproxy,
    HaproxySplice,
    Nginx,
    /// inproxy and outproxy, without CONNECT.
    Raw,
    /// inproxy and outproxy, as they are meant.
    Routed,
}

impl Kind {
    /// Whether it is what this repository is about.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Raw | Self::Routed)
    }

    /// Whether it has a process for each connection.
    pub(crate) fn forks(self) -> bool {
        matches!(self, Self::Socat | Self::VsockProxy)
    }

    fn number(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::Haproxy => "HAProxy",
            Self::HaproxySplice => "HAProxy splice",
            Self::Nginx => "nginx",
            Self::Raw => "raw",
            Self::Routed => "routed",
            Self::Socat => "socat",
            Self::VsockProxy => "socat+vsock-proxy",
        })
    }
}

/// Relays that run. They are ended when this goes out of scope.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) kind: Kind,
    /// Where the client connects to, and on which side it is.
    pub(crate) entry: (Side, SocketAddr),
    /// Where the server is to listen, on the host.
    pub(crate) server: SocketAddr,
    relays: Vec<Child>,
}

impl Chain {
    /// Starts the relays, on one core if that is wanted, and waits until something comes through.
    pub(crate) fn start(
        kind: Kind,
        lab: &Lab,
        core: Option<usize>,
        programs: &Programs,
    ) -> anyhow::Result<Self> {
        let number = kind.number();
        let (server, leg) = (server_address(number), lab.leg(number));
        let inner = if kind.is_ours() { server } else { entry_address(number) };
        let entry =
            if kind == Kind::Direct { (Side::Host, server) } else { (Side::Enclave, inner) };
        let mut chain = Self { kind, entry, server, relays: Vec::new() };
        if kind == Kind::Direct {
            return Ok(chain);
        }
        if let Some(path) = leg.path() {
            // That of a chain before, which may have been killed.
            let _ = fs::remove_file(path);
        }
        let way = Way { entry: inner, leg, server };
        let Relay { outer, inner } = relays::prepare(kind, &way, lab, programs)?;
        for (side, mut command) in [(Side::Host, outer), (Side::Enclave, inner)] {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            chain.relays.push(lab.spawn(side, core, &mut command)?);
        }
        chain.await_ready(lab).with_context(|| format!("{kind} does not relay"))?;
        Ok(chain)
    }

    /// The process ids of the in-relay and the out-relay.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.relays.iter().rev().map(Child::id).collect()
    }

    /// Peers tell nobody when they listen, so it is tried until a byte comes through.
    fn await_ready(&mut self, lab: &Lab) -> anyhow::Result<()> {
        let listener = TcpListener::bind(self.server).context("failed to listen")?;
        let deadline = Instant::now() + patience();
        while !self.relays_a_byte(&listener, lab) {
            for relay in &mut self.relays {
                if let Some(status) = relay.try_wait()? {
                    bail!("it has ended: {status}");
                }
            }
            if Instant::now() > deadline {
                bail!("nothing comes through");
            }
            pause();
        }
        Ok(())
    }

    fn relays_a_byte(&self, listener: &TcpListener, lab: &Lab) -> bool {
        let (side, address) = self.entry;
        let Ok(mut client) = lab.run(side, || TcpStream::connect(address)) else { return false };
        // Some connect upstream only when there is something to say.
        if client.write_all(b".").is_err() || !is_readable_within(listener, PROBE) {
            return false;
        }
        let Ok((mut server, _)) = listener.accept() else { return false };
        is_readable_within(&server, PROBE) && server.read_exact(&mut [0]).is_ok()
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        for relay in &mut self.relays {
            // nginx would leave its worker behind if it were killed.
            let _ = kill(Pid::from_raw(relay.id().cast_signed()), Signal::SIGTERM);
        }
        let deadline = Instant::now() + PROBE * 4;
        for relay in &mut self.relays {
            while Instant::now() < deadline && matches!(relay.try_wait(), Ok(None)) {
                pause();
            }
            // It has ended, or is made to.
            let _ = relay.kill();
            let _ = relay.wait();
        }
    }
}

/// The way of the bytes.
#[derive(Debug)]
pub(crate) struct Way {
    /// Where the in-relay listens.
    pub(crate) entry: SocketAddr,
    pub(crate) leg: Leg,
    pub(crate) server: SocketAddr,
}

/// The peers' programs that this machine has.
#[derive(Debug)]
pub(crate) struct Programs {
    /// AWS vsock-proxy, which no distribution has.
    pub(crate) vsock_proxy: Option<PathBuf>,
}

impl Programs {
    /// Why a chain cannot be had here.
    pub(crate) fn missing(&self, kind: Kind) -> Option<String> {
        let not_installed =
            |name| find(name).is_none().then(|| format!("no `{name}` on this machine"));
        let is_vsock = tests::patience::is_emulated();
        match kind {
            Kind::Direct | Kind::Raw | Kind::Routed => None,
            Kind::Haproxy | Kind::HaproxySplice | Kind::Nginx if is_vsock => {
                Some("it has no AF_VSOCK".into())
            }
            Kind::Haproxy | Kind::HaproxySplice => not_installed("haproxy"),
            Kind::Nginx if !Path::new(relays::NGINX_STREAM).exists() => {
                Some("no `libnginx-mod-stream` on this machine".into())
            }
            Kind::Nginx => not_installed("nginx"),
            Kind::Socat => not_installed("socat"),
            Kind::VsockProxy if !is_vsock => Some("it needs AF_VSOCK: `make bench-vsock`".into()),
            Kind::VsockProxy if self.vsock_proxy.is_none() => {
                Some("no distribution has AWS vsock-proxy: give it by `--vsock-proxy BIN`".into())
            }
            Kind::VsockProxy => not_installed("socat"),
        }
    }
}

/// Where a program is. Daemons are in /usr/sbin, which is not on every user's PATH.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    directories.map(|directory| directory.join(name)).find(|program| program.exists())
}

/// Between two looks at what tells nobody when it changes.
#[expect(clippy::disallowed_methods, reason = "foreign processes give no event to wait for")]
pub(crate) fn pause() {
    thread::sleep(Duration::from_millis(10));
}

const PROBE: Duration = Duration::from_millis(500);
