use std::future::{pending, ready};
use std::net::Ipv4Addr;
use std::sync::Arc;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tunnel::tcp::USER_TIMEOUT;

use super::*;

/// Far more than any of the tests needs.
const LIMIT: Duration = Duration::from_secs(10);

fn name() -> DnsName {
    "hsm.test".parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn found(ips: &[IpAddr]) -> Answer {
    Ok(Arc::from(ips))
}

fn none() -> Answer {
    Err(DnsError::NoAddress(name()))
}

fn lookup(v6: Answer, v4: Answer) -> Lookup {
    Lookup::new(ready(v6), ready(v4))
}

async fn dial_name(
    lookup: Lookup,
    port: u16,
    limit: Duration,
    permitted: impl Fn(IpAddr) -> bool,
) -> Result<(Stream, SocketAddr), DialError> {
    race(&name(), lookup, port, limit, permitted).await
}

/// A listener on a loopback address, and its port.
async fn listener(ip: IpAddr, port: u16) -> (TcpListener, u16) {
    let listener = TcpListener::bind((ip, port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Listeners on both loopback addresses with one port.
async fn both_listeners() -> (TcpListener, TcpListener, u16) {
    loop {
        let (v4, port) = listener(ip("127.0.0.1"), 0).await;
        if let Ok(v6) = TcpListener::bind((ip("::1"), port)).await {
            return (v6, v4, port);
        }
    }
}

/// A port on which nobody listens.
async fn free_port() -> u16 {
    listener(ip("127.0.0.1"), 0).await.1
}

/// A listener whose backlog is full: what connects to it gets no answer.
struct BlackHole {
    port: u16,
    _sockets: [Socket; 2],
}

impl BlackHole {
    fn new(ip: Ipv4Addr, port: u16) -> Self {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let (listener, filler) = (socket(), socket());
        listener.bind(&SocketAddr::from((ip, port)).into()).unwrap();
        listener.listen(0).unwrap();
        let addr = listener.local_addr().unwrap();
        filler.connect(&addr).unwrap();
        let port = addr.as_socket().unwrap().port();
        Self { port, _sockets: [listener, filler] }
    }
}

#[tokio::test]
async fn an_address_is_dialled_and_its_socket_prepared() {
    let (_listener, port) = listener(ip("127.0.0.1"), 0).await;
    let destination = format!("127.0.0.1:{port}").parse().unwrap();
    let resolver = Resolver::new(None);
    let (stream, addr) = dial(&destination, &resolver, LIMIT, |_| true).await.unwrap();
    assert_eq!(addr.to_string(), destination.to_string());
    let socket = SockRef::from(&stream);
    assert_eq!(socket.peer_addr().unwrap().as_socket(), Some(addr));
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
    assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
}

#[tokio::test]
async fn an_address_that_is_not_permitted_is_not_dialled() {
    let (listener, port) = listener(ip("127.0.0.1"), 0).await;
    let addr = listener.local_addr().unwrap();
    let error = dial_address(addr, LIMIT, |_| false).await.unwrap_err();
    assert!(matches!(error, DialError::Prohibited { ip } if ip == addr.ip()));

    let known = lookup(none(), found(&[ip("127.0.0.1"), ip("127.0.0.2")]));
    let error = dial_name(known, port, LIMIT, |_| false).await.unwrap_err();
    assert!(matches!(error, DialError::Prohibited { ip: seen } if seen == ip("127.0.0.1")));
    let nobody = futures_util::FutureExt::now_or_never(listener.accept());
    assert!(nobody.is_none());
}

#[tokio::test]
async fn the_very_address_is_checked_in_its_canonical_form() {
    let (_listener, port) = listener(ip("127.0.0.1"), 0).await;
    let known = lookup(found(&[ip("::ffff:127.0.0.2"), ip("::ffff:127.0.0.1")]), none());
    let permitted = |address| address == ip("127.0.0.1");
    let (_, addr) = dial_name(known, port, LIMIT, permitted).await.unwrap();
    assert_eq!(addr, SocketAddr::new(ip("127.0.0.1"), port));
}

#[tokio::test]
async fn a_refusal_a_silence_and_no_route_are_told_apart() {
    let refused = SocketAddr::new(ip("127.0.0.1"), free_port().await);
    let error = dial_address(refused, LIMIT, |_| true).await.unwrap_err();
    assert!(matches!(error, DialError::Refused { addr } if addr == refused), "{error:?}");

    let hole = BlackHole::new(Ipv4Addr::LOCALHOST, 0);
    let silent = SocketAddr::new(ip("127.0.0.1"), hole.port);
    let after = Duration::from_millis(100);
    let error = dial_address(silent, after, |_| true).await.unwrap_err();
    assert!(
        matches!(error, DialError::TimedOut { addr, after: told } if addr == silent && told == after)
    );

    let nowhere = SocketAddr::new(ip("255.255.255.255"), 1);
    let error = dial_address(nowhere, LIMIT, |_| true).await.unwrap_err();
    assert!(matches!(error, DialError::Unreachable { addr, .. } if addr == nowhere), "{error:?}");
}

#[test]
fn what_fails_on_this_machine_is_not_blamed_on_the_upstream() {
    let classify = |errno: Errno, addr: &str| {
        let source = io::Error::from_raw_os_error(errno as i32);
        DialError::new(addr.parse().unwrap(), source, LIMIT)
    };
    for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::EADDRNOTAVAIL] {
        assert!(matches!(classify(errno, "10.0.0.1:1"), DialError::Local { .. }), "{errno}");
    }
    for errno in [Errno::EADDRNOTAVAIL, Errno::EAFNOSUPPORT, Errno::ENETUNREACH] {
        assert!(matches!(classify(errno, "[fd00::1]:1"), DialError::Unreachable { .. }), "{errno}");
    }
}

#[tokio::test]
async fn ipv6_goes_first() {
    let (_v6, _v4, port) = both_listeners().await;
    let known = lookup(found(&[ip("::1")]), found(&[ip("127.0.0.1")]));
    let (_, addr) = dial_name(known, port, LIMIT, |_| true).await.unwrap();
    assert_eq!(addr.ip(), ip("::1"));
}

#[tokio::test]
async fn ipv6_goes_first_even_if_it_is_known_a_little_later() {
    let (_v6, _v4, port) = both_listeners().await;
    let later = async {
        sleep(RESOLUTION_DELAY / 10).await;
        found(&[ip("::1")])
    };
    let known = Lookup::new(later, ready(found(&[ip("127.0.0.1")])));
    let (_, addr) = dial_name(known, port, LIMIT, |_| true).await.unwrap();
    assert_eq!(addr.ip(), ip("::1"));
}

#[tokio::test]
async fn ipv4_does_not_wait_for_a_family_that_is_never_answered() {
    let (_listener, port) = listener(ip("127.0.0.1"), 0).await;
    let known = Lookup::new(pending(), ready(found(&[ip("127.0.0.1")])));
    let begin = Instant::now();
    dial_name(known, port, LIMIT, |_| true).await.unwrap();
    let took = begin.elapsed();
    assert!(took >= RESOLUTION_DELAY && took < LIMIT / 4, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn ipv4_goes_at_once_if_there_is_no_ipv6() {
    let now = Instant::now();
    let known = Lookup::new(pending(), ready(found(&[ip("127.0.0.1")])));
    let mut race = Race::new(&name(), known, 1, LIMIT);
    let (family, answer) = race.lookup.next().await.unwrap();
    race.learn(family, answer);
    assert_eq!(race.not_before, now + RESOLUTION_DELAY);

    let known = lookup(none(), found(&[ip("127.0.0.1")]));
    let mut race = Race::new(&name(), known, 1, LIMIT);
    while let Some((family, answer)) = race.lookup.next().await {
        race.learn(family, answer);
    }
    assert_eq!(race.not_before, now);
}

#[tokio::test]
async fn the_next_address_follows_a_refusal_at_once() {
    let last = Ipv4Addr::new(127, 0, 1, 20);
    let (_listener, port) = listener(last.into(), 0).await;
    let all: Vec<IpAddr> = (1..=20).map(|i| Ipv4Addr::new(127, 0, 1, i).into()).collect();
    let begin = Instant::now();
    let (_, addr) = dial_name(lookup(none(), found(&all)), port, LIMIT, |_| true).await.unwrap();
    assert_eq!(addr.ip(), last);
    assert!(begin.elapsed() < 4 * ATTEMPT_DELAY, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_silent_address_delays_the_next_one_by_the_attempt_delay() {
    let hole = BlackHole::new(Ipv4Addr::new(127, 0, 2, 1), 0);
    let (_listener, _) = listener(ip("127.0.2.2"), hole.port).await;
    let known = lookup(none(), found(&[ip("127.0.2.1"), ip("127.0.2.2")]));
    let begin = Instant::now();
    let (_, addr) = dial_name(known, hole.port, LIMIT, |_| true).await.unwrap();
    let took = begin.elapsed();
    assert_eq!(addr.ip(), ip("127.0.2.2"));
    assert!(took >= ATTEMPT_DELAY && took < LIMIT / 4, "{took:?}");
}

#[tokio::test]
async fn every_one_of_many_silent_addresses_has_its_turn_within_the_limit() {
    let limit = Duration::from_secs(1);
    let addresses: Vec<_> = (1..=20).map(|i| Ipv4Addr::new(127, 0, 3, i)).collect();
    let (last, silent) = addresses.split_last().unwrap();
    let (_listener, port) = listener((*last).into(), 0).await;
    let _holes: Vec<_> = silent.iter().map(|ip| BlackHole::new(*ip, port)).collect();
    let all: Vec<IpAddr> = addresses.iter().map(|ip| (*ip).into()).collect();
    let (_, addr) = dial_name(lookup(none(), found(&all)), port, limit, |_| true).await.unwrap();
    assert_eq!(addr.ip(), *last);
}

#[tokio::test]
async fn the_limit_holds_for_all_attempts_together() {
    let limit = Duration::from_millis(300);
    let hole = BlackHole::new(Ipv4Addr::LOCALHOST, 0);
    let known = lookup(none(), found(&[ip("127.0.0.1")]));
    let begin = Instant::now();
    let error = dial_name(known, hole.port, limit, |_| true).await.unwrap_err();
    assert!(matches!(error, DialError::TimedOut { .. }), "{error:?}");
    let took = begin.elapsed();
    assert!(took >= limit && took < 4 * limit, "{took:?}");

    let known = Lookup::new(pending(), pending());
    let error = dial_name(known, hole.port, limit, |_| true).await.unwrap_err();
    assert!(matches!(error, DialError::Dns(DnsError::TimedOut { .. })), "{error:?}");
}

#[tokio::test]
async fn the_most_telling_failure_is_told() {
    let port = free_port().await;
    let known = lookup(
        Err(DnsError::TimedOut { name: name(), after: LIMIT }),
        found(&[ip("255.255.255.255"), ip("127.0.0.2"), ip("127.0.0.1"), ip("255.255.255.255")]),
    );
    let permitted = |address| address != ip("127.0.0.2");
    let error = dial_name(known, port, LIMIT, permitted).await.unwrap_err();
    assert!(matches!(error, DialError::Refused { .. }), "{error:?}");

    let known = lookup(none(), Err(DnsError::NotFound(name())));
    let error = dial_name(known, port, LIMIT, |_| true).await.unwrap_err();
    assert!(matches!(error, DialError::Dns(DnsError::NotFound(_))), "{error:?}");

    let known = lookup(none(), Err(DnsError::TimedOut { name: name(), after: LIMIT }));
    let error = dial_name(known, port, LIMIT, |_| true).await.unwrap_err();
    assert!(matches!(error, DialError::Dns(DnsError::TimedOut { .. })), "{error:?}");
}

#[test]
fn the_families_take_turns_and_no_address_has_two() {
    let mut waiting = Waiting::default();
    waiting.add(&[ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.1"), ip("10.0.0.3")]);
    assert_eq!(waiting.take(), Some(ip("10.0.0.1")));
    waiting.add(&[ip("fd00::1"), ip("fd00::2"), ip("::ffff:10.0.0.1")]);
    let order: Vec<_> = std::iter::from_fn(|| waiting.take()).collect();
    assert_eq!(order, ["fd00::1", "10.0.0.2", "fd00::2", "10.0.0.3"].map(ip));
}
