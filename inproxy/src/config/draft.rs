//! A forward while its rules are checked: its parts still know where they stand in the file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use toml::Spanned;
use tunnel::cidr::Cidr;
use tunnel::config::Mistakes;
use tunnel::destination::Port;
use tunnel::endpoint::Endpoint;
use tunnel::host::{DnsName, Host};
use tunnel::label::Label;

use super::file::ForwardFile;
use super::{Forward, Local};

#[derive(Debug)]
pub(super) struct Draft {
    name: Spanned<Label>,
    addresses: Vec<Spanned<Cidr>>,
    host: Option<Spanned<DnsName>>,
    ports: Vec<Spanned<Port>>,
    pub(super) via: Option<Spanned<Endpoint>>,
}

impl Draft {
    pub(super) fn new(file: ForwardFile, mistakes: &mut Mistakes) -> Self {
        match (&file.addresses, &file.host) {
            (None, None) => mistakes.add(
                file.name.span(),
                format!(
                    "forward `{}` has neither `addresses` nor a `host`; write one of them",
                    file.name.get_ref()
                ),
            ),
            (Some(addresses), Some(host)) => mistakes.add_clash(
                host.span(),
                addresses.span(),
                "a forward has either `addresses` or a `host`; write a forward for each",
            ),
            _ => {}
        }
        let draft = Self {
            name: file.name,
            addresses: file
                .addresses
                .map(|addresses| addresses.into_elements(mistakes))
                .unwrap_or_default(),
            host: file.host.and_then(|host| name_to_forward(&host, mistakes)),
            ports: file.ports.into_elements(mistakes),
            via: file.via,
        };
        for address in &draft.addresses {
            refuse_reserved(address, mistakes);
        }
        if draft.via.is_some() {
            draft.refuse_several_destinations(mistakes);
        }
        draft
    }

    pub(super) fn into_forward(self) -> Forward {
        let mut ports: Vec<_> = self.ports.into_iter().map(Spanned::into_inner).collect();
        ports.sort_unstable();
        ports.dedup();
        Forward {
            name: self.name.into_inner(),
            local: match self.host {
                Some(host) => Local::Host(host.into_inner()),
                None => {
                    Local::Addresses(self.addresses.into_iter().map(Spanned::into_inner).collect())
                }
            },
            ports,
            via: self.via.map(Spanned::into_inner),
        }
    }

    /// Refuses what would leave open to which of two forwards a connection belongs.
    ///
    /// Where both are routed the destination is the same either way, so they may overlap.
    pub(super) fn refuse_clash(&self, earlier: &Self, mistakes: &mut Mistakes) {
        if self.name.get_ref() == earlier.name.get_ref() {
            mistakes.add_clash(
                self.name.span(),
                earlier.name.span(),
                format!(
                    "more than one forward is named `{}`; write another name",
                    self.name.get_ref()
                ),
            );
        }
        let Some(port) = self.shared_port(earlier) else { return };
        if let (Some(host), Some(other)) = (&self.host, &earlier.host)
            && host.get_ref() == other.get_ref()
        {
            mistakes.add_clash(
                host.span(),
                other.span(),
                format!(
                    "`{}` is forwarded twice on port {port}; remove one of them",
                    host.get_ref()
                ),
            );
        }
        if self.via.is_none() && earlier.via.is_none() {
            return;
        }
        let pairs = self
            .addresses
            .iter()
            .flat_map(|address| earlier.addresses.iter().map(move |other| (address, other)));
        for (address, other) in pairs {
            if address.get_ref().overlaps(*other.get_ref()) {
                mistakes.add_clash(
                    address.span(),
                    other.span(),
                    format!(
                        "`{}` of forward `{}` overlaps `{}` of forward `{}` on port {port}, \
                         and one of them has `via`; write addresses that lie apart",
                        address.get_ref(),
                        self.name.get_ref(),
                        other.get_ref(),
                        earlier.name.get_ref()
                    ),
                );
            }
        }
    }

    /// The part of this forward that takes connections to `ip` and `port`.
    pub(super) fn takes(&self, ip: IpAddr, port: Port) -> Option<&Spanned<Cidr>> {
        self.ports.iter().find(|own| *own.get_ref() == port)?;
        self.addresses.iter().find(|address| address.get_ref().contains(ip))
    }

    fn shared_port(&self, other: &Self) -> Option<Port> {
        let ports = self.ports.iter().map(|port| *port.get_ref());
        ports.into_iter().find(|port| other.ports.iter().any(|other| other.get_ref() == port))
    }

    /// Nothing in a raw tunnel says where it leads: the bytes for a second address or port would
    /// reach the service behind the first.
    fn refuse_several_destinations(&self, mistakes: &mut Mistakes) {
        let block = self.addresses.iter().find(|address| address.get_ref().single().is_none());
        let address = block.or_else(|| self.addresses.get(1)).map(Spanned::span);
        let port = self.ports.get(1).map(Spanned::span);
        for second in address.into_iter().chain(port) {
            mistakes.add(
                second,
                "a forward with `via` leads to one address and one port; \
                 write a forward with a `via` of its own for each",
            );
        }
    }
}

fn name_to_forward(host: &Spanned<Host>, mistakes: &mut Mistakes) -> Option<Spanned<DnsName>> {
    match host.get_ref() {
        Host::Ip(ip) => mistakes
            .add(host.span(), format!("`{ip}` is an address; write `addresses = [\"{ip}\"]`")),
        // RFC 6761 section 6.3. Applications would no longer find themselves.
        Host::Name(name) if name.as_str().rsplit('.').next() == Some("localhost") => mistakes.add(
            host.span(),
            format!("`{name}` is the enclave itself; write the name of a remote service"),
        ),
        Host::Name(name) => return Some(Spanned::new(host.span(), name.clone())),
    }
    None
}

fn refuse_reserved(address: &Spanned<Cidr>, mistakes: &mut Mistakes) {
    if let Some(reason) = reason_to_refuse(*address.get_ref()) {
        mistakes.add(address.span(), reason);
    }
}

/// Why these addresses are refused: no connection can lead to them, or hosts are given them.
pub(crate) fn reason_to_refuse(address: Cidr) -> Option<String> {
    let own = address.net();
    if UNASSIGNED_LOOPBACK.contains(&own) {
        return None;
    }
    let (block, what) =
        RESERVED.iter().find(|(block, _)| block.contains(&own) || own.contains(block))?;
    Some(format!(
        "`{address}` reaches into `{block}` ({what}); write the addresses of the services alone"
    ))
}

/// What a drop-in for `socat` may listen on. The rest of 127.0.0.0/8 is given to hosts.
const UNASSIGNED_LOOPBACK: IpNet = v4([127, 0, 0, 0], 16);

const RESERVED: [(IpNet, &str); 6] = [
    (v4([0, 0, 0, 0], 8), "this host"),
    (v4([127, 0, 0, 0], 8), "loopback, of which hosts are given 127.1.0.0 and up"),
    (v4([224, 0, 0, 0], 4), "multicast"),
    (v4([255, 255, 255, 255], 32), "broadcast"),
    (v6([0; 16], 128), "no address"),
    (v6([0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
];

const fn v4(octets: [u8; 4], prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from_octets(octets), prefix))
}

const fn v6(octets: [u8; 16], prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_octets(octets), prefix))
}
