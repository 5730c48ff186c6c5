//! Everything is bounded, and what is refused costs nobody else anything.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use tests::patience::{is_emulated, patience, scaled};
use tests::peers::{
    accept, assert_connect_resets, assert_reset, bounded, connect, connections, is_readable_within,
    listen, ping, raise_descriptor_limit, read_exactly, read_to_end, reset,
};
use tests::process::{Process, has};
use tests::proxies::Outproxy;
use tests::world::{ALLOWED, HSM, HSM2, RAW, Tunnel, World};

use crate::say;

crate::scenarios![
    idle_connections_block_nobody,
    four_thousand_connections_at_once,
    one_connection_too_many_is_refused_with_a_reason,
    a_rule_bounds_its_own_connections,
    outproxy_without_descriptors_waits_and_recovers,
    a_client_that_says_nothing_is_sent_away,
    an_idle_connection_ends_in_a_reset,
    a_half_closed_connection_ends_in_a_reset,
    an_idle_tunnel_takes_little_memory,
    after_quiet_everything_is_given_back,
    whoever_rests_does_so_without_a_time_limit,
];

fn idle_connections_block_nobody(world: &World) {
    let _tunnel = world.tunnel();
    raise_descriptor_limit();
    for address in [HSM, RAW] {
        let listener = listen(address);
        let mut idle = connections(&world.enclave, address, &listener, 4);
        ping(&mut connect(&world.enclave, address), &mut accept(&listener));
        idle.extend(connections(&world.enclave, address, &listener, scaled(2000) - 4));
        ping(&mut connect(&world.enclave, address), &mut accept(&listener));
    }
}

fn four_thousand_connections_at_once(world: &World) {
    let count = scaled(4096);
    let _tunnel = world.tunnel_with("max-connections = 4096", "max-connections = 4096");
    raise_descriptor_limit();
    let listener = listen(HSM);
    let mut all = connections(&world.enclave, HSM, &listener, count);
    assert_eq!(all.len(), count);
    for (client, upstream) in &mut all {
        ping(client, upstream);
    }
}

fn one_connection_too_many_is_refused_with_a_reason(world: &World) {
    let tunnel = world.tunnel_with("max-connections = 3", "max-connections = 4");
    let listener = listen(HSM);
    let mut open = connections(&world.enclave, HSM, &listener, 3);
    assert_connect_resets(&world.enclave, HSM);
    let line = tunnel.outproxy.line("the refusal", has("outcome", "limit"));
    assert_eq!(line["reason"], "all of `max-connections` are open");
    let line = tunnel.inproxy.line("the refusal", has("outcome", "refused"));
    assert!(line["reason"].as_str().unwrap().contains("connection_limit_reached"), "{line}");

    // There is a place again as soon as one has ended.
    let (mut client, mut upstream) = open.remove(0);
    ping(&mut client, &mut upstream);
    drop((client, upstream));
    tunnel.outproxy.line("the connection's end", has("outcome", "finished"));
    ping(&mut connect(&world.enclave, HSM), &mut accept(&listener));
}

fn a_rule_bounds_its_own_connections(world: &World) {
    let config = world.outproxy_config(ALLOWED, "");
    let config = config.replace("2225]\n", "2225]\nmax-connections = 1\n");
    let outproxy = world.outproxy(&config);
    let _inproxy = world.inproxy(&world.inproxy_config(""));
    let listener = listen(HSM);
    let _first = connections(&world.enclave, HSM, &listener, 1);
    assert_connect_resets(&world.enclave, HSM);
    let line = outproxy.line("the refusal", has("outcome", "limit"));
    assert!(line["reason"].as_str().unwrap().contains("`hsm`"), "{line}");
    // Another rule's are its own.
    let raw = listen(RAW);
    ping(&mut connect(&world.enclave, RAW), &mut accept(&raw));
}

