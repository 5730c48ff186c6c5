//! What an operator configures on the host.

mod file;
mod following;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::str::FromStr;

use toml::Spanned;
use tunnel::config::{self, ConfigError, Mistakes, Report};
use tunnel::destination::Destination;
use tunnel::endpoint::{Cid, Endpoint};
use tunnel::host::Host;
use tunnel::limits::Limits;
use tunnel::log::LogConfig;

use self::file::{AllowFile, File, ListenFile};
use crate::allowlist::{Allowlist, Rule};

/// The validated configuration of outproxy.
#[derive(Debug)]
pub struct Config {
    /// Where clients are accepted: at least one, and all of them can be bound at once.
    pub listeners: Vec<Listener>,
    /// What they may reach. Without rules, nothing: so that an operator can stop all traffic with
    /// a reload, an empty allowlist is no mistake.
    pub allowlist: Allowlist,
    /// The bounds of connections in number and time.
    pub limits: Limits,
    /// Whom to ask for the addresses of names. `None`: whom the system's resolv.conf says.
    pub nameservers: Option<Vec<SocketAddr>>,
    /// Where metrics and the status are served, if anywhere. Not on vsock.
    pub metrics: Option<Endpoint>,
    /// What is logged, and how.
    pub log: LogConfig,
}

impl Config {
    /// Loads the file at `path`. Touches nothing else.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or has mistakes.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        config::load::<File, Self>(path)
    }

    /// All that is listened on.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.listeners.iter().map(|listener| &listener.on).chain(&self.metrics)
    }
}

impl FromStr for Config {
    type Err = Report;

    /// Parses the text of a file.
    fn from_str(text: &str) -> Result<Self, Report> {
        config::parse::<File, Self>(text)
    }
}

/// A `[[listen]]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listener {
    /// Where clients connect to. A `tcp:` endpoint has an address, not a name.
    pub on: Endpoint,
    /// Where all of them are led (raw). `None`: where each of them asks to be led (routed).
    pub to: Option<Destination>,
}

impl TryFrom<File> for Config {
    type Error = Mistakes;

    fn try_from(file: File) -> Result<Self, Mistakes> {
        let mut mistakes = Mistakes::default();
        let nameservers =
            file.dns.and_then(|dns| dns.servers).map(|servers| servers.into_values(&mut mistakes));
        let nameservers = nameservers.map(|servers| servers.into_iter().map(Into::into).collect());
        let metrics = file.metrics.map(|metrics| metrics.listen);

        let endpoints = file.listen.iter().map(|listen| &listen.on);
        refuse_names_and_overlaps(endpoints.chain(&metrics), &mut mistakes);
        refuse_vsock(metrics.as_ref(), &mut mistakes);
        if file.listen.is_empty() {
            mistakes.add_missing(
                "there is no `[[listen]]`; write one, such as `on = \"vsock:any:8443\"`",
            );
        }
        let allowlist = allowlist(file.allow, &file.listen, &mut mistakes);
        mistakes.or(Self {
            listeners: file.listen.into_iter().map(Listener::from).collect(),
            allowlist,
            limits: file.limits,
            nameservers,
            metrics: metrics.map(Spanned::into_inner),
            log: file.log,
        })
    }
}

impl From<ListenFile> for Listener {
    fn from(file: ListenFile) -> Self {
        Self { on: file.on.into_inner(), to: file.to.map(Spanned::into_inner) }
    }
}

/// Refuses to tell every enclave what the others do.
fn refuse_vsock(metrics: Option<&Spanned<Endpoint>>, mistakes: &mut Mistakes) {
    if let Some(endpoint) = metrics
        && let Endpoint::Vsock { .. } = endpoint.get_ref()
    {
        mistakes.add(
            endpoint.span(),
            format!(
                "`{}` would show every enclave what the others do; \
                 write `tcp:127.0.0.1:9464` or `unix:/run/outproxy/admin.sock`",
                endpoint.get_ref()
            ),
        );
    }
}

