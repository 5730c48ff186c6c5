//! Whether each name server answers.

use std::net::SocketAddr;

use futures_util::future::join_all;
use tokio::time::Instant;
use tunnel::chain::Chain;
use tunnel::examination::{Finding, in_milliseconds};
use tunnel::host::DnsName;

use crate::allowlist::HostPattern;
use crate::config::Config;
use crate::resolver::{DnsError, ask_server, first_to_ask, system_servers};

/// Asks each for a name of the configuration.
pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let rules = config.allowlist.rules();
    let patterns = rules.iter().flat_map(|rule| &rule.hosts);
    let names = patterns.filter_map(|pattern| match pattern {
        HostPattern::Name(name) | HostPattern::Suffix(name) => Some(name),
        HostPattern::Address(_) | HostPattern::Network(_) => None,
    });
    let Some(name) = first_to_ask(names) else {
        let found = "no rule has a name that is not in the hosts file, so none is asked";
        return vec![Finding::skipped("name servers", found)];
    };
    let servers = match &config.nameservers {
        Some(servers) => servers.clone(),
        None => match system_servers() {
            Ok(servers) => servers,
            Err(error) => {
                return vec![Finding::failed(
                    "name servers",
                    "no-name-server",
                    format!("there is none in /etc/resolv.conf: {error}"),
                    "write the VPC's own into the configuration: \
                     `[dns] servers = [\"169.254.169.253\"]`",
                )];
            }
        },
    };
    let answers = join_all(servers.iter().map(async |server| ask(*server, name).await)).await;
    let is_any_good = answers.iter().any(Result::is_ok);
    servers
        .iter()
        .zip(answers)
        .map(|(server, answer)| judge(*server, answer, is_any_good))
        .collect()
}

async fn ask(server: SocketAddr, name: &DnsName) -> Result<String, DnsError> {
    let started = Instant::now();
    ask_server(server, name).await?;
    Ok(in_milliseconds(started.elapsed()))
}

fn judge(server: SocketAddr, answer: Result<String, DnsError>, is_any_good: bool) -> Finding {
    let subject = format!("name server {server}");
    match answer {
        Ok(took) => Finding::ok(subject, format!("answers in {took}")),
        Err(error) => Finding::failed(
            subject,
            "no-answer",
            Chain(&error).to_string(),
            "see that it runs and admits this machine (UDP and TCP port 53); take it out of \
             `[dns] servers` or /etc/resolv.conf if not",
        )
        .excused_if(is_any_good),
    }
}
