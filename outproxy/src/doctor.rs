//! Looks at all that outproxy needs, and tries every destination that the configuration names.

mod advice;
mod certificate;
mod clusters;
mod machine;
mod rules;
mod tls;
mod verdict;

use std::net::SocketAddr;
use std::path::Path;

use futures_util::future::join_all;
use serde::Serialize;
use tunnel::examination::Examination;

use self::rules::Prober;
use crate::config::Config;
use crate::policy::Policy;

pub use self::certificate::{Authorities, AuthoritiesError, CertificateDetails};
pub use self::rules::MOST_AT_ONCE;
pub use self::verdict::TlsDetails;

/// Examines the machine and the service, and then every rule of `config`, which was read from
/// `path`: what each name leads to, whether each address answers on each port, and which
/// certificate it shows. `authorities` are those that must have issued it, but for port 443.
///
/// It takes the name servers and the `connect-timeout` of `config`. Each connection is closed
/// after the handshake of TLS.
pub async fn examine(
    config: &Config,
    path: &Path,
    default_path: &Path,
    authorities: Option<&Authorities>,
) -> Examination<Details> {
    let policy = Policy::new(config);
    let prober = Prober::new(&policy, authorities);
    let rules = policy.allowlist.rules();
    let (machine, of_rules) = tokio::join!(
        machine::examine(config, path, default_path),
        join_all(rules.iter().map(|rule| prober.examine(rule))),
    );
    let mut examination = Examination::new(env!("CARGO_PKG_VERSION"));
    let machine = machine.into_iter().map(|finding| finding.with(Details::default()));
    examination.add("machine", None, machine);
    for (rule, findings) in rules.iter().zip(of_rules) {
        examination.add("rule", Some(rule.name.as_str()), findings);
    }
    examination
}

/// What scripts are told of a destination, where there is one.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Details {
    /// What a client asks for.
    pub destination: Option<String>,
    /// Which of its addresses it is.
    pub address: Option<SocketAddr>,
    /// How long it took to connect, or to resolve the name.
    pub milliseconds: Option<f64>,
    /// What there is to know of TLS, if it is spoken.
    pub tls: Option<TlsDetails>,
}

#[cfg(test)]
mod tests;
