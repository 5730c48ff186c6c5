//! What outproxy may do, as it runs, or as its unit would start it.

use std::collections::HashMap;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;
use tunnel::endpoint::Endpoint;
use tunnel::examination::Finding;
use tunnel::examination::machine::{descriptors, own_descriptors};
use tunnel::examination::processes::{Serving, own_capabilities};
use tunnel::limits::MaxConnections;

/// What is granted, and to whom.
#[derive(Debug)]
pub(super) struct Grants {
    whom: String,
    descriptors: Option<u64>,
    /// Whether it may bind ports below 1024.
    low_ports: Option<bool>,
}

impl Grants {
    /// Those of the process, or else of the unit, or else of whoever runs this.
    pub(super) async fn find(serving: Option<&Serving>) -> Self {
        if let Some(process) = serving
            && let (Some(descriptors), Some(capabilities)) =
                (process.descriptors(), process.capabilities())
        {
            return Self {
                whom: format!("outproxy (process {})", process.pid),
                descriptors: Some(descriptors),
                low_ports: Some(has_bind_service(capabilities)),
            };
        }
        if let Some(unit) = unit().await {
            return unit;
        }
        Self {
            whom: "a process that you start".into(),
            descriptors: own_descriptors().ok(),
            low_ports: own_capabilities().map(has_bind_service),
        }
    }

    /// From the properties that systemctl(1) shows, one a line.
    fn of_unit(shown: &str) -> Option<Self> {
        let properties: HashMap<_, _> =
            shown.lines().filter_map(|line| line.split_once('=')).collect();
        let get = |name: &str| properties.get(name).copied().unwrap_or_default();
        if get("LoadState") != "loaded" {
            return None;
        }
        let grants = |set: &str| get(set).split_whitespace().any(|name| name == BIND_SERVICE);
        let is_root = get("DynamicUser") != "yes" && ["", "root", "0"].contains(&get("User"));
        let by_user = is_root || grants("AmbientCapabilities");
        // vsock asks for the capability in the first user namespace.
        let low_ports = by_user && grants("CapabilityBoundingSet") && get("PrivateUsers") != "yes";
        let descriptors = match get("LimitNOFILE") {
            "infinity" => Some(u64::MAX),
            number => number.parse().ok(),
        };
        Some(Self { whom: UNIT.into(), descriptors, low_ports: Some(low_ports) })
    }

    pub(super) fn judge_descriptors(&self, most: MaxConnections) -> Finding {
        match self.descriptors {
            Some(limit) => descriptors(
                most,
                limit,
                &self.whom,
                "raise `LimitNOFILE=` of the unit (`systemctl edit outproxy`), or lower \
                 `max-connections`",
            ),
            None => Finding::skipped("descriptors", "nobody knows how many are granted"),
        }
    }

    pub(super) fn judge_ports(&self, endpoints: &[&Endpoint]) -> Finding {
        const SUBJECT: &str = "capabilities";
        let first_tcp = first_unprivileged_port();
        let low = endpoints.iter().filter(|endpoint| match endpoint {
            Endpoint::Vsock { port, .. } => port.get() < 1024,
            Endpoint::Tcp(destination) => destination.port.get() < first_tcp,
            Endpoint::Unix(_) => false,
        });
        let low: Vec<_> = low.map(|endpoint| format!("`{endpoint}`")).collect();
        if low.is_empty() {
            return Finding::ok(SUBJECT, "none is needed: no port is below 1024");
        }
        let (low, whom) = (low.join(", "), &self.whom);
        match self.low_ports {
            Some(true) => {
                Finding::ok(SUBJECT, format!("{whom} has CAP_NET_BIND_SERVICE, for {low}"))
            }
            Some(false) => Finding::failed(
                SUBJECT,
                "no-bind-service",
                format!("{low} needs CAP_NET_BIND_SERVICE, which {whom} lacks"),
                "write a port from 1024 on; or give the unit `CAP_NET_BIND_SERVICE` in both \
                 `CapabilityBoundingSet=` and `AmbientCapabilities=` (`systemctl edit outproxy`), \
                 and no `PrivateUsers=`",
            ),
            None => Finding::skipped(SUBJECT, "nobody knows which capabilities there are"),
        }
    }
}

/// What the unit grants, if there is one.
async fn unit() -> Option<Grants> {
    let mut command = Command::new("systemctl");
    command.arg("show").args(PROPERTIES.map(|name| format!("--property={name}"))).arg(UNIT);
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    Grants::of_unit(&String::from_utf8_lossy(&output.stdout))
}

fn has_bind_service(capabilities: u64) -> bool {
    capabilities & (1 << CAP_NET_BIND_SERVICE) != 0
}

fn first_unprivileged_port() -> u16 {
    let setting = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    setting.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

const UNIT: &str = "outproxy.service";
const PROPERTIES: [&str; 7] = [
    "AmbientCapabilities",
    "CapabilityBoundingSet",
    "DynamicUser",
    "LimitNOFILE",
    "LoadState",
    "PrivateUsers",
    "User",
];
const BIND_SERVICE: &str = "cap_net_bind_service";
/// Its number; see capabilities(7).
const CAP_NET_BIND_SERVICE: u32 = 10;
/// How long systemd may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use tunnel::examination::Verdict;

    const SHOWN: &str = "AmbientCapabilities=\nCapabilityBoundingSet=\nDynamicUser=yes\n\
        LimitNOFILE=65536\nLoadState=loaded\nPrivateUsers=no\nUser=outproxy\n";

    #[test]
    fn a_unit_tells_what_it_grants() {
        let unit = Grants::of_unit(SHOWN).unwrap();
        assert_eq!((unit.descriptors, unit.low_ports), (Some(65536), Some(false)));
        let granted = SHOWN
            .replace("Capabilities=", "Capabilities=cap_net_bind_service")
            .replace("BoundingSet=", "BoundingSet=cap_chown cap_net_bind_service");
        let low_ports = |shown: &str| Grants::of_unit(shown).unwrap().low_ports;
        assert_eq!(low_ports(&granted), Some(true));
        assert_eq!(low_ports(&granted.replace("Users=no", "Users=yes")), Some(false));
        assert_eq!(low_ports(&granted.replace("AmbientCapabilities=cap", "x=cap")), Some(false));
        let root = granted.replace("DynamicUser=yes", "DynamicUser=no").replace("=outproxy", "=");
        assert_eq!(low_ports(&root.replace("AmbientCapabilities=cap", "x=cap")), Some(true));
        let endless = Grants::of_unit(&SHOWN.replace("65536", "infinity")).unwrap();
        assert_eq!(endless.descriptors, Some(u64::MAX));
        assert!(Grants::of_unit("LoadState=not-found\nLimitNOFILE=524288\n").is_none());
        assert!(Grants::of_unit("").is_none());
    }

    #[test]
    fn only_low_ports_need_a_capability() {
        let judge = |endpoint: &str, low_ports| {
            let grants = Grants { whom: "it".into(), descriptors: None, low_ports };
            grants.judge_ports(&[&endpoint.parse().unwrap()]).result
        };
        assert_eq!(judge("vsock:any:1023", Some(false)), Verdict::Failed);
        assert_eq!(judge("vsock:any:1023", Some(true)), Verdict::Ok);
        assert_eq!(judge("vsock:any:1024", Some(false)), Verdict::Ok);
        assert_eq!(judge("unix:/run/x", Some(false)), Verdict::Ok);
        assert_eq!(judge("vsock:any:443", None), Verdict::Skipped);
    }
}
