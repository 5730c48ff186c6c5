//! One name server at a time, for whoever wants to know which of them is well.

use std::net::SocketAddr;

use hickory_resolver::Hosts;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::system_conf::read_system_conf;
use tokio::time::timeout;
use tunnel::host::DnsName;

use super::query::{Ask, NameServers, Question};
use super::{BUDGET, DnsError, Family};

/// The first of these names that the hosts file of this machine does not have.
pub fn first_to_ask<'a>(mut names: impl Iterator<Item = &'a DnsName>) -> Option<&'a DnsName> {
    let servers = NameServers::new(Some(Vec::new()), BUDGET);
    names.find(|name| {
        let question = Question { name: (*name).clone(), family: Family::V4 };
        let parsed = Name::from_ascii(format!("{name}."));
        parsed.is_ok_and(|name| servers.in_hosts_file(&question, &name).is_none())
    })
}

/// The name servers of resolv.conf(5), of which there is at least one.
///
/// # Errors
///
/// The file cannot be read, or names none.
pub fn system_servers() -> Result<Vec<SocketAddr>, NetError> {
    let (config, _) = read_system_conf()?;
    let mut servers: Vec<_> = config
        .name_servers()
        .iter()
        .flat_map(|server| {
            let ports = server.connections.iter().map(|connection| connection.port);
            ports.map(|port| SocketAddr::new(server.ip, port))
        })
        .collect();
    // Both UDP and TCP are there.
    servers.dedup();
    Ok(servers)
}

/// Asks a name server for a name; the hosts file is not looked at. That there is no such name is
/// an answer, too.
///
/// # Errors
///
/// [`DnsError::Failed`] or [`DnsError::TimedOut`], after [`BUDGET`].
pub async fn ask_server(server: SocketAddr, name: &DnsName) -> Result<(), DnsError> {
    let mut servers = NameServers::new(Some(vec![server]), BUDGET);
    servers.hosts = Hosts::default();
    let asked = timeout(BUDGET, servers.ask(&Question { name: name.clone(), family: Family::V4 }));
    match asked.await {
        Ok(reply) => reply.map(drop),
        Err(_) => Err(DnsError::TimedOut { name: name.clone(), after: BUDGET }),
    }
}
