//! Bytes and ends arrive as they were sent.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::task::Context;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::patience::scaled;
use tests::peers::{
    accept, assert_reset, bounded, connect, listen, ping, read_exactly, read_to_end, reset,
};
use tests::process::has;
use tests::world::{HSM, HSM2, RAW, World};
use tunnel::listener::Listener;

crate::scenarios![
    a_half_closed_request_gets_its_whole_reply,
    a_reply_that_ended_does_not_end_the_request,
    both_hsms_are_reached_by_their_own_addresses,
    a_reset_by_the_client_reaches_upstream,
    a_reset_in_the_middle_of_a_reply_is_no_end,
    connections_die_with_outproxy,
    connections_die_with_inproxy,
    many_streams_never_mix,
    a_slow_reader_slows_nobody_else,
    to_look_for_a_connection_keeps_nobody_waiting,
];

fn a_half_closed_request_gets_its_whole_reply(world: &World) {
    let tunnel = world.tunnel();
    for address in [HSM, RAW] {
        let upstream = listen(address);
        let mut client = connect(&world.enclave, address);
        client.write_all(b"request").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut upstream = accept(&upstream);
        assert_eq!(read_to_end(&mut upstream), (b"request".to_vec(), None));

        let reply = random(100_000);
        let sending = thread::spawn({
            let reply = reply.clone();
            move || upstream.write_all(&reply).unwrap()
        });
        assert!(read_to_end(&mut client) == (reply, None));
        sending.join().unwrap();
        let is_this = |line: &_| has("destination", &address.to_string())(line);
        for proxy in [&*tunnel.outproxy, &tunnel.inproxy] {
            let line = proxy.line("the connection's end", is_this);
            assert_eq!(line["outcome"], "finished");
            assert_eq!((&line["sent"], &line["received"]), (&7.into(), &100_000.into()));
        }
    }
}

fn a_reply_that_ended_does_not_end_the_request(world: &World) {
    let _tunnel = world.tunnel();
    for address in [HSM, RAW] {
        let upstream = listen(address);
        let mut client = connect(&world.enclave, address);
        let mut upstream = accept(&upstream);
        upstream.write_all(b"greeting").unwrap();
        upstream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut client), (b"greeting".to_vec(), None));

        let request = random(100_000);
        let sending = thread::spawn({
            let request = request.clone();
            move || client.write_all(&request).unwrap()
        });
        assert!(read_to_end(&mut upstream) == (request, None));
        sending.join().unwrap();
    }
}

fn both_hsms_are_reached_by_their_own_addresses(world: &World) {
    let tunnel = world.tunnel();
    let ipv6 = "[fd00:10::103]:2224".parse().unwrap();
    for address in [HSM, HSM2, ipv6] {
        let upstream = listen(address);
        let mut client = connect(&world.enclave, address);
        let mut upstream = accept(&upstream);
        ping(&mut client, &mut upstream);
        drop(client);
        assert_eq!(read_to_end(&mut upstream), (vec![], None));
        drop(upstream);
        let is_this = |line: &_| has("destination", &address.to_string())(line);
        let line = tunnel.outproxy.line("the connection's end", is_this);
        assert_eq!(
            (&line["rule"], &line["sent"], &line["received"]),
            (&"hsm".into(), &1.into(), &1.into())
        );
    }
}

fn a_reset_by_the_client_reaches_upstream(world: &World) {
    let _tunnel = world.tunnel();
    for address in [HSM, RAW] {
        let upstream = listen(address);
        let mut client = connect(&world.enclave, address);
        let mut upstream = accept(&upstream);
        ping(&mut client, &mut upstream);
        reset(client);
        assert_reset(&mut upstream);
    }
}

fn a_reset_in_the_middle_of_a_reply_is_no_end(world: &World) {
    let tunnel = world.tunnel();
    for address in [HSM, RAW] {
        let upstream = listen(address);
        let mut client = connect(&world.enclave, address);
        let mut upstream = accept(&upstream);
        let part = random(50_000);
        ping(&mut client, &mut upstream);
        upstream.write_all(&part).unwrap();
        assert!(read_exactly(&mut client, 50_000) == part);
        reset(upstream);
        assert_reset(&mut client);
        let is_this = |line: &_| has("destination", &address.to_string())(line);
        let line = tunnel.outproxy.line("the connection's end", is_this);
        assert_eq!(
            (&line["outcome"], &line["received"]),
            (&"upstream-aborted".into(), &50_001.into())
        );
    }
}

fn connections_die_with_outproxy(world: &World) {
    let tunnel = world.tunnel();
    let mut connections = some_connections(world);
    tunnel.outproxy.signal(Signal::SIGKILL);
    for (client, upstream) in &mut connections {
        assert_reset(client);
        assert_reset(upstream);
    }
}

