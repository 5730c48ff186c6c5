//! Descriptors that outproxy is started with, wanted or not.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use crate::manager::{Manager, PATIENCE};
use crate::peers::{echo, free_port, open, ping};
use crate::{config, raw};

#[test]
fn the_listeners_of_a_socket_unit_serve_and_stay_its_own() {
    let up = echo();
    let mut manager = Manager::new();
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = tcp.local_addr().unwrap().port();
    let unix = UnixListener::bind(manager.path("routed")).unwrap();
    manager.store = vec![named("outproxy.socket", tcp), named("outproxy.socket", unix)];
    manager.configure(&config(&[up], &raw(port, up)));
    let service = manager.start();
    for _ in 0..2 {
        ping(&mut open(&manager.path("routed"), up).unwrap()).unwrap();
        ping(&mut TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()).unwrap();
    }
    assert_eq!(manager.stored(), ["outproxy.socket"; 2]);
    let _service = manager.restart(service);
    assert_eq!(manager.stored(), ["outproxy.socket"; 2]);
    ping(&mut open(&manager.path("routed"), up).unwrap()).unwrap();
}

/// It connected before outproxy could give the listener the options that it should inherit.
#[test]
fn the_first_client_of_a_socket_unit_is_aborted_as_any_other() {
    let (down, mut manager) = (free_port(), Manager::new());
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = tcp.local_addr().unwrap();
    let mut first = TcpStream::connect(address).unwrap();
    manager.store = vec![named("outproxy.socket", tcp)];
    manager.configure(&config(&[down], &raw(address.port(), down)));
    let _service = manager.start();
    for client in [&mut first, &mut TcpStream::connect(address).unwrap()] {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn what_is_not_wanted_is_closed_and_no_longer_stored() {
    let up = echo();
    let mut manager = Manager::new();
    manager.configure(&config(&[up], ""));
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = tcp.local_addr().unwrap();
    let unlinked = UnixListener::bind(manager.path("routed.new")).unwrap();
    std::fs::remove_file(manager.path("routed.new")).unwrap();
    let (mut ours, connection) = UnixStream::pair().unwrap();
    let file = manager.path("outproxy.toml");
    manager.store = vec![
        named("tcp,127.0.0.1,1", tcp),
        named("gone", unlinked),
        named("connection", connection),
        named("datagrams", UnixDatagram::unbound().unwrap()),
        named("file", File::open(&file).unwrap()),
    ];
    let service = manager.start();
    assert_eq!(manager.stored(), [&manager.unix("routed")]);
    assert!(TcpStream::connect(address).is_err(), "it is still open");
    assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    assert!(!service.has_open(&file));
    ping(&mut open(&manager.path("routed"), up).unwrap()).unwrap();
}

/// As the store has it that its names were given in another way.
#[test]
fn a_listener_is_known_by_its_address_and_not_by_its_name() {
    let (up, port) = (echo(), free_port());
    let mut manager = Manager::new();
    manager.configure(&config(&[up], &raw(port, up)));
    drop(manager.start());
    manager.receive_all();
    let names: Vec<_> = manager.store.iter().map(|(name, _)| name.clone()).collect();
    for ((name, _), other) in manager.store.iter_mut().zip(names.iter().rev()) {
        name.clone_from(other);
    }
    let _service = manager.start();
    ping(&mut open(&manager.path("routed"), up).unwrap()).unwrap();
    ping(&mut TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()).unwrap();
}

#[test]
fn a_name_that_was_removed_is_made_again() {
    let up = echo();
    let mut manager = Manager::new();
    manager.configure(&config(&[up], ""));
    let service = manager.start();
    // As systemd does with RuntimeDirectory=.
    std::fs::remove_file(manager.path("routed")).unwrap();
    let _service = manager.restart(service);
    assert_eq!(manager.stored(), [&manager.unix("routed")]);
    ping(&mut open(&manager.path("routed"), up).unwrap()).unwrap();
}

#[test]
fn nonsense_in_the_environment_is_no_obstacle() {
    let up = echo();
    let mut manager = Manager::new();
    manager.configure(&config(&[up], ""));
    let one = || named("tcp,127.0.0.1,1", TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    for environment in [
        [("LISTEN_FDS", "nonsense")],
        [("LISTEN_FDS", "")],
        [("LISTEN_FDS", "-1")],
        [("LISTEN_FDS", "7")],
        [("LISTEN_FDS", "4294967295")],
        [("LISTEN_FDS", "99999999999999999999")],
        [("LISTEN_FDNAMES", "a:b:c")],
        [("LISTEN_PID", "nonsense")],
        [("LISTEN_PID", "1")],
        [("WATCHDOG_USEC", "nonsense")],
        [("WATCHDOG_USEC", "0")],
    ] {
        manager.store = vec![one()];
        let _service = manager.start_with(&environment);
        ping(&mut open(&manager.path("routed"), up).unwrap()).unwrap();
    }
}

fn named(
    name: &str,
    descriptor: impl Into<std::os::fd::OwnedFd>,
) -> (String, std::os::fd::OwnedFd) {
    (name.into(), descriptor.into())
}
