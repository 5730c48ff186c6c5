//! Connecting to a destination: by "Happy Eyeballs" (RFC 8305) if it is a name.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use nix::errno::Errno;
use thiserror::Error;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tunnel::connect::connect_tcp;
use tunnel::destination::Destination;
use tunnel::host::{DnsName, Host};
use tunnel::stream::Stream;
use tunnel::tcp::set_upstream_options;

use crate::resolver::{Answer, DnsError, Family, Lookup, Resolver};

/// How long IPv4 addresses wait for IPv6 addresses that are still looked up (RFC 8305 section 3).
pub const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// How long an attempt has for itself before the next address is tried beside it (RFC 8305
/// section 5). It is less if the addresses are so many that some would not get their turn: each
/// has begun when half of the time that was left for connecting is over.
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// It is never less than this (RFC 8305 section 5).
pub const SHORTEST_ATTEMPT_DELAY: Duration = Duration::from_millis(10);

/// Connects to `destination` within `limit`, resolution included, and prepares the socket with
/// [`set_upstream_options`]. Its close sends an RST; see [`connect_tcp`].
///
/// Every address of a name is tried until one accepts, IPv6 and IPv4 in turn, the next as soon as
/// one fails; the sockets of the others are reset. `permitted` decides about the very address
/// that is dialled, in its canonical form, right before it is.
///
/// # Errors
///
/// The most telling of what went wrong with the addresses, see [`DialError`].
pub async fn dial(
    destination: &Destination,
    resolver: &Resolver,
    limit: Duration,
    permitted: impl Fn(IpAddr) -> bool,
) -> Result<(Stream, SocketAddr), DialError> {
    let port = destination.port.get();
    let (stream, addr) = match &destination.host {
        Host::Ip(ip) => {
            let addr = SocketAddr::new(*ip, port);
            (dial_address(addr, limit, permitted).await?, addr)
        }
        // Boxed, since few connections are made by name, and all of them would carry its size.
        Host::Name(name) => {
            Box::pin(race(name, resolver.lookup(name), port, limit, permitted)).await?
        }
    };
    set_upstream_options(&stream);
    Ok((stream, addr))
}

/// Why there is no connection.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DialError {
    /// The name has no address, as far as could be found out.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// The attempt failed on this machine, for want of a descriptor, a port or memory.
    #[error("failed to make a socket for `{addr}`")]
    Local {
        /// What was dialled.
        addr: SocketAddr,
        /// What socket(2) or connect(2) answered.
        source: io::Error,
    },
    /// The destination leads to addresses that are not permitted, and to no other.
    #[error(
        "`{ip}` is an address that a name must not lead to; if it is meant, list it in `hosts`"
    )]
    Prohibited {
        /// The first of them.
        ip: IpAddr,
    },
    /// The upstream, or something on the way, answered with an RST.
    #[error("`{addr}` refused the connection")]
    Refused {
        /// What was dialled.
        addr: SocketAddr,
    },
    /// There was no answer.
    #[error("`{addr}` did not answer within {after:?}")]
    TimedOut {
        /// What was dialled, and longest ago.
        addr: SocketAddr,
        /// The limit for all attempts together.
        after: Duration,
    },
    /// There is no way there: no route, no such family, or a firewall.
    #[error("`{addr}` is unreachable")]
    Unreachable {
        /// What was dialled.
        addr: SocketAddr,
        /// What connect(2) answered.
        source: io::Error,
    },
}

impl DialError {
    fn new(addr: SocketAddr, source: io::Error, after: Duration) -> Self {
        match source.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw) {
            Errno::ECONNREFUSED | Errno::ECONNRESET => Self::Refused { addr },
            Errno::ETIMEDOUT => Self::TimedOut { addr, after },
            Errno::ENETUNREACH
            | Errno::EHOSTUNREACH
            | Errno::ENETDOWN
            | Errno::EHOSTDOWN
            | Errno::EAFNOSUPPORT
            | Errno::EACCES
            | Errno::EPERM => Self::Unreachable { addr, source },
            // Where IPv6 is turned off there is no address to connect from.
            Errno::EADDRNOTAVAIL if addr.is_ipv6() => Self::Unreachable { addr, source },
            _ => Self::Local { addr, source },
        }
    }

    /// The greater, the more it tells. What is wrong here is nobody else's fault; a refusal is an
    /// answer, and silence is none; an address of a family that this machine does not speak tells
    /// nothing about the upstream.
    fn rank(&self) -> (u8, u8) {
        match self {
            Self::Local { .. } => (5, 0),
            Self::Refused { .. } => (4, 0),
            Self::TimedOut { .. } => (3, 0),
            Self::Unreachable { .. } => (2, 0),
            Self::Prohibited { .. } => (1, 0),
            Self::Dns(error) => (0, error.rank()),
        }
    }
}

/// Connects to one address within `limit`, if that is `permitted`. The socket is as it comes.
///
/// # Errors
///
/// [`DialError`], but for that of a name.
pub async fn dial_address(
    addr: SocketAddr,
    limit: Duration,
    permitted: impl Fn(IpAddr) -> bool,
) -> Result<Stream, DialError> {
    if !permitted(addr.ip()) {
        return Err(DialError::Prohibited { ip: addr.ip() });
    }
    match timeout(limit, connect_tcp(addr)).await {
        Ok(result) => result.map_err(|error| DialError::new(addr, error, limit)),
        Err(_) => Err(DialError::TimedOut { addr, after: limit }),
    }
}

