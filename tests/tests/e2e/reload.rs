//! What the operator changes while connections are open.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use tests::patience::scaled;
use tests::peers::{
    accept, assert_connect_resets, assert_reset, connect, listen, ping, read_to_end,
};
use tests::process::has;
use tests::proxies::Outproxy;
use tests::world::{ALLOWED, HSM, HSM2, World};

crate::scenarios![
    one_more_hsm_is_one_more_line_and_a_reload,
    a_removed_hsm_loses_its_connections_and_no_other_does,
    a_rule_that_was_renamed_keeps_its_connections,
    a_hundred_reloads_under_load_lose_nothing,
    a_bad_file_changes_nothing_and_is_logged_with_its_line,
    outproxy_drains,
    inproxy_drains,
    a_second_signal_does_not_wait,
    connections_end_with_the_grace_period,
];

fn one_more_hsm_is_one_more_line_and_a_reload(world: &World) {
    let outproxy = world.outproxy(&world.outproxy_config("'10.0.10.103'", ""));
    let _inproxy = world.inproxy(&world.inproxy_config(""));
    let (mut old, mut old_upstream) = open(world, HSM);
    assert_connect_resets(&world.enclave, HSM2);

    outproxy.reload(&world.outproxy_config("'10.0.10.103',\n'10.0.11.27'", ""));
    let _new = open(world, HSM2);
    ping(&mut old, &mut old_upstream);
}

fn a_removed_hsm_loses_its_connections_and_no_other_does(world: &World) {
    let tunnel = world.tunnel();
    let (mut kept, mut kept_upstream) = open(world, HSM);
    let (mut lost, mut lost_upstream) = open(world, HSM2);
    tunnel.outproxy.reload(&world.outproxy_config("'10.0.10.103'", ""));
    assert_reset(&mut lost);
    assert_reset(&mut lost_upstream);
    ping(&mut kept, &mut kept_upstream);
    let line = tunnel.outproxy.line("its end", has("outcome", "disallowed"));
    assert_eq!(line["destination"], HSM2.to_string());
    tunnel
        .outproxy
        .line("the reload", |line| line["message"] == "reloaded" && line["disallowed"] == 1);
}

fn a_rule_that_was_renamed_keeps_its_connections(world: &World) {
    let tunnel = world.tunnel();
    let (mut client, mut upstream) = open(world, HSM);
    let config = world.outproxy_config(ALLOWED, "").replace("'hsm'", "'hardware'");
    tunnel.outproxy.reload(&config);
    ping(&mut client, &mut upstream);
}

fn a_hundred_reloads_under_load_lose_nothing(world: &World) {
    let tunnel = world.tunnel();
    let listener = listen(HSM);
    let mut kept: Vec<_> = (0..8).map(|_| open_at(world, HSM, &listener)).collect();
    let over = AtomicBool::new(false);
    let reloads = scaled(100);
    let connections = thread::scope(|scope| {
        for (client, upstream) in &mut kept {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    ping(client, upstream);
                }
            });
        }
        let connecting = scope.spawn(|| {
            let mut connections = 0;
            while !over.load(Ordering::Relaxed) {
                drop(open_at(world, HSM, &listener));
                connections += 1;
            }
            connections
        });
        // However it ends, the others must end too.
        let over = OnDrop(&over);
        reload_often(world, &tunnel.outproxy, reloads);
        drop(over);
        connecting.join().unwrap()
    });
    for (client, upstream) in &mut kept {
        ping(client, upstream);
    }
    assert!(connections > 0);
    let lost =
        |line: &serde_json::Value| !line["outcome"].is_null() && line["outcome"] != "finished";
    assert!(!tunnel.outproxy.logged().iter().any(lost), "a connection was lost");
}