fn outproxy_without_descriptors_waits_and_recovers(world: &World) {
    let config = world.outproxy_config(ALLOWED, "");
    let few = ["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""];
    let outproxy = Outproxy::start(world.directory(), &config, &few);
    let _inproxy = world.inproxy(&world.inproxy_config(""));
    let before = outproxy.descriptors();
    let listener = listen(HSM);
    // Whoever gets no descriptor is reset, perhaps before it knows that it is connected.
    let connect = |_| world.enclave.run(|| TcpStream::connect(HSM)).ok();
    let clients: Vec<_> = (0..100).filter_map(connect).collect();
    outproxy.line("a failed accept", |line| {
        line["error"].as_str().is_some_and(|error| error.contains("os error 24"))
    });

    let ticks = outproxy.ticks();
    // Nobody says anything here: it is but a wait.
    let (silent, _peer) = UnixStream::pair().unwrap();
    let seconds = if is_emulated() { 5 } else { 1 };
    assert!(!is_readable_within(&silent, Duration::from_secs(seconds)));
    let used = outproxy.ticks() - ticks;
    let most = 20 * seconds;
    assert!(used <= most, "it used {used} of {} ticks while nothing was to do", 100 * seconds);

    clients.into_iter().for_each(reset);
    drop(listener);
    await_descriptors(&outproxy, before);
    let upstream = listen(HSM2);
    thread::spawn(move || {
        for stream in upstream.incoming() {
            // Whoever resets it has got no descriptor yet.
            let _ = stream.unwrap().write_all(b"<");
        }
    });
    let is_served = || {
        world.enclave.run(|| {
            let stream = TcpStream::connect(HSM2);
            stream.is_ok_and(|stream| bounded(stream).read_exact(&mut [0]).is_ok())
        })
    };
    let deadline = Instant::now() + patience();
    while !is_served() {
        assert!(Instant::now() < deadline, "it does not recover");
    }
    assert!((0..20).all(|_| is_served()));
}

fn a_client_that_says_nothing_is_sent_away(world: &World) {
    let outproxy = world.outproxy(&world.outproxy_config(ALLOWED, "header-timeout = '100ms'"));
    let mut silent = world.leg.dial(0).unwrap();
    let mut slow = world.leg.dial(0).unwrap();
    slow.write_all(b"CONNECT 10.0.10.103:2223 HTTP/1.1\r\n").unwrap();
    for socket in [&mut silent, &mut slow] {
        let (answer, _) = read_to_end(socket);
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    outproxy.lines("the refusals", 2, has("outcome", "silent"));
}

fn an_idle_connection_ends_in_a_reset(world: &World) {
    let tunnel = world.tunnel_with("idle-timeout = '200ms'", "");
    let listener = listen(HSM);
    let [(mut client, mut upstream)] =
        connections(&world.enclave, HSM, &listener, 1).try_into().unwrap();
    assert_reset(&mut client);
    assert_reset(&mut upstream);
    tunnel.outproxy.line("its end", has("outcome", "idle-timeout"));
}

fn a_half_closed_connection_ends_in_a_reset(world: &World) {
    let tunnel = world.tunnel_with("", "half-close-timeout = '200ms'");
    let listener = listen(HSM);
    let [(mut client, mut upstream)] =
        connections(&world.enclave, HSM, &listener, 1).try_into().unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut upstream), (vec![], None));
    assert_reset(&mut client);
    tunnel.inproxy.line("its end", has("outcome", "half-close-timeout"));
    // Upstream has half a connection left, and learns what became of the other as it writes.
    while upstream.write_all(b"more").is_ok() {}
}

fn an_idle_tunnel_takes_little_memory(world: &World) {
    let tunnel = world.tunnel();
    raise_descriptor_limit();
    // Not fewer anywhere: memory is counted in pages.
    let step = 1000;
    let listener = listen(HSM);
    // No warming up with as many: the allocator would keep what it got and hide what they take.
    let mut open = connections(&world.enclave, HSM, &listener, step);
    let before = memory(&tunnel);
    open.extend(connections(&world.enclave, HSM, &listener, step));
    let after = memory(&tunnel);
    for (name, (before, after)) in ["outproxy", "inproxy"].iter().zip(before.into_iter().zip(after))
    {
        let each = after.saturating_sub(before) / step as u64;
        let text = format!("an idle tunnel takes {each} bytes of {name}");
        assert!(each <= 4096, "{text}");
        say(&text);
    }
}

fn after_quiet_everything_is_given_back(world: &World) {
    let tunnel = world.tunnel();
    raise_descriptor_limit();
    let listener = listen(HSM);
    let proxies: [&Process; 2] = [&tunnel.outproxy, &tunnel.inproxy];
    let before = proxies.map(Process::descriptors);
    let count = scaled(2000);
    let burst = |earlier| {
        let mut open = connections(&world.enclave, HSM, &listener, count);
        for (client, upstream) in &mut open {
            client.write_all(&[7; 10_000]).unwrap();
            read_exactly(upstream, 10_000);
        }
        drop(open);
        for proxy in proxies {
            proxy.await_ends(earlier + count);
            let account = proxy.account();
            assert_eq!(account.of("finished"), account.total(), "{account:?}");
        }
        for (proxy, before) in proxies.iter().zip(before) {
            await_descriptors(proxy, before);
        }
        memory(&tunnel)
    };
    // What is allocated once is there after the first.
    let after_one = burst(0);
    let after_two = burst(count);
    let after_three = burst(2 * count);
    for ((one, two), three) in after_one.into_iter().zip(after_two).zip(after_three) {
        let grown = three.saturating_sub(one.max(two));
        // Less than idle tunnels would take, had they been forgotten.
        let most = 2048 * count as u64;
        assert!(grown <= most, "{grown} bytes are kept of a burst; {one}, {two}, {three}");
    }
}

/// The kernel would arm a timer, and disarm it, for every message.
fn whoever_rests_does_so_without_a_time_limit(world: &World) {
    let tunnel = world.tunnel();
    let listener = listen(HSM);
    let mut client = connect(&world.enclave, HSM);
    let mut upstream = accept(&listener);
    // Time-outs are pending, and the telemetry's own timers.
    ping(&mut client, &mut upstream);
    let proxies: [&Process; 2] = [&tunnel.outproxy, &tunnel.inproxy];
    for proxy in proxies {
        await_eventually(|| match proxy.limit_of_its_rest() {
            Some(-1) => Ok(()),
            limit => Err(format!("it rests for {limit:?}")),
        });
    }
}

fn memory(tunnel: &Tunnel) -> [u64; 2] {
    [tunnel.outproxy.memory(), tunnel.inproxy.memory()]
}

/// What was logged as ended is closed a moment later; no event tells of that.
fn await_descriptors(process: &Process, count: usize) {
    await_eventually(|| match process.descriptors() {
        open if open > count => Err(format!("{open} of {count} descriptors")),
        _ => Ok(()),
    });
}

/// For what happens soon, and no event tells of.
fn await_eventually(happened: impl Fn() -> Result<(), String>) {
    let deadline = Instant::now() + patience();
    while let Err(state) = happened() {
        assert!(Instant::now() < deadline, "{state}");
        thread::yield_now();
    }
}
