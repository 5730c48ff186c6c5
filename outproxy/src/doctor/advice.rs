//! What an operator does about a destination that cannot be reached.

use crate::dial::DialError;
use crate::resolver::DnsError;

/// A failure in a word, and what to look at.
pub(super) fn on(error: &DialError) -> (&'static str, &'static str) {
    match error {
        DialError::Dns(DnsError::NotFound(_)) => (
            "no-such-name",
            "mend the name in `hosts`, or write name servers that know it into `[dns] servers`",
        ),
        DialError::Dns(DnsError::NoAddress(_)) => {
            ("no-address", "give the name an A or AAAA record, or mend it in `hosts`")
        }
        DialError::Dns(_) => (
            "dns-failed",
            "see that the name servers answer this machine: those in `[dns] servers`, \
             or without that those in /etc/resolv.conf",
        ),
        DialError::Local { .. } => (
            "local-failure",
            "this machine lacks something: look at LimitNOFILE= and net.ipv4.ip_local_port_range",
        ),
        DialError::Prohibited { .. } => {
            ("prohibited", "if the address is meant, add it to `hosts` beside the name")
        }
        DialError::Refused { .. } => (
            "refused",
            "the host is there, but nothing listens on that port: start the service, \
             or mend `ports`",
        ),
        DialError::TimedOut { .. } => (
            "timed-out",
            "see that the host is up, and that its security group (for CloudHSM that of the \
             cluster, TCP 2223-2225) admits this instance",
        ),
        DialError::Unreachable { .. } => (
            "unreachable",
            "look at the routes and the network ACL of this subnet, and at the firewall of this \
             machine",
        ),
    }
}

pub(super) const HALF_RESOLVED: &str =
    "see that the name servers answer for both families: each connection waits for the other one";
