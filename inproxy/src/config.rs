//! What an operator configures in the enclave.

mod draft;
mod file;

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;
use tunnel::cidr::Cidr;
use tunnel::config::{self, ConfigError, Mistakes, Report};
use tunnel::destination::{Destination, Port};
use tunnel::endpoint::{Cid, Endpoint, VsockPort};
use tunnel::host::{DnsName, Host};
use tunnel::label::Label;
use tunnel::limits::Limits;
use tunnel::log::LogConfig;

use self::draft::Draft;
pub(crate) use self::draft::reason_to_refuse;
use self::file::{File, TelemetryFile};

/// The validated configuration of inproxy.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where routed connections are sent. It can be connected to without a resolver.
    pub outproxy: Endpoint,
    /// Whether the client's bytes wait for the answer to the CONNECT request.
    ///
    /// outproxy needs no such wait, which costs a round trip. Other proxies may: some drop what
    /// follows the request too closely, or keep a refused connection open.
    pub await_answer: bool,
    /// What is forwarded: at least one, no two of one name, and no two that leave open where a
    /// connection leads.
    pub forwards: Vec<Forward>,
    /// The bounds of connections in number and time.
    pub limits: Limits,
    /// How long a connection over vsock is tried again, so that a restart of outproxy is not seen
    /// as the loss of an HSM. Zero: it is tried once.
    pub outproxy_retry: Duration,
    /// What the host is told of this inproxy. `None`: nothing.
    pub telemetry: Option<Telemetry>,
    /// What is logged, and how.
    pub log: LogConfig,
}

/// The `[telemetry]` table, where it is enabled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Telemetry {
    /// Whether the host is also told what the application writes to its standard output and error.
    /// It may be a secret, and the host is not trusted with those.
    pub application_output: bool,
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

    /// The addresses to make local, with repetitions where forwards share one.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> {
        self.forwards
            .iter()
            .flat_map(|forward| match &forward.local {
                Local::Addresses(cidrs) => &cidrs[..],
                Local::Host(_) => &[],
            })
            .map(|cidr| cidr.net())
    }

    /// The names that get a loopback address, with repetitions where forwards share one.
    pub fn hosts(&self) -> impl Iterator<Item = &DnsName> {
        self.forwards.iter().filter_map(|forward| match &forward.local {
            Local::Addresses(_) => None,
            Local::Host(name) => Some(name),
        })
    }
}

impl FromStr for Config {
    type Err = Report;

    /// Parses the text of a file.
    fn from_str(text: &str) -> Result<Self, Report> {
        config::parse::<File, Self>(text)
    }
}

/// A `[[forward]]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Forward {
    /// The name in logs.
    pub name: Label,
    /// What becomes local.
    pub local: Local,
    /// The ports, in ascending order, each once.
    pub ports: Vec<Port>,
    /// The endpoint at which one destination is reached without a header (raw). There is then one
    /// port, and one host or address. `None`: outproxy is told the destination (routed).
    pub via: Option<Endpoint>,
}

/// What a forward makes local.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Local {
    /// These addresses, as they are.
    Addresses(Vec<Cidr>),
    /// This name, under a loopback address of its own.
    Host(DnsName),
}

impl TryFrom<File> for Config {
    type Error = Mistakes;

    fn try_from(file: File) -> Result<Self, Mistakes> {
        let mut mistakes = Mistakes::default();
        if file.forward.is_empty() {
            mistakes
                .add_missing("there is no `[[forward]]`; write one, so that something is reached");
        }
        let drafts: Vec<Draft> =
            file.forward.into_iter().map(|forward| Draft::new(forward, &mut mistakes)).collect();
        for (index, draft) in drafts.iter().enumerate() {
            for earlier in &drafts[..index] {
                draft.refuse_clash(earlier, &mut mistakes);
            }
        }
        let vias = || drafts.iter().filter_map(|draft| draft.via.as_ref());
        for endpoint in vias().chain(&file.outproxy) {
            refuse_unconnectable(endpoint, &drafts, &mut mistakes);
        }
        let outproxy = file.outproxy.as_ref().map_or(DEFAULT_OUTPROXY, |own| own.get_ref().clone());
        for via in vias().filter(|via| *via.get_ref() == outproxy) {
            mistakes.add(
                via.span(),
                "this is `outproxy`, which expects a request that `via` does not send; \
                 write the endpoint of a raw listener, or remove `via`",
            );
        }
        let is_routed = file.outproxy.is_some() || drafts.iter().any(|draft| draft.via.is_none());
        let telemetry = telemetry(&file.telemetry, is_routed, &mut mistakes);
        let outproxy_retry = file.limits.outproxy_retry;
        mistakes.or(Self {
            outproxy,
            await_answer: file.await_answer,
            forwards: drafts.into_iter().map(Draft::into_forward).collect(),
            limits: file.limits.into(),
            outproxy_retry,
            telemetry,
            log: file.log,
        })
    }
}

/// Where nothing is routed, and nobody says where outproxy is, there is none.
fn telemetry(
    file: &TelemetryFile,
    has_outproxy: bool,
    mistakes: &mut Mistakes,
) -> Option<Telemetry> {
    let output = file.application_output.as_ref();
    let application_output = output.is_some_and(|output| *output.get_ref());
    if let Some(output) = output.filter(|output| *output.get_ref()) {
        if file.enabled == Some(false) {
            mistakes.add(
                output.span(),
                "nothing is told with `enabled = false`; write `enabled = true`, or remove this",
            );
        } else if !has_outproxy {
            mistakes.add(
                output.span(),
                "every forward has `via`, so nobody is there to be told; \
                 write `outproxy` where one listens, or remove this",
            );
        }
    }
    (has_outproxy && file.enabled != Some(false)).then_some(Telemetry { application_output })
}

fn refuse_unconnectable(endpoint: &Spanned<Endpoint>, drafts: &[Draft], mistakes: &mut Mistakes) {
    match endpoint.get_ref() {
        Endpoint::Vsock { cid: Cid::ANY, port } => mistakes.add(
            endpoint.span(),
            format!(
                "`any` is only for listening; write the CID of the parent, as in `vsock:3:{port}`"
            ),
        ),
        Endpoint::Tcp(Destination { host: Host::Name(name), .. }) => mistakes.add(
            endpoint.span(),
            format!("there is no resolver in the enclave for `{name}`; write its address"),
        ),
        Endpoint::Tcp(Destination { host: Host::Ip(ip), port }) => {
            if let Some(own) = drafts.iter().find_map(|draft| draft.takes(*ip, *port)) {
                mistakes.add_clash(
                    endpoint.span(),
                    own.span(),
                    "inproxy forwards this address and would connect to itself; \
                     write an endpoint that it does not forward",
                );
            }
        }
        Endpoint::Unix(_) | Endpoint::Vsock { .. } => {}
    }
}

/// `outproxy = "vsock:3:8443"`: the parent instance, which is CID 3 on Nitro.
pub const DEFAULT_OUTPROXY: Endpoint =
    Endpoint::Vsock { cid: Cid::new(3), port: VsockPort::new(8443).unwrap() };

/// `outproxy-retry = "2s"`
pub const DEFAULT_OUTPROXY_RETRY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
