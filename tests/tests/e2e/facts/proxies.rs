//! What the proxies make of the other facts.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use socket2::{SockAddr, Socket};
use tests::patience::patience;
use tests::peers;
use tests::vsock::{
    ANY, OWN, accept, connect, fill, is_ready, listen, port, probe, read_to_end, set_buffer_size,
    socket,
};
use tests::world::{ALLOWED, RAW, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_vsock::{VsockAddr, VsockStream};
use tunnel::listener::Listener;
use tunnel::vsock::{BUFFER_SIZE, MAX_WRITE};

crate::scenarios![
    a_thousand_connections_may_wait,
    single_bytes_travel_together,
    a_refusal_waits_for_its_reader,
    accepting_waits_for_descriptors_and_loses_nobody,
    both_take_a_mebibyte_ahead,
    another_clients_socket_does_as_well,
];

/// That of tokio-vsock knows nothing of how ours are set up.
fn another_clients_socket_does_as_well(world: &World) {
    let _outproxy = world.outproxy(&world.outproxy_config(ALLOWED, ""));
    let upstream = peers::listen(RAW);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let address = VsockAddr::new(OWN, world.leg.port(0));
        let mut client = VsockStream::connect(address).await.unwrap();
        let request = format!("CONNECT {RAW} HTTP/1.1\r\n\r\nhello");
        AsyncWriteExt::write_all(&mut client, request.as_bytes()).await.unwrap();
        let mut served = peers::accept(&upstream);
        served.read_exact(&mut [0; 5]).unwrap();
        served.write_all(b"world").unwrap();
        drop(served);
        let mut answer = String::new();
        AsyncReadExt::read_to_string(&mut client, &mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nworld"));
    });
}

/// V3.
fn a_thousand_connections_may_wait(world: &World) {
    peers::raise_descriptor_limit();
    let outproxy = world.outproxy(&world.outproxy_config(ALLOWED, ""));
    let upstream = peers::listen(RAW);
    outproxy.freeze();
    let mut clients: Vec<_> = (0..1000).map(|_| world.leg.dial(1).unwrap()).collect();
    outproxy.signal(Signal::SIGCONT);
    let mut served: Vec<_> = clients.iter().map(|_| peers::accept(&upstream)).collect();
    for upstream in &mut served {
        upstream.write_all(b"<").unwrap();
    }
    for client in &mut clients {
        client.read_exact(&mut [0]).unwrap();
    }
}

/// V7. They all wait for inproxy, and leave it as one packet or a few: whoever waits for the first
/// byte gets many.
fn single_bytes_travel_together(world: &World) {
    let listener = listen(ANY, world.leg.port(1), 16).unwrap();
    let inproxy = world.inproxy(&world.inproxy_config(""));
    let mut client = peers::connect(&world.enclave, RAW);
    client.set_nodelay(true).unwrap();
    let mut server = accept(&listener);
    inproxy.freeze();
    for _ in 0..1000 {
        client.write_all(b"x").unwrap();
    }
    inproxy.signal(Signal::SIGCONT);
    let (mut read, mut reads) = (0, 0);
    while read < 1000 {
        read += server.read(&mut [0; 2000]).unwrap();
        reads += 1;
    }
    // The last of them may come to inproxy a little late.
    assert!(reads < 20, "in {reads} pieces");
}

/// V9: what is closed right after its last write may never be read on Nitro.
fn a_refusal_waits_for_its_reader(world: &World) {
    let outproxy = world.outproxy(&world.outproxy_config("'10.0.10.103'", ""));
    let mut client = world.leg.dial(0).unwrap();
    client.write_all(b"CONNECT 10.0.11.27:2223 HTTP/1.1\r\n\r\n").unwrap();
    let (answer, error) = read_to_end(&mut client);
    assert!(answer.starts_with(b"HTTP/1.1 403 "));
    assert_eq!(error, None);
    // That was a half-close.
    probe(&client).unwrap();
    let held = outproxy.descriptors();
    drop(client);
    let deadline = Instant::now() + patience();
    while outproxy.descriptors() >= held {
        assert!(Instant::now() < deadline, "it does not close");
    }
}

/// V13.
fn accepting_waits_for_descriptors_and_loses_nobody(_: &World) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let port = port();
        let listener = Listener::bind(&format!("vsock:any:{port}").parse().unwrap()).unwrap();
        let clients: Vec<_> = (0..10).map(|_| connect(OWN, port).unwrap()).collect();
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 128, hard).unwrap();
        let mut hoard = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            hoard.push(file);
        }
        let mut accepted = Vec::new();
        let tries = timeout(Duration::from_secs(1), async {
            tunnel::accept::accept(&listener, |stream, _| accepted.push(stream)).await
        });
        assert!(tries.await.is_err());
        assert!(accepted.is_empty());
        drop(hoard);
        let (served, mut serving) = tokio::sync::mpsc::unbounded_channel();
        let rest = async {
            for _ in 0..clients.len() {
                accepted.push(serving.recv().await.unwrap());
            }
        };
        tokio::select! {
            _ = tunnel::accept::accept(&listener, |stream, _| served.send(stream).unwrap()) => {}
            () = rest => {}
            () = sleep(patience()) => panic!("it does not recover"),
        }
    });
}

/// V17: exactly their window is taken while they do not run, from a sender that would send more.
fn both_take_a_mebibyte_ahead(world: &World) {
    let wide = || {
        let socket = socket();
        set_buffer_size(&socket, 64 << 20);
        socket
    };
    let taken =
        |sender: &Socket| fill(sender, &vec![1; 4 << 20], MAX_WRITE, Duration::from_secs(1));
    let _upstream = peers::listen(RAW);
    let outproxy = world.outproxy(&world.outproxy_config(ALLOWED, ""));
    outproxy.freeze();
    let client = wide();
    client.connect(&SockAddr::vsock(OWN, world.leg.port(1))).unwrap();
    assert_eq!(taken(&client).unwrap() as u64, BUFFER_SIZE);
    drop((client, outproxy));

    let listener = wide();
    listener.bind(&SockAddr::vsock(ANY, world.leg.port(1))).unwrap();
    listener.listen(16).unwrap();
    let inproxy = world.inproxy(&world.inproxy_config(""));
    let client = peers::connect(&world.enclave, RAW);
    let server = accept(&listener);
    inproxy.freeze();
    assert_eq!(taken(&server).unwrap() as u64, BUFFER_SIZE);
    client.shutdown(Shutdown::Both).unwrap();
    assert!(!is_ready(&server, PollFlags::POLLIN, Duration::ZERO));
}
