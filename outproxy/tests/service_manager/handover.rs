//! Listeners that outlive their process.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::manager::Manager;
use crate::peers::{Clients, echo, free_port, open, ping};
use crate::{config, raw};

#[test]
fn every_listener_is_stored_before_outproxy_is_ready() {
    let (up, port) = (echo(), free_port());
    let mut manager = Manager::new();
    manager.configure(&config(&[up], &(raw(port, up) + "[metrics]\nlisten = 'unix:DIR/admin'\n")));
    let _service = manager.start();
    let [routed, admin] = ["routed", "admin"].map(|name| manager.unix(name));
    assert_eq!(manager.stored(), [&format!("tcp,127.0.0.1,{port}"), &admin, &routed]);
}

#[test]
fn a_restart_refuses_nobody_and_loses_nothing() {
    let (up, port) = (echo(), free_port());
    let mut manager = Manager::new();
    manager.configure(&config(&[up], &raw(port, up)));
    let mut service = manager.start();
    let _service = Clients::run(&manager.path("routed"), up, port, |clients| {
        for _ in 0..5 {
            clients.await_visits(&mut manager);
            service = manager.restart(service);
        }
        // This one has a connection that never ends by itself.
        let mut idle = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        ping(&mut idle).unwrap();
        let start = Instant::now();
        service = manager.restart(service);
        assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!(idle.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        clients.await_visits(&mut manager);
        service
    });
    assert_eq!(manager.store.len(), 2);
}

#[test]
fn a_drain_takes_its_time_until_a_client_waits() {
    let up = echo();
    let mut manager = Manager::new();
    manager.configure(&config(&[up], ""));
    let service = manager.start();
    let mut idle = open(&manager.path("routed"), up).unwrap();
    service.signal(Signal::SIGTERM);
    manager.await_line("STOPPING=1");
    // More than a client would have to wait.
    assert!(!manager.hears("nothing", Duration::from_secs(3)));
    ping(&mut idle).unwrap();

    let mut client = UnixStream::connect(manager.path("routed")).unwrap();
    client.write_all(format!("CONNECT 127.0.0.1:{up} HTTP/1.1\r\n\r\nhello").as_bytes()).unwrap();
    ping(&mut idle).unwrap();
    let start = Instant::now();
    assert!(service.wait().success());
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    manager.receive_all();
    let _service = manager.start();
    let mut answer = vec![0; 200];
    let length = client.read(&mut answer).unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200 "), "{answer:?}");
}

#[test]
fn without_a_store_clients_are_refused_at_once_and_the_others_finish() {
    let (up, port) = (echo(), free_port());
    let mut manager = Manager::new();
    manager.has_store = false;
    manager.configure(&config(&[up], &raw(port, up)));
    let service = manager.start();
    let mut idle = open(&manager.path("routed"), up).unwrap();
    service.signal(Signal::SIGTERM);
    manager.await_line("STOPPING=1");
    ping(&mut idle).unwrap();
    assert!(UnixStream::connect(manager.path("routed")).is_err());
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    ping(&mut idle).unwrap();
    drop(idle);
    assert!(service.wait().success());
    // The name that is left over is no obstacle.
    manager.start();
}

#[test]
fn a_reload_brings_the_store_up_to_date() {
    let (up, port) = (echo(), free_port());
    let mut manager = Manager::new();
    let [one, two] = [config(&[up], ""), config(&[up], &raw(port, up))];
    let other = two.replace("DIR/routed", "DIR/other");
    manager.configure(&one);
    let service = manager.start();
    assert_eq!(manager.stored(), [&manager.unix("routed")]);

    manager.configure(&two);
    manager.reload(&service);
    let tcp = format!("tcp,127.0.0.1,{port}");
    assert_eq!(manager.stored(), [&tcp, &manager.unix("routed")]);
    ping(&mut TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()).unwrap();

    manager.configure(&other);
    manager.reload(&service);
    assert_eq!(manager.stored(), [&tcp, &manager.unix("other")]);
    assert!(!manager.path("routed").exists());

    // A file with mistakes changes nothing.
    manager.configure("nonsense");
    manager.reload(&service);
    assert_eq!(manager.stored(), [&tcp, &manager.unix("other")]);

    // What was dropped is free at once.
    for text in [&one, &two, &one, &two] {
        manager.configure(text);
        manager.reload(&service);
    }
    assert_eq!(manager.stored(), [&tcp, &manager.unix("routed")]);
    ping(&mut open(&manager.path("routed"), up).unwrap()).unwrap();
    ping(&mut TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()).unwrap();

    let service = manager.restart(service);
    ping(&mut open(&manager.path("routed"), up).unwrap()).unwrap();
    drop(service);
    // The process is killed, and the next one goes on.
    manager.receive_all();
    let _service = manager.start();
    ping(&mut open(&manager.path("routed"), up).unwrap()).unwrap();
}
