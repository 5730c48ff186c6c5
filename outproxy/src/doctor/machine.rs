//! The machine that outproxy runs on, and the service that it is there.

mod configuration;
mod grants;
mod listeners;
mod metadata;
mod nameservers;
mod running;

use std::path::Path;

use tunnel::endpoint::Endpoint;
use tunnel::examination::processes::Serving;
use tunnel::examination::{Finding, machine};

use self::grants::Grants;
use crate::config::Config;

pub(super) async fn examine(config: &Config, path: &Path, default_path: &Path) -> Vec<Finding> {
    let serving = Serving::find("outproxy", path, default_path);
    let endpoints: Vec<_> = config.listeners.iter().map(|listener| &listener.on).collect();
    let (grants, running, nameservers, metadata) = tokio::join!(
        Grants::find(serving.as_ref()),
        running::examine(config, path, serving.as_ref()),
        nameservers::examine(config),
        metadata::examine(),
    );
    let mut findings = vec![
        machine::kernel(),
        vsock(&endpoints),
        configuration::examine(path, serving.as_ref()),
        running,
    ];
    let all = endpoints.iter().copied().chain(&config.metrics);
    findings.extend(all.map(|endpoint| listeners::examine(endpoint, serving.as_ref())));
    findings.extend([
        grants.judge_ports(&endpoints),
        grants.judge_descriptors(config.limits.max_connections),
    ]);
    findings.extend(nameservers);
    findings.push(metadata);
    findings
}

fn vsock(endpoints: &[&Endpoint]) -> Finding {
    if endpoints.iter().any(|endpoint| matches!(endpoint, Endpoint::Vsock { .. })) {
        machine::vsock()
    } else {
        Finding::skipped("vsock", "nothing listens on vsock")
    }
}
