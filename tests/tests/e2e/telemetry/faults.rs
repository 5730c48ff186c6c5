//! Whatever happens meanwhile, lines go on, and what is missing is counted.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::patience::{is_emulated, patience};
use tests::peers::{accept, connect, listen, ping};
use tests::world::{HSM, World};

use super::{Host, run};

crate::scenarios![
    lines_go_on_after_outproxy_was_killed,
    what_is_left_behind_holds_nobody_up,
    an_application_that_floods_waits_for_nobody,
    a_host_that_does_not_read_costs_nothing,
];

/// Every line either comes or is counted as missing, and the newest come.
fn lines_go_on_after_outproxy_was_killed(world: &World) {
    let mut host = Host::start(world);
    let echo = "while read -r from to; do seq \"$from\" \"$to\"; done";
    let mut inproxy = run(world, &["sh", "-c", echo]);
    let mut say = |from: u64, to: u64| {
        writeln!(inproxy.child().stdin.as_mut().unwrap(), "{from} {to}").unwrap();
    };
    say(1, 10);
    host.line("the tenth", |line| line.text == "10");
    host.await_enclave("its lines", |enclave| enclave.lines.told >= 10);
    host.outproxy.kill();
    let last = if is_emulated() { 3000 } else { 20_000 };
    say(11, last);
    host.restart();
    host.line("the last", |line| line.text == last.to_string());
    let is_stdout =
        |line: &&str| line.starts_with("inproxy_lines_total") && line.contains("stdout");
    let metrics = host.metrics();
    let told = metrics.lines().find(is_stdout).unwrap().rsplit_once(' ').unwrap().1;
    let told: u64 = told.parse().unwrap();
    let dropped = host.enclave().lines.dropped;
    // inproxy's own lines are among those that are dropped, and some may be told twice.
    assert!(dropped > 0 && told + dropped >= last - 10, "{told}, {dropped}");
    assert!(told + dropped <= last + 10, "{told}, {dropped}");
    let lines = host.lines(&[]);
    let first = lines.iter().position(|line| line.missing == Some(dropped));
    assert!(first.is_some() || lines.len() >= 1000, "it is told");
}

/// A grandchild keeps the application's output open, and writes to it.
fn what_is_left_behind_holds_nobody_up(world: &World) {
    let host = Host::start(world);
    for (grandchild, limit) in [("sleep 60", 1), ("yes", 3)] {
        let script = format!("{grandchild} & echo $!; echo 'the end of {grandchild}' >&2; exit 3");
        let started = Instant::now();
        let mut inproxy = run(world, &["sh", "-c", &script]);
        assert_eq!(inproxy.wait().code(), Some(3));
        let limit = Duration::from_secs(if is_emulated() { 20 } else { limit });
        assert!(started.elapsed() < limit, "{grandchild}: {:?}", started.elapsed());
        // What floods pushes out no words of another source.
        host.line("the end", |line| line.text == format!("the end of {grandchild}"));
    }
}

/// Nobody reads our own output, and the host gets a part; but the application goes on as fast as it
/// can, the tunnels carry, and memory stays.
fn an_application_that_floods_waits_for_nobody(world: &World) {
    let host = Host::start(world);
    // Where `yes` is killed in the middle of a line, the last words would stand behind that.
    let script = format!(
        "read -r go; yes '{}' & read -r go; kill $!; wait $!; echo; echo last words; read -r go",
        "x".repeat(99)
    );
    let mut inproxy = run(world, &["sh", "-c", &script]);
    let upstream = listen(HSM);
    let mut client = connect(&world.enclave, HSM);
    let mut served = accept(&upstream);
    ping(&mut client, &mut served);
    let before = [inproxy.memory(), host.outproxy.memory()];
    let mut say = || writeln!(inproxy.child().stdin.as_mut().unwrap(), "go").unwrap();
    say();
    // Lines of 100 bytes: far more than all that could hold them.
    let wanted = if is_emulated() { 100_000 } else { 2_000_000 };
    let (mut dropped, mut deadline) = (0, Instant::now() + patience());
    let (mut pings, mut longest) = (0, Duration::ZERO);
    while dropped < wanted {
        for _ in 0..10 {
            let start = Instant::now();
            ping(&mut client, &mut served);
            (pings, longest) = (pings + 1, longest.max(start.elapsed()));
        }
        // How fast that is depends on what else the machine does. Whoever waits does not go on.
        let now = host.enclave().lines.dropped;
        if now > dropped {
            (dropped, deadline) = (now, Instant::now() + patience());
        }
        assert!(Instant::now() < deadline, "it waits for somebody after {dropped} lines");
    }
    crate::say(&format!("{pings} pings meanwhile, the longest took {longest:?}"));
    say();
    host.line("the last words", |line| line.text == "last words");
    let after = [inproxy.memory(), host.outproxy.memory()];
    for (name, (before, after)) in ["inproxy", "outproxy"].iter().zip(before.iter().zip(after)) {
        let grown = after.saturating_sub(*before);
        assert!(grown < 4 << 20, "{name} has grown by {grown} bytes");
    }
    drop(inproxy.child().stdin.take());
    assert_eq!(inproxy.wait().code(), Some(1));
}

/// outproxy is there, and does nothing.
fn a_host_that_does_not_read_costs_nothing(world: &World) {
    let host = Host::start(world);
    let echo = "while read -r from to; do seq \"$from\" \"$to\"; echo done >&2; done";
    let mut inproxy = run(world, &["sh", "-c", echo]);
    host.await_enclave("its first words", |enclave| enclave.connected);
    host.outproxy.freeze();
    let mut stdout = inproxy.child().stdout.take().unwrap();
    thread::spawn(move || while stdout.read(&mut [0; 65536]).is_ok_and(|count| count > 0) {});
    let before = inproxy.memory();
    let last = if is_emulated() { 20_000 } else { 500_000 };
    writeln!(inproxy.child().stdin.as_mut().unwrap(), "1 {last}").unwrap();
    inproxy.line("its end", |line| line == "done");
    let grown = inproxy.memory().saturating_sub(before);
    assert!(grown < 4 << 20, "inproxy has grown by {grown} bytes");
    host.outproxy.signal(Signal::SIGCONT);
    host.line("the last line", |line| line.text == last.to_string());
    // At the end nobody waits for it.
    host.outproxy.freeze();
    drop(inproxy.child().stdin.take());
    let started = Instant::now();
    assert_eq!(inproxy.wait().code(), Some(0));
    let limit = Duration::from_secs(if is_emulated() { 60 } else { 5 });
    assert!(started.elapsed() < limit, "{:?}", started.elapsed());
    host.outproxy.signal(Signal::SIGCONT);
}
