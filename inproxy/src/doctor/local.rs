//! What makes remote addresses local: `lo`, its routes, the hosts file, the listeners.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use tunnel::chain::Chain;
use tunnel::destination::Destination;
use tunnel::endpoint::Endpoint;
use tunnel::examination::Finding;
use tunnel::host::DnsName;
use tunnel::listener::try_bind;

use super::START;
use crate::config::Config;
use crate::forwards::Forwards;
use crate::hosts;
use crate::network::{self, Survey};

pub(super) async fn examine(config: &Config, names: &BTreeMap<DnsName, Ipv4Addr>) -> Vec<Finding> {
    let mut findings = match network::survey().await {
        Ok(survey) => routes(config, &survey),
        Err(error) => vec![Finding::failed(
            "lo",
            "no-netlink",
            Chain(&error).to_string(),
            "let this process use netlink sockets (AF_NETLINK), which inproxy needs, too",
        )],
    };
    findings.extend(names_in(Path::new(hosts::PATH), names));
    findings.extend(Forwards::new(config, names).wildcards().iter().map(listener));
    findings
}

fn routes(config: &Config, survey: &Survey) -> Vec<Finding> {
    let mut findings = vec![if survey.up {
        Finding::ok("lo", "is up")
    } else {
        Finding::failed("lo", "down", "is down, so that not even 127.0.0.1 can be reached", START)
    }];
    let mut networks: Vec<_> = config.networks().map(|network| network.trunc()).collect();
    networks.sort_unstable();
    networks.dedup();
    findings.extend(networks.into_iter().map(|network| {
        let subject = format!("route {network}");
        if survey.has(network) {
            Finding::ok(subject, "is local")
        } else {
            Finding::failed(
                subject,
                "not-local",
                "is not local, so that connections to it leave this machine, or find no way",
                START,
            )
        }
    }));
    findings
}

fn names_in(path: &Path, names: &BTreeMap<DnsName, Ipv4Addr>) -> Vec<Finding> {
    let entries: Vec<_> = names.iter().map(|(name, ip)| (IpAddr::V4(*ip), name.clone())).collect();
    if entries.is_empty() {
        return Vec::new();
    }
    let inspection = match hosts::inspect(path, &entries) {
        Ok(inspection) => inspection,
        Err(error) => {
            return vec![Finding::failed(
                path.display().to_string(),
                "unreadable",
                Chain(&error).to_string(),
                "let everybody read it: `chmod 0644`",
            )];
        }
    };
    let judge = |(ip, name): &(IpAddr, DnsName)| {
        let rivals: Vec<_> = inspection
            .rivals
            .iter()
            .filter(|(_, rival)| rival == name)
            .map(|(address, _)| address.as_str())
            .collect();
        let subject = format!("name {name}");
        if inspection.missing.contains(&(*ip, name.clone())) {
            Finding::failed(
                subject,
                "no-hosts-line",
                format!("`{}` does not say that it is {ip}", path.display()),
                START,
            )
        } else if !rivals.is_empty() {
            Finding::warning(
                subject,
                "rival-hosts-line",
                format!("`{}` says {ip}, but also {}", path.display(), rivals.join(", ")),
                "remove the other lines: programs may take the wrong address",
            )
        } else {
            Finding::ok(subject, format!("is {ip} in `{}`", path.display()))
        }
    };
    entries.iter().map(judge).collect()
}

/// Binds the address for a moment, without listening: nobody could connect.
fn listener(wildcard: &Destination) -> Finding {
    let subject = format!("port {wildcard}");
    match try_bind(&Endpoint::Tcp(wildcard.clone())) {
        Err(error) if error.is_taken() => Finding::ok(subject, "is listened on"),
        Ok(()) => Finding::failed(
            subject,
            "not-listening",
            "nobody listens on it, so that connections are refused",
            START,
        ),
        Err(error) if error.is_denied() => Finding::failed(
            subject,
            "no-privilege",
            format!("nobody listens on it, nor could this user: {}", Chain(&error)),
            "start inproxy as root, or with CAP_NET_BIND_SERVICE, which ports below 1024 need",
        ),
        Err(error) => Finding::failed(
            subject,
            "not-listening",
            Chain(&error).to_string(),
            "remove the addresses of this family from `addresses`, or give this kernel the family",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::net::TcpListener;
    use tunnel::examination::Verdict;

    #[test]
    fn a_port_is_free_until_somebody_listens() {
        let listening = TcpListener::bind("127.0.0.1:0").unwrap();
        let wildcard: Destination = listening.local_addr().unwrap().to_string().parse().unwrap();
        assert_eq!(listener(&wildcard).result, Verdict::Ok);
        drop(listening);
        assert_eq!(listener(&wildcard).problem, Some("not-listening"));
    }

    #[test]
    fn a_name_needs_its_line_and_no_other() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let names = [("hsm.example".parse().unwrap(), Ipv4Addr::new(127, 1, 2, 3))].into();
        for (text, expected) in [
            ("127.1.2.3 hsm.example\n", None),
            ("127.1.2.4 hsm.example\n", Some("no-hosts-line")),
            ("127.1.2.3 hsm.example\n10.0.0.1 hsm.example\n", Some("rival-hosts-line")),
        ] {
            fs::write(file.path(), text).unwrap();
            assert_eq!(names_in(file.path(), &names)[0].problem, expected, "{text}");
        }
        assert_eq!(names_in(Path::new("/dev/null"), &names)[0].problem, Some("unreadable"));
        assert_eq!(names_in(Path::new("/dev/null"), &BTreeMap::new()), []);
    }
}