fn connections_die_with_inproxy(world: &World) {
    let mut tunnel = world.tunnel();
    let mut connections = some_connections(world);
    tunnel.inproxy.kill();
    for (client, upstream) in &mut connections {
        assert_reset(client);
        assert_reset(upstream);
    }
}

fn some_connections(world: &World) -> Vec<(TcpStream, TcpStream)> {
    [HSM, RAW]
        .iter()
        .flat_map(|address| {
            let upstream = listen(*address);
            (0..5).map(move |_| {
                let mut client = connect(&world.enclave, *address);
                let mut upstream = accept(&upstream);
                ping(&mut client, &mut upstream);
                (client, upstream)
            })
        })
        .collect()
}

/// 50 streams of 1 MiB each way, and beside them 100 clients that close early.
fn many_streams_never_mix(world: &World) {
    let tunnel = world.tunnel();
    let (streams, size) = (50, scaled(1 << 20));
    let upstream = listen(HSM);
    let echoing = thread::spawn(move || {
        let connections: Vec<_> = (0..streams).map(|_| accept(&upstream)).collect();
        let echoes: Vec<_> =
            connections.into_iter().map(|stream| thread::spawn(move || echo(stream))).collect();
        echoes.into_iter().for_each(|echo| echo.join().unwrap());
    });
    let hasty_upstream = listen(HSM2);
    let hasty = thread::spawn(move || {
        for _ in 0..100 {
            // Some have gone before they are accepted.
            let mut stream = accept(&hasty_upstream);
            let _ = stream.write_all(&random(10_000));
        }
    });
    let clients: Vec<_> = (0..streams).map(|_| connect(&world.enclave, HSM)).collect();
    let hasty_clients: Vec<_> = (0..100).map(|_| connect(&world.enclave, HSM2)).collect();
    thread::scope(|scope| {
        for client in clients {
            scope.spawn(move || send_and_compare(&client, &random(size)));
        }
        scope.spawn(|| hasty_clients.into_iter().for_each(drop));
    });
    echoing.join().unwrap();
    hasty.join().unwrap();
    let finished = tunnel.outproxy.lines("the streams' ends", streams, |line| {
        line["destination"] == HSM.to_string() && line["outcome"] == "finished"
    });
    assert!(finished.iter().all(|line| line["sent"] == size && line["received"] == size));
}

fn a_slow_reader_slows_nobody_else(world: &World) {
    let _tunnel = world.tunnel();
    let listener = listen(HSM);
    let slow = connect(&world.enclave, HSM);
    let mut flooded = accept(&listener);
    flooded.set_nonblocking(true).unwrap();
    let block = random(1 << 16);
    let mut written = 0;
    // Until every buffer on the way is full.
    loop {
        match flooded.write(&block) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let fast = connect(&world.enclave, HSM);
                let upstream = accept(&listener);
                let echoing = thread::spawn(move || echo(upstream));
                send_and_compare(&fast, &random(200_000));
                echoing.join().unwrap();
                match flooded.write(&block) {
                    Ok(count) => written += count,
                    Err(_) => break,
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    flooded.shutdown(Shutdown::Write).unwrap();
    let mut read = 0;
    let mut slow = bounded(slow);
    let mut chunk = [0; 1 << 16];
    loop {
        match slow.read(&mut chunk).unwrap() {
            0 => break,
            count => read += count,
        }
    }
    assert_eq!(read, written);
}

/// accept(2) on a vsock whose queue is empty sleeps for half a tick of 4 ms on average, and with it
/// would all tunnels of the thread.
fn to_look_for_a_connection_keeps_nobody_waiting(world: &World) {
    let endpoint = world.leg.listen(5).parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut looks = runtime.block_on(async {
        let listener = Listener::bind(&endpoint).unwrap();
        let mut looks = Vec::new();
        for _ in 0..50 {
            let client = world.leg.dial(5).unwrap();
            listener.accept().await.unwrap();
            let start = Instant::now();
            let mut next = std::pin::pin!(listener.accept());
            assert!(
                next.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending()
            );
            looks.push(start.elapsed());
            drop(client);
        }
        looks
    });
    looks.sort();
    let median = looks[looks.len() / 2];
    assert!(median < Duration::from_millis(1), "{median:?}");
}

fn echo(mut stream: TcpStream) {
    let mut chunk = vec![0; 1 << 16];
    loop {
        match stream.read(&mut chunk).unwrap() {
            0 => return stream.shutdown(Shutdown::Write).unwrap(),
            count => stream.write_all(&chunk[..count]).unwrap(),
        }
    }
}

fn send_and_compare(stream: &TcpStream, bytes: &[u8]) {
    thread::scope(|scope| {
        scope.spawn(|| {
            { stream }.write_all(bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        assert!(read_to_end(&mut &*stream) == (bytes.to_vec(), None), "the echo differs");
    });
}

fn random(count: usize) -> Vec<u8> {
    std::iter::repeat_with(|| fastrand::u8(..)).take(count).collect()
}
