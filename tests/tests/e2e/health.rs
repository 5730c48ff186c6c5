//! The application is not kept waiting for an HSM that is known to be down.

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tests::patience::is_emulated;
use tests::peers::{accept, assert_connect_resets, connect, listen, ping};
use tests::process::has;
use tests::world::{HSM, HSM2, RAW, World};

crate::scenarios![an_hsm_that_is_down_is_reset_within_milliseconds, probes_look_like_no_attack,];

fn an_hsm_that_is_down_is_reset_within_milliseconds(world: &World) {
    let holes = [HSM, RAW].map(black_hole);
    let well = listen(HSM2);
    let config = world.outproxy_config("'10.0.10.103', '10.0.11.27'", "connect-timeout = '2s'");
    let outproxy = world.outproxy(&config.replace("probe = false\n", ""));
    let inproxy = world.inproxy(&world.inproxy_config(""));
    for address in [HSM, RAW] {
        outproxy.line("that it is down", |line| {
            line["message"] == "destination down" && line["destination"] == address.to_string()
        });
        let quickest = (0..5).map(|_| time_to_reset(world, address)).min().unwrap();
        let most = Duration::from_millis(if is_emulated() { 1000 } else { 50 });
        assert!(quickest < most, "{address}: {quickest:?}");
    }
    let line = outproxy.line("the refusal", has("outcome", "down"));
    assert_eq!((&line["destination"], &line["rule"]), (&HSM.to_string().into(), &"hsm".into()));
    let line = inproxy.line("the refusal", has("outcome", "refused"));
    let reason = line["reason"].as_str().unwrap();
    assert!(reason.contains("destination_unavailable") && reason.contains("is down"), "{line}");
    // The other one is as quick as ever.
    let mut upstream = accept(&well);
    assert_eq!(std::io::Read::read(&mut upstream, &mut [0]).unwrap(), 0);
    ping(&mut connect(&world.enclave, HSM2), &mut accept(&well));

    drop(holes);
    let back = [HSM, RAW].map(listen);
    for (address, listener) in [HSM, RAW].into_iter().zip(&back) {
        outproxy.line("that it is up", |line| {
            line["message"] == "destination up" && line["destination"] == address.to_string()
        });
        // It may have been probed meanwhile.
        let mut client = connect(&world.enclave, address);
        serve_first_who_speaks(listener, &mut client);
    }
}

/// TLS servers count a handshake that ends in an RST as one that was attacked.
fn probes_look_like_no_attack(world: &World) {
    let listener = listen(HSM);
    let probed = thread::spawn(move || {
        (0..2).for_each(|_| {
            let mut stream = accept(&listener);
            // It has something to say first, even.
            std::io::Write::write_all(&mut stream, b"220 ready\r\n").unwrap();
            assert_eq!(std::io::Read::read(&mut stream, &mut [0]).unwrap(), 0);
        });
    });
    let _outproxy = world.outproxy(&world.outproxy_config("'10.0.10.103'", ""));
    probed.join().unwrap();
}

fn time_to_reset(world: &World, address: SocketAddr) -> Duration {
    let started = Instant::now();
    assert_connect_resets(&world.enclave, address);
    started.elapsed()
}

fn serve_first_who_speaks(listener: &TcpListener, client: &mut std::net::TcpStream) {
    use std::io::{Read, Write};

    client.write_all(b">").unwrap();
    loop {
        let mut upstream = accept(listener);
        if upstream.read(&mut [0]).unwrap() == 1 {
            upstream.write_all(b"<").unwrap();
            break;
        }
    }
    assert_eq!(client.read(&mut [0]).unwrap(), 1);
}

/// A listener that accepts nobody, and whose queue is full: what connects is not answered.
fn black_hole(address: SocketAddr) -> [Socket; 2] {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let (listener, filler) = (socket(), socket());
    listener.set_reuse_address(true).unwrap();
    listener.bind(&address.into()).unwrap();
    listener.listen(0).unwrap();
    filler.connect(&address.into()).unwrap();
    [listener, filler]
}
