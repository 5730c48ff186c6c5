//! Every HSM of a cluster, as AWS lists them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::future::join_all;
use tokio::time::Instant;
use tunnel::destination::Port;
use tunnel::endpoint::Cid;
use tunnel::examination::{Finding, Verdict, in_milliseconds, milliseconds};

use super::Details;
use super::rules::Prober;
use crate::allowlist::PROBED_PORT;
use crate::clusters::{Cluster, Fault, FaultKind, Listed, ask};

impl Prober<'_> {
    /// Which HSMs the cluster has, and what became of each.
    pub(super) async fn cluster(
        &self,
        client: Option<Cid>,
        cluster: &Cluster,
        ports: &[Port],
    ) -> Vec<Finding<Details>> {
        let started = Instant::now();
        let Some(answer) = ask(cluster).await else { return Vec::new() };
        let took = started.elapsed();
        let details = Details { milliseconds: Some(milliseconds(took)), ..Details::default() };
        let listed = match answer {
            Ok(listed) => listed,
            Err(fault) => return vec![failure(cluster, &fault).with(details)],
        };
        let allowed = &listed.members.allowed;
        let found = format!("has {} in {}", list(allowed), in_milliseconds(took));
        let finding = if allowed.is_empty() {
            Finding::warning(cluster.id.as_str(), "no-hsm", found, NO_HSM)
        } else {
            Finding::ok(cluster.id.as_str(), found)
        };
        let tried = allowed.iter().map(|ip| self.hsm(client, *ip, ports));
        let mut findings = vec![finding.with(details)];
        findings.extend(unfit(&listed));
        findings.extend(join_all(tried).await.into_iter().flatten());
        findings
    }

    async fn hsm(&self, client: Option<Cid>, ip: IpAddr, ports: &[Port]) -> Vec<Finding<Details>> {
        let mut findings = self.address(client, ip, ports).await;
        for finding in &mut findings {
            let port = finding.details.address.map(|address| address.port());
            // What the others are for often does not listen.
            if port != Some(PROBED_PORT) && finding.result == Verdict::Failed {
                finding.result = Verdict::Warning;
            }
        }
        findings
    }
}

/// What the answer has besides.
fn unfit(listed: &Listed) -> Vec<Finding<Details>> {
    let draining = listed.members.draining.iter().map(|ip| {
        Finding::skipped(
            ip.to_string(),
            "this HSM is being deleted; nothing new is connected to it",
        )
    });
    let skipped = listed.skipped.iter().map(|text| {
        let found = "no HSM can have this address, so it is not allowed";
        Finding::warning(text.to_string(), "strange-address", found, STRANGE)
    });
    draining.chain(skipped).map(|finding| finding.with(Details::default())).collect()
}

fn failure(cluster: &Cluster, fault: &Fault) -> Finding {
    let (problem, advice) = match fault.kind {
        FaultKind::Denied => (
            "not-permitted",
            "let the role of this instance do cloudhsm:DescribeClusters, as in configs/iam-policy.json",
        ),
        FaultKind::NoCluster => (
            "no-such-cluster",
            "mend `cloudhsm-cluster` or `region`; `aws cloudhsmv2 describe-clusters --region ...` \
             lists those that there are",
        ),
        FaultKind::NoCredentials => (
            "no-credentials",
            "give this instance a role (an instance profile), and see that its metadata service answers",
        ),
        FaultKind::NotAnswered => (
            "not-answered",
            "see that this machine reaches the endpoint of cloudhsmv2 in that region by HTTPS, or write \
             that of a VPC into `endpoint-url`",
        ),
    };
    Finding::failed(cluster.id.as_str(), problem, fault.to_string(), advice)
}

fn list(addresses: &BTreeSet<IpAddr>) -> String {
    if addresses.is_empty() {
        return "no HSM".into();
    }
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

const NO_HSM: &str = "create an HSM in the cluster, or wait until it is there";
const STRANGE: &str = "see what answers at the endpoint in the place of AWS";