fn refuse_names_and_overlaps<'a>(
    endpoints: impl Iterator<Item = &'a Spanned<Endpoint>>,
    mistakes: &mut Mistakes,
) {
    let mut earlier: Vec<&Spanned<Endpoint>> = Vec::new();
    for endpoint in endpoints {
        if let Endpoint::Tcp(Destination { host: Host::Name(name), port }) = endpoint.get_ref() {
            mistakes.add(
                endpoint.span(),
                format!(
                    "`{name}` may stand for several addresses; \
                     write the one to listen on, as in `tcp:127.0.0.1:{port}`"
                ),
            );
        }
        if let Some(other) =
            earlier.iter().find(|other| overlap(other.get_ref(), endpoint.get_ref()))
        {
            mistakes.add_clash(
                endpoint.span(),
                other.span(),
                format!(
                    "`{}` cannot be bound beside `{}`; write another port or path",
                    endpoint.get_ref(),
                    other.get_ref()
                ),
            );
        }
        earlier.push(endpoint);
    }
}

/// Whether the kernel refuses to bind both, or both are the same.
fn overlap(one: &Endpoint, other: &Endpoint) -> bool {
    match (one, other) {
        (Endpoint::Vsock { cid, port }, Endpoint::Vsock { cid: other, port: other_port }) => {
            port == other_port && (cid == other || [*cid, *other].contains(&Cid::ANY))
        }
        (Endpoint::Tcp(one), Endpoint::Tcp(other)) if one.port == other.port => {
            match (&one.host, &other.host) {
                (Host::Ip(one), Host::Ip(other)) => {
                    includes(*one, *other) || includes(*other, *one)
                }
                (one, other) => one == other,
            }
        }
        (one, other) => one == other,
    }
}

/// Whether a socket on the address `on` also takes connections to `ip`. One on `::` takes IPv4 too,
/// see `IPV6_V6ONLY` in ipv6(7).
fn includes(on: IpAddr, ip: IpAddr) -> bool {
    on == ip || on.is_unspecified() && (on.is_ipv6() || ip.is_ipv4())
}

fn allowlist(
    files: Vec<AllowFile>,
    listeners: &[ListenFile],
    mistakes: &mut Mistakes,
) -> Allowlist {
    let mut values = Mistakes::default();
    let mut rules: Vec<Spanned<Rule>> = Vec::new();
    for file in files {
        let rule = file.into_rule(&mut values);
        if let Some(other) = rules.iter().find(|other| other.get_ref().name == rule.get_ref().name)
        {
            mistakes.add_clash(
                rule.span(),
                other.span(),
                format!(
                    "more than one rule is named `{}`; write another name",
                    rule.get_ref().name
                ),
            );
        }
        rules.push(rule);
    }
    // Where an element of a rule is missing for a mistake, what the rule lists is not known.
    if values.is_empty() {
        refuse_shadowed(&rules, mistakes);
        following::refuse_differences(&rules, mistakes);
        refuse_unlisted(listeners, &rules, mistakes);
    }
    mistakes.append(values);
    Allowlist::new(rules.into_iter().map(Spanned::into_inner).collect())
}

fn refuse_shadowed(rules: &[Spanned<Rule>], mistakes: &mut Mistakes) {
    for (index, rule) in rules.iter().enumerate() {
        if let Some(earlier) =
            rules[..index].iter().find(|earlier| rule.get_ref().is_shadowed_by(earlier.get_ref()))
        {
            mistakes.add_clash(
                rule.span(),
                earlier.span(),
                format!(
                    "rule `{}` never decides, since the earlier rule `{}` matches all that it lists; \
                     write it first, or remove it",
                    rule.get_ref().name,
                    earlier.get_ref().name
                ),
            );
        }
    }
}

/// Refuses a raw listener none of whose clients could ever get through.
fn refuse_unlisted(listeners: &[ListenFile], rules: &[Spanned<Rule>], mistakes: &mut Mistakes) {
    for listener in listeners {
        let Some(to) = &listener.to else { continue };
        let destination = to.get_ref();
        let mut listing =
            rules.iter().map(Spanned::get_ref).filter(|rule| rule.may_list(destination)).peekable();
        let on = listener.on.get_ref();
        if listing.peek().is_none() {
            mistakes.add(
                to.span(),
                format!(
                    "no `[[allow]]` lists `{destination}`; \
                     write it into one, or remove the listener"
                ),
            );
        } else if !matches!(on, Endpoint::Vsock { .. }) && listing.all(|rule| rule.cids.is_some()) {
            mistakes.add(
                to.span(),
                format!(
                    "only rules with `cids` list `{destination}`, and no client of `{on}` has a CID; \
                     write a rule without `cids`"
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests;
