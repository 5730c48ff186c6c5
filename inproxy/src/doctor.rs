//! Looks at all that inproxy needs in an enclave, and at all that it forwards; changes nothing.

mod advice;
mod enclave;
mod local;
mod tunnels;

use std::net::IpAddr;
use std::path::Path;

use serde::Serialize;
use tunnel::examination::{Examination, Finding};

use crate::config::Config;
use crate::loopback;

/// How many tunnels are tried at once.
pub const MOST_AT_ONCE: usize = 32;

/// Examines the enclave, its network, outproxy and every forward of `config`, which was read from
/// `path`. Beside what the forwards name, the `addresses` are tried, which lie in their blocks.
///
/// It asks outproxy for each destination, as inproxy would. Of a raw forward it can only tell that
/// somebody takes the connection, and does not close it again.
pub async fn examine(
    config: &Config,
    path: &Path,
    default_path: &Path,
    addresses: &[IpAddr],
) -> Examination<Details> {
    let names = loopback::assign(config.hosts());
    let plain = |finding: Finding| finding.with(Details::default());
    let mut examination = Examination::new(env!("CARGO_PKG_VERSION"));
    let enclave = enclave::examine(config, path, default_path);
    examination.add("enclave", None, enclave.into_iter().map(plain));
    let network = local::examine(config, &names).await;
    examination.add("network", None, network.into_iter().map(plain));
    tunnels::examine(config, addresses, &mut examination).await;
    examination
}

/// What scripts are told of a tunnel, where there is one.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Details {
    /// Where it was to lead.
    pub destination: Option<String>,
    /// How long it took until it was there.
    pub milliseconds: Option<f64>,
    /// The status code of a refusal.
    pub status: Option<u16>,
    /// The error type of a refusal, as in RFC 9209.
    pub error: Option<String>,
}

/// What is done about most of what is wrong.
const START: &str =
    "start inproxy, as root and with this configuration: it puts this right before it serves";
