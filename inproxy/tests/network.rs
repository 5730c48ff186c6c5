//! Local routes, as connections see them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod namespaces;

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use inproxy::network::{NetworkError, Refusal, make_local};
use ipnet::IpNet;
use namespaces::run_below;

const ENCLAVE: &[&str] = &["unshare", "-Urn"];

#[test]
fn a_wildcard_listener_learns_which_address_was_meant() {
    let test = "a_wildcard_listener_learns_which_address_was_meant";
    run_below(ENCLAVE, test, || {
        let networks = ["10.0.10.7/23", "10.0.20.5/32", "fd00:10::7/64"];
        local(&networks).unwrap();
        local(&networks).unwrap();

        let v4 = TcpListener::bind("0.0.0.0:2223").unwrap();
        for address in ["10.0.10.0", "10.0.10.103", "10.0.11.255", "10.0.20.5"] {
            assert_eq!(meant(&v4, address).unwrap(), ip(address));
        }
        drop(v4);
        let both = TcpListener::bind("[::]:2223").unwrap();
        for address in ["10.0.11.27", "fd00:10::", "fd00:10::ffff:103", "127.9.9.9", "::1"] {
            assert_eq!(meant(&both, address).unwrap(), ip(address));
        }
    });
}

#[test]
fn nothing_else_becomes_local() {
    run_below(ENCLAVE, "nothing_else_becomes_local", || {
        local(&["10.0.10.7/23", "fd00:10::7/64"]).unwrap();
        let listener = TcpListener::bind("[::]:2223").unwrap();
        for address in ["10.0.9.255", "10.0.12.0", "10.255.0.1", "11.0.0.1", "fd00:11::1"] {
            let error = meant(&listener, address).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NetworkUnreachable, "{address}");
        }
    });
}

#[test]
fn a_port_without_listener_refuses_at_once() {
    run_below(ENCLAVE, "a_port_without_listener_refuses_at_once", || {
        local(&["10.0.10.0/23", "fd00:10::/64"]).unwrap();
        for address in ["10.0.10.103", "fd00:10::103"] {
            let start = Instant::now();
            let error = connect(SocketAddr::new(ip(address), 2224)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{address}");
            assert!(start.elapsed() < Duration::from_secs(1), "{address}");
        }
    });
}

#[test]
fn loopback_itself_comes_up() {
    run_below(ENCLAVE, "loopback_itself_comes_up", || {
        let loopback = ["127.0.0.1", "127.9.9.9", "::1"].map(|text| SocketAddr::new(ip(text), 1));
        for address in loopback {
            assert_ne!(connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        }
        local(&["127.0.0.0/16", "::1/128"]).unwrap();
        for address in loopback {
            assert_eq!(connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        }
    });
}

#[test]
fn without_ipv6_only_ipv6_networks_fail() {
    run_below(ENCLAVE, "without_ipv6_only_ipv6_networks_fail", || {
        for interface in ["all", "lo"] {
            let switch = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
            fs::write(switch, "1").unwrap();
        }
        local(&["10.0.10.0/24"]).unwrap();
        let error = local(&["10.0.11.0/24", "fd00:10::/64"]).unwrap_err();
        assert_eq!(error.to_string(), "failed to make `fd00:10::/64` local");
        assert!(
            matches!(error, NetworkError::Route { source: Refusal::Ipv6Disabled(_), .. }),
            "{error:?}"
        );
    });
}

#[test]
fn without_privilege_the_error_says_what_is_missing() {
    let test = "without_privilege_the_error_says_what_is_missing";
    run_below(&["unshare", "-Un"], test, || {
        let error = local(&["10.0.10.0/24"]).unwrap_err();
        assert!(matches!(error, NetworkError::Loopback(Refusal::Privilege(_))), "{error:?}");
    });
}

#[test]
fn what_is_in_place_needs_no_privilege() {
    // The second user namespace has no rights over the network namespace of the first.
    let script = "ip link set lo up && exec unshare -U \"$@\"";
    let command = ["unshare", "-Urn", "sh", "-ec", script, "sh"];
    run_below(&command, "what_is_in_place_needs_no_privilege", || {
        local(&["127.0.0.0/8"]).unwrap();
        let error = local(&["10.0.10.9/24"]).unwrap_err();
        assert_eq!(error.to_string(), "failed to make `10.0.10.0/24` local");
        assert!(
            matches!(error, NetworkError::Route { source: Refusal::Privilege(_), .. }),
            "{error:?}"
        );
    });
}

fn local(networks: &[&str]) -> Result<(), NetworkError> {
    let networks: Vec<IpNet> = networks.iter().map(|text| text.parse().unwrap()).collect();
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap()
        .block_on(make_local(&networks))
}

/// Connects to an address and returns the one that the listener sees.
fn meant(listener: &TcpListener, address: &str) -> io::Result<IpAddr> {
    let port = listener.local_addr()?.port();
    let _client = connect(SocketAddr::new(ip(address), port))?;
    let (accepted, _) = listener.accept()?;
    Ok(accepted.local_addr()?.ip().to_canonical())
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&address, Duration::from_secs(5))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