/// Good, bad and half-written files in turn. The good ones all allow [`HSM`].
fn reload_often(world: &World, outproxy: &Outproxy, reloads: usize) {
    let good = world.outproxy_config(ALLOWED, "");
    let half = &good[..good.find("'hsm'").unwrap() + 2];
    for reload in 0..reloads {
        match reload % 4 {
            0 => outproxy.reload(&world.outproxy_config("'10.0.10.103'", "")),
            1 => outproxy.reload(&good.replace("ports", "prots")),
            2 => outproxy.reload(half),
            _ => outproxy.reload(&good),
        }
    }
    let failed = has("message", "failed to reload; everything stays as it was");
    outproxy.lines("the failures", reloads / 2, failed);
}

fn a_bad_file_changes_nothing_and_is_logged_with_its_line(world: &World) {
    let tunnel = world.tunnel();
    let (mut client, mut upstream) = open(world, HSM2);
    let config = world.outproxy_config("'10.0.10.103', 10", "");
    tunnel.outproxy.reload(&config);
    let line = tunnel.outproxy.line("the failure", has("level", "ERROR"));
    let error = line["error"].as_str().unwrap();
    let number = 1 + config.lines().position(|line| line.contains(", 10]")).unwrap();
    assert!(error.contains(&format!("\nline {number}, column 25\n")), "{error}");
    assert!(error.contains("outproxy.toml"), "{error}");
    ping(&mut client, &mut upstream);
    let _new = open(world, HSM2);
}

fn outproxy_drains(world: &World) {
    let mut tunnel = world.tunnel();
    let (mut client, mut upstream) = open(world, HSM);
    tunnel.outproxy.signal(Signal::SIGTERM);
    tunnel.outproxy.await_state("STOPPING=1");
    tunnel.outproxy.line("the drain", has("message", "shutting down"));
    ping(&mut client, &mut upstream);
    assert_connect_resets(&world.enclave, HSM);
    drop(client);
    assert_eq!(read_to_end(&mut upstream), (vec![], None));
    drop(upstream);
    assert_eq!(tunnel.outproxy.wait().code(), Some(0));
}

fn inproxy_drains(world: &World) {
    let _outproxy = world.outproxy(&world.outproxy_config(ALLOWED, ""));
    let config = world.inproxy_config("");
    let mut inproxy = tests::proxies::run_inproxy(&world.enclave, world.directory(), &config, &[]);
    inproxy.line("its start", has("message", "ready"));
    let (mut client, mut upstream) = open(world, HSM);
    inproxy.signal(Signal::SIGTERM);
    inproxy.line("the drain", has("message", "shutting down"));
    ping(&mut client, &mut upstream);
    world.enclave.run(|| TcpStream::connect(HSM).unwrap_err());
    drop(client);
    drop(upstream);
    assert_eq!(inproxy.wait().code(), Some(0));
}

fn a_second_signal_does_not_wait(world: &World) {
    let mut tunnel = world.tunnel();
    let (mut client, mut upstream) = open(world, HSM);
    tunnel.outproxy.signal(Signal::SIGTERM);
    tunnel.outproxy.await_state("STOPPING=1");
    tunnel.outproxy.signal(Signal::SIGTERM);
    assert_reset(&mut client);
    assert_reset(&mut upstream);
    assert_eq!(tunnel.outproxy.wait().code(), Some(0));
}

fn connections_end_with_the_grace_period(world: &World) {
    let mut tunnel = world.tunnel_with("shutdown-grace = '100ms'", "");
    let (mut client, mut upstream) = open(world, HSM);
    tunnel.outproxy.signal(Signal::SIGTERM);
    assert_reset(&mut client);
    assert_reset(&mut upstream);
    tunnel.outproxy.line("its end", has("outcome", "shutdown"));
    assert_eq!(tunnel.outproxy.wait().code(), Some(0));
}

fn open(world: &World, address: SocketAddr) -> (TcpStream, TcpStream) {
    open_at(world, address, &listen(address))
}

fn open_at(world: &World, address: SocketAddr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let mut client = connect(&world.enclave, address);
    let mut upstream = accept(listener);
    ping(&mut client, &mut upstream);
    (client, upstream)
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
