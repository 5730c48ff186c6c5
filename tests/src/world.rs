//! What every scenario starts from.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;

use tempfile::TempDir;

use crate::leg::Leg;
use crate::namespace::{Enclave, become_host};
use crate::process::Process;
use crate::proxies::{Outproxy, start_inproxy};

/// An HSM that is reached by a routed tunnel.
pub const HSM: SocketAddr = v4([10, 0, 10, 103], 2223);
/// Another one.
pub const HSM2: SocketAddr = v4([10, 0, 11, 27], 2223);
/// One that is reached by a raw tunnel.
pub const RAW: SocketAddr = v4([10, 0, 20, 5], 2223);

/// A host and an enclave.
#[derive(Debug)]
pub struct World {
    /// Where the clients are. The host is where this process is.
    pub enclave: Enclave,
    /// What joins them.
    pub leg: Leg,
    directory: TempDir,
}

impl World {
    /// Turns this process, which must have one thread, into the host of a new world.
    #[must_use]
    pub fn enter() -> Self {
        let networks =
            ["10.0.0.50/32", "10.0.10.0/24", "10.0.11.0/24", "10.0.20.0/24", "fd00:10::/64"];
        become_host(&networks.map(|network| network.parse().expect("a network")));
        let directory = TempDir::new().expect("a directory");
        Self { enclave: Enclave::new(), leg: Leg::from_env(directory.path()), directory }
    }

    /// Where a scenario puts its files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Both proxies, with [`HSM`], [`HSM2`] and their networks routed, and [`RAW`] raw.
    #[must_use]
    pub fn tunnel(&self) -> Tunnel {
        self.tunnel_with("", "")
    }

    /// As [`Self::tunnel`], with `[limits]` of outproxy and of inproxy.
    #[must_use]
    pub fn tunnel_with(&self, outproxy_limits: &str, inproxy_limits: &str) -> Tunnel {
        let outproxy = self.outproxy(&self.outproxy_config(ALLOWED, outproxy_limits));
        let inproxy = self.inproxy(&self.inproxy_config(inproxy_limits));
        Tunnel { outproxy, inproxy }
    }

    /// Starts an outproxy.
    #[must_use]
    pub fn outproxy(&self, config: &str) -> Outproxy {
        Outproxy::start(self.directory(), config, &[])
    }

    /// Starts an inproxy.
    #[must_use]
    pub fn inproxy(&self, config: &str) -> Process {
        start_inproxy(&self.enclave, self.directory(), config)
    }

    /// A configuration with one rule, of TOML strings such as `"10.0.10.103"`.
    #[must_use]
    pub fn outproxy_config(&self, hosts: &str, limits: &str) -> String {
        let (routed, raw, cids) = (self.leg.listen(0), self.leg.listen(1), self.leg.cids());
        format!(
            "[[listen]]\non = '{routed}'\n[[listen]]\non = '{raw}'\nto = '{RAW}'\n\
             [[allow]]\nname = 'raw'\nhosts = ['{}']\nports = [2223]\nprobe = false\n{cids}\n\
             [[allow]]\nname = 'hsm'\nhosts = [{hosts}]\nports = [2223, 2224, 2225]\n{cids}\n\
             [limits]\n{limits}\n[log]\nformat = 'json'\n",
            RAW.ip()
        )
    }

    /// A configuration that forwards the networks of the HSMs.
    #[must_use]
    pub fn inproxy_config(&self, limits: &str) -> String {
        let (routed, raw) = (self.leg.connect(0), self.leg.connect(1));
        format!(
            "outproxy = '{routed}'\n\
             [[forward]]\nname = 'hsm'\naddresses = ['10.0.10.0/23', 'fd00:10::/64']\n\
             ports = [2223, 2224, 2225]\n\
             [[forward]]\nname = 'raw'\naddresses = ['{}']\nports = [2223]\nvia = '{raw}'\n\
             [limits]\n{limits}\n[log]\nformat = 'json'\n",
            RAW.ip()
        )
    }
}

/// What [`World::tunnel`] allows beside [`RAW`].
pub const ALLOWED: &str = "'10.0.10.0/23', 'fd00:10::/64'";

/// Both proxies.
#[derive(Debug)]
pub struct Tunnel {
    /// The host's end.
    pub outproxy: Outproxy,
    /// The enclave's end.
    pub inproxy: Process,
}

const fn v4(octets: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from_octets(octets), port))
}
