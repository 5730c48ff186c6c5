//! What AWS answers, and which addresses that makes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use thiserror::Error;
use tunnel::host::Clamped;

use crate::address::is_prohibited;

/// An HSM as AWS describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hsm {
    /// Whether it is there.
    pub stage: Stage,
    /// The addresses of its network interface, IPv4 and IPv6, as far as it has them.
    pub addresses: Vec<String>,
}

/// Whether an HSM is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Not yet, or no longer.
    Absent,
    /// It is being deleted.
    Leaving,
    /// It is, well or not.
    Present,
}

/// The addresses of a cluster's HSMs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Members {
    /// They may be connected to.
    pub allowed: BTreeSet<IpAddr>,
    /// They belong to HSMs that are going. What is connected to them goes on, and nothing new comes.
    pub draining: BTreeSet<IpAddr>,
}

/// What an answer says of addresses.
#[derive(Debug, Default)]
pub struct Listed {
    /// Those that HSMs have.
    pub members: Members,
    /// Those that are none, or none that an HSM can have.
    pub skipped: BTreeSet<Box<str>>,
}

impl Listed {
    pub(super) fn new(hsms: &[Hsm]) -> Self {
        let mut listed = Self::default();
        for hsm in hsms {
            let members = match hsm.stage {
                Stage::Absent => continue,
                Stage::Leaving => &mut listed.members.draining,
                Stage::Present => &mut listed.members.allowed,
            };
            for text in &hsm.addresses {
                match text.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
                    Ok(ip) if !is_prohibited(ip) => {
                        members.insert(ip);
                    }
                    _ => {
                        listed.skipped.insert(Clamped::from(text.as_str()).to_string().into());
                    }
                }
            }
        }
        let Members { allowed, draining } = &mut listed.members;
        // An address that another HSM has by now is in use.
        draining.retain(|ip| !allowed.contains(ip));
        listed
    }
}

/// Why it is not known which HSMs a cluster has.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{reason}")]
pub struct Fault {
    /// What kind of fault it is.
    pub kind: FaultKind,
    /// What happened, in a sentence.
    pub reason: Box<str>,
}

/// What kind of fault it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FaultKind {
    /// AWS does not tell this role.
    Denied,
    /// There is no such cluster, so that it has no HSMs either.
    NoCluster,
    /// There is nothing to prove with who asks.
    NoCredentials,
    /// AWS could not be reached, or could not tell.
    NotAnswered,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hsm(stage: Stage, addresses: &[&str]) -> Hsm {
        Hsm { stage, addresses: addresses.iter().map(ToString::to_string).collect() }
    }

    fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
        addresses.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn both_addresses_of_an_hsm_are_allowed_until_it_is_deleted() {
        let listed = Listed::new(&[
            hsm(Stage::Present, &["10.0.10.103", "fd00:10::103"]),
            hsm(Stage::Leaving, &["10.0.11.27"]),
            hsm(Stage::Absent, &["10.0.12.9"]),
            hsm(Stage::Present, &[]),
        ]);
        assert_eq!(listed.members.allowed, set(&["10.0.10.103", "fd00:10::103"]));
        assert_eq!(listed.members.draining, set(&["10.0.11.27"]));
        assert!(listed.skipped.is_empty());
    }

    #[test]
    fn an_address_that_no_hsm_can_have_is_skipped() {
        let bad = [
            "",
            "010.0.10.103",
            "10.0.10.103/24",
            "127.0.0.1",
            "169.254.169.254",
            "::1",
            "::ffff:127.0.0.1",
            "fe80::1",
            "fd00:ec2::254",
            "hsm.example",
        ];
        let listed = Listed::new(&[hsm(Stage::Present, &bad), hsm(Stage::Leaving, &bad)]);
        assert_eq!(listed.members, Members::default());
        assert_eq!(listed.skipped, bad.into_iter().map(Into::into).collect());
    }

    #[test]
    fn an_address_that_another_hsm_has_by_now_is_in_use() {
        let listed = Listed::new(&[
            hsm(Stage::Leaving, &["10.0.10.103"]),
            hsm(Stage::Present, &["10.0.10.103"]),
        ]);
        assert_eq!(listed.members.allowed, set(&["10.0.10.103"]));
        assert!(listed.members.draining.is_empty());
    }
}