async fn race(
    name: &DnsName,
    lookup: Lookup,
    port: u16,
    limit: Duration,
    permitted: impl Fn(IpAddr) -> bool,
) -> Result<(Stream, SocketAddr), DialError> {
    let mut race = Race::new(name, lookup, port, limit);
    match timeout_at(race.deadline, race.run(permitted)).await {
        Ok(Some(winner)) => return Ok(winner),
        Ok(None) => {}
        Err(_) => race.time_out(name),
    }
    Err(race.failure)
}

/// The attempts to reach one name.
struct Race {
    lookup: Lookup,
    port: u16,
    limit: Duration,
    deadline: Instant,
    /// When every address that is known should have had its turn.
    all_begun: Instant,
    waiting: Waiting,
    /// When the next address may be tried.
    not_before: Instant,
    attempts: FuturesUnordered<BoxFuture<'static, (SocketAddr, io::Result<Stream>)>>,
    /// Whom the attempts try to reach, in the order in which they began.
    pending: Vec<SocketAddr>,
    /// The most telling failure so far.
    failure: DialError,
}

impl Race {
    fn new(name: &DnsName, lookup: Lookup, port: u16, limit: Duration) -> Self {
        let now = Instant::now();
        Self {
            lookup,
            port,
            limit,
            deadline: now + limit,
            all_begun: now,
            waiting: Waiting::default(),
            not_before: now,
            attempts: FuturesUnordered::new(),
            pending: Vec::new(),
            failure: DnsError::NoAddress(name.clone()).into(),
        }
    }

    /// Returns [`None`] when there is nothing left to try.
    async fn run(&mut self, permitted: impl Fn(IpAddr) -> bool) -> Option<(Stream, SocketAddr)> {
        loop {
            tokio::select! {
                biased;
                Some((addr, result)) = self.attempts.next() => match result {
                    Ok(stream) => return Some((stream, addr)),
                    Err(error) => {
                        self.pending.retain(|pending| *pending != addr);
                        self.not_before = Instant::now();
                        self.fail(DialError::new(addr, error, self.limit));
                    }
                },
                Some((family, answer)) = self.lookup.next() => self.learn(family, answer),
                () = until(self.not_before), if !self.waiting.is_empty() => {
                    self.start_next(&permitted);
                }
                else => return None,
            }
        }
    }

    fn learn(&mut self, family: Family, answer: Answer) {
        let now = Instant::now();
        match answer {
            Ok(addresses) => {
                self.waiting.add(&addresses);
                self.all_begun = now + self.deadline.saturating_duration_since(now) / 2;
            }
            Err(error) => self.fail(error.into()),
        }
        if self.waiting.untouched() {
            let wait = family == Family::V4 && self.lookup.awaits(Family::V6);
            self.not_before = now + if wait { RESOLUTION_DELAY } else { Duration::ZERO };
        }
    }

    fn start_next(&mut self, permitted: impl Fn(IpAddr) -> bool) {
        let Some(ip) = self.waiting.take() else { return };
        if !permitted(ip) {
            self.fail(DialError::Prohibited { ip });
            return;
        }
        let addr = SocketAddr::new(ip, self.port);
        self.attempts.push(Box::pin(async move { (addr, connect_tcp(addr).await) }));
        self.pending.push(addr);

        let now = Instant::now();
        let turns = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX).max(1);
        let turn = self.all_begun.saturating_duration_since(now) / turns;
        self.not_before = now + turn.clamp(SHORTEST_ATTEMPT_DELAY, ATTEMPT_DELAY);
    }

    fn time_out(&mut self, name: &DnsName) {
        let after = self.limit;
        self.fail(match self.pending.first() {
            Some(&addr) => DialError::TimedOut { addr, after },
            None => DnsError::TimedOut { name: name.clone(), after }.into(),
        });
    }

    fn fail(&mut self, error: DialError) {
        if error.rank() > self.failure.rank() {
            self.failure = error;
        }
    }
}

/// The addresses that were not tried yet.
#[derive(Default)]
struct Waiting {
    v6: VecDeque<IpAddr>,
    v4: VecDeque<IpAddr>,
    seen: Vec<IpAddr>,
    last: Option<Family>,
}

impl Waiting {
    fn add(&mut self, addresses: &[IpAddr]) {
        for ip in addresses.iter().map(IpAddr::to_canonical) {
            if self.seen.contains(&ip) {
                continue;
            }
            self.seen.push(ip);
            match ip {
                IpAddr::V4(_) => self.v4.push_back(ip),
                IpAddr::V6(_) => self.v6.push_back(ip),
            }
        }
    }

    /// The families take turns, and IPv6 has the first (RFC 8305 section 4).
    fn take(&mut self) -> Option<IpAddr> {
        let turns = match self.last {
            Some(Family::V6) => [&mut self.v4, &mut self.v6],
            Some(Family::V4) | None => [&mut self.v6, &mut self.v4],
        };
        let ip = turns.into_iter().find_map(VecDeque::pop_front)?;
        self.last = Some(if ip.is_ipv6() { Family::V6 } else { Family::V4 });
        Some(ip)
    }

    fn untouched(&self) -> bool {
        self.last.is_none()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.v6.len() + self.v4.len()
    }
}

/// Waits until then; without a timer, which would wake another thread, where that has come.
async fn until(deadline: Instant) {
    if Instant::now() < deadline {
        sleep_until(deadline).await;
    }
}

#[cfg(test)]
mod tests;
