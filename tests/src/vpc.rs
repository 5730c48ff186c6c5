//! What the application needs beyond the tunnel, in the host's network: two HSMs, Secrets Manager,
//! and a name server that knows it.

use std::net::SocketAddr;

use crate::ca::Authority;
use crate::dns::{Answer, NameServer};
use crate::hsm::{Cluster, Hsm};
use crate::secrets_manager::{ADDRESS, NAME, SecretsManager};
use crate::world::{HSM, HSM2, World};

/// They.
#[derive(Debug)]
pub struct Vpc {
    /// Whom the enclave trusts.
    pub authority: Authority,
    /// What the HSMs have in common.
    pub cluster: Cluster,
    /// At [`HSMS`].
    pub hsms: [Hsm; 2],
    /// With the password of the HSMs' user.
    pub secrets: SecretsManager,
    names: NameServer,
}

impl Vpc {
    /// Starts all of it.
    #[must_use]
    pub fn start(world: &World) -> Self {
        let authority = Authority::new(world.directory(), "ca");
        let cluster = Cluster::new(world.directory(), &format!("{USER}:{PASSWORD}"));
        let hsms = HSMS.map(|address| cluster.start(address, &authority));
        let secrets = SecretsManager::start(&authority, USER, PASSWORD);
        let names = NameServer::start(Answer::Address(ADDRESS));
        Self { authority, cluster, hsms, secrets, names }
    }

    /// A configuration of outproxy that allows Secrets Manager, and HSMs by TOML strings such as
    /// `'10.0.10.103'`.
    #[must_use]
    pub fn outproxy_config(&self, world: &World, hsms: &str) -> String {
        let (names, cids) = (self.names.address, world.leg.cids());
        world.outproxy_config(hsms, "")
            + &format!(
                "[[allow]]\nname = 'secretsmanager'\nhosts = ['{NAME}']\nports = [443]\n{cids}\n\
                 [dns]\nservers = ['{names}']\n"
            )
    }

    /// A configuration of inproxy that forwards both, and more HSMs than there are.
    #[must_use]
    pub fn inproxy_config(&self, world: &World) -> String {
        world.inproxy_config("")
            + &format!("[[forward]]\nname = 'secretsmanager'\nhost = '{NAME}'\nports = [443]\n")
    }
}

/// Where the HSMs are, in the order in which they are tried.
pub const HSMS: [SocketAddr; 2] = [HSM, HSM2];
/// The crypto user.
pub const USER: &str = "crypto-user";
/// Its password, which must be nowhere to be read.
pub const PASSWORD: &str = "canary-7f3a9c51d2e8";
