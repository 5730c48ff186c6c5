//! Makes `lo` answer for remote addresses.
//!
//! A route of type `local` tells the kernel that a whole network is this machine (AnyIP), as it
//! does for 127.0.0.0/8 by itself. A listener on the wildcard address then accepts connections to
//! any address in it, and the socket's own address is the one that the client meant.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;

use futures_util::TryStreamExt;
use ipnet::{IpNet, Ipv4Net};
use nix::errno::Errno;
use nix::libc::RT_TABLE_LOCAL;
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteScope, RouteType,
};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use thiserror::Error;

/// Brings `lo` up and makes each of the networks local, without its host bits.
///
/// What is as it should be stays as it is, so this may be repeated. An interface that is up and
/// networks that are always local (127.0.0.0/8, ::1) need no privilege.
///
/// # Errors
///
/// The first request that the kernel refuses; those before it have taken effect.
pub async fn make_local(networks: &[IpNet]) -> Result<(), NetworkError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(NetworkError::Socket)?;
    tokio::select! {
        // A connection that dies ends the replies that are awaited, which would look like success.
        biased;
        () = connection => Err(NetworkError::Socket(io::ErrorKind::BrokenPipe.into())),
        result = configure(&handle, networks) => result,
    }
}

async fn configure(handle: &Handle, networks: &[IpNet]) -> Result<(), NetworkError> {
    bring_up(handle).await.map_err(|error| NetworkError::Loopback(Refusal::new(error, false)))?;
    for network in networks.iter().map(IpNet::trunc) {
        if is_always_local(network) {
            continue;
        }
        match handle.route().add(local_route(network)).execute().await {
            Ok(()) => tracing::info!(%network, "made local"),
            Err(error) if errno(&error) == Some(Errno::EEXIST) => {}
            Err(error) => {
                let source = Refusal::new(error, network.addr().is_ipv6());
                return Err(NetworkError::Route { network, source });
            }
        }
    }
    Ok(())
}

async fn is_up(handle: &Handle) -> Result<bool, rtnetlink::Error> {
    let mut links = pin!(handle.link().get().match_index(LO).execute());
    while let Some(link) = links.try_next().await? {
        if link.header.flags.contains(LinkFlags::Up) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn bring_up(handle: &Handle) -> Result<(), rtnetlink::Error> {
    if is_up(handle).await? {
        return Ok(());
    }
    let up = LinkUnspec::new_with_index(LO).up().build();
    handle.link().set(up).execute().await?;
    tracing::info!("brought up `lo`");
    Ok(())
}

/// What `lo` answers for, as it is now.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Survey {
    /// Whether it is up.
    pub up: bool,
    /// The networks that are local, of both families.
    pub local: Vec<IpNet>,
}

impl Survey {
    /// Whether all of a network is local, host bits aside.
    #[must_use]
    pub fn has(&self, network: IpNet) -> bool {
        let network = network.trunc();
        is_always_local(network) || self.local.iter().any(|local| local.contains(&network))
    }
}

/// Asks the kernel, and changes nothing. Needs no privilege.
///
/// # Errors
///
/// There is no talking to the kernel.
pub async fn survey() -> Result<Survey, NetworkError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(NetworkError::Socket)?;
    let failed = |error| NetworkError::Socket(io::Error::other(error));
    tokio::select! {
        biased;
        () = connection => Err(NetworkError::Socket(io::ErrorKind::BrokenPipe.into())),
        result = ask(&handle) => result.map_err(failed),
    }
}

async fn ask(handle: &Handle) -> Result<Survey, rtnetlink::Error> {
    let mut survey = Survey { up: is_up(handle).await?, ..Survey::default() };
    let requests = [
        RouteMessageBuilder::<Ipv4Addr>::new().build(),
        RouteMessageBuilder::<Ipv6Addr>::new().build(),
    ];
    for request in requests {
        let mut routes = pin!(handle.route().get(request).execute());
        while let Some(route) = routes.try_next().await? {
            survey.local.extend(local_network(&route));
        }
    }
    Ok(survey)
}

/// What a route makes local, if that is what it does.
fn local_network(route: &RouteMessage) -> Option<IpNet> {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    })?;
    let is_local = route.header.kind == RouteType::Local;
    IpNet::new(address, route.header.destination_prefix_length).ok().filter(|_| is_local)
}

fn is_always_local(network: IpNet) -> bool {
    const LOOPBACK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
    match network {
        IpNet::V4(network) => LOOPBACK.contains(&network),
        IpNet::V6(network) => network.addr() == Ipv6Addr::LOCALHOST && network.prefix_len() == 128,
    }
}

fn local_route(network: IpNet) -> RouteMessage {
    match network.addr() {
        IpAddr::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(address, network.prefix_len())
            .kind(RouteType::Local)
            .table_id(RT_TABLE_LOCAL.into())
            .scope(RouteScope::Host)
            .output_interface(LO)
            .build(),
        IpAddr::V6(address) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(address, network.prefix_len())
            .kind(RouteType::Local)
            .table_id(RT_TABLE_LOCAL.into())
            .scope(RouteScope::Host)
            .output_interface(LO)
            .build(),
    }
}

/// Why a remote address is not local.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// `lo` stays down.
    #[error("failed to bring up `lo`")]
    Loopback(#[source] Refusal),
    /// A network has got no route.
    #[error("failed to make `{network}` local")]
    Route {
        /// The network, without host bits.
        network: IpNet,
        /// What the kernel says.
        source: Refusal,
    },
    /// There is no talking to the kernel, see rtnetlink(7).
    #[error("failed to use a netlink socket")]
    Socket(#[source] io::Error),
}

/// Why the kernel refuses a request, as far as it can be told.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The network is an IPv6 one and the kernel, or `lo`, has no IPv6.
    #[error("IPv6 is disabled here")]
    Ipv6Disabled(#[source] io::Error),
    /// Anything else.
    #[error(transparent)]
    Other(io::Error),
    /// See capabilities(7).
    #[error("this needs CAP_NET_ADMIN in the network namespace")]
    Privilege(#[source] io::Error),
}

impl Refusal {
    fn new(error: rtnetlink::Error, ipv6: bool) -> Self {
        let number = errno(&error);
        let error = match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            error => io::Error::other(error),
        };
        match number {
            Some(Errno::EPERM) => Self::Privilege(error),
            // By `disable_ipv6` of `lo`, in a kernel without IPv6, or with `ipv6.disable=1`.
            Some(Errno::EACCES | Errno::EAFNOSUPPORT | Errno::ENODEV | Errno::EOPNOTSUPP)
                if ipv6 =>
            {
                Self::Ipv6Disabled(error)
            }
            _ => Self::Other(error),
        }
    }
}

fn errno(error: &rtnetlink::Error) -> Option<Errno> {
    match error {
        rtnetlink::Error::NetlinkError(message) => {
            Some(Errno::from_raw(message.raw_code().saturating_neg()))
        }
        _ => None,
    }
}

/// The index of `lo`: the first interface of every network namespace (`LOOPBACK_IFINDEX`).
const LO: u32 = 1;
