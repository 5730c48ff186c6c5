//! The watchdog's food, and the status line.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::config;
use crate::manager::Manager;
use crate::peers::{echo, free_port, open};

const FOOD: &str = "WATCHDOG=1";
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_watchdog_is_fed_in_time() {
    let mut manager = Manager::new();
    manager.configure(&config(&[1], ""));
    let service = manager.start_with(&[("WATCHDOG_USEC", "2000000")]);
    manager.await_line(FOOD);
    let start = Instant::now();
    for _ in 0..3 {
        assert!(manager.hears(FOOD, SECOND));
    }
    assert!(start.elapsed() > SECOND, "it comes too often");

    service.signal(Signal::SIGSTOP);
    manager.hears(FOOD, SECOND);
    assert!(!manager.hears(FOOD, 2 * SECOND));
    service.signal(Signal::SIGCONT);
    manager.await_line(FOOD);
}

#[test]
fn a_loop_that_hangs_starves_the_watchdog() {
    let mut manager = Manager::new();
    manager.configure(&config(&[1], ""));
    let service = manager.start_with(&[("WATCHDOG_USEC", "1000000")]);
    manager.await_line(FOOD);
    // Whoever opens it waits for a writer.
    let path = manager.path("outproxy.toml");
    std::fs::remove_file(&path).unwrap();
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    service.signal(Signal::SIGHUP);
    manager.await_line("RELOADING=1");
    assert!(!manager.hears(FOOD, 2 * SECOND));
    std::fs::write(&path, "nonsense").unwrap();
    manager.await_line(FOOD);
}

#[test]
fn the_watchdog_of_another_process_is_not_fed() {
    let mut manager = Manager::new();
    manager.configure(&config(&[1], ""));
    let environment = [("WATCHDOG_USEC", "300000"), ("WATCHDOG_PID", "1")];
    let _service = manager.start_with(&environment);
    assert!(!manager.hears(FOOD, SECOND));
}

#[test]
fn the_status_line_is_kept_up_to_date() {
    let up = echo();
    let mut manager = Manager::new();
    manager.configure(&config(&[up], ""));
    let service = manager.start();
    manager.await_line("STATUS=0 connections open");
    let tunnel = open(&manager.path("routed"), up).unwrap();
    manager.await_line("STATUS=1 connection open");
    // It is not said again.
    assert!(!manager.hears("STATUS=1 connection open", 2 * SECOND));
    manager.configure("nonsense");
    manager.reload(&service);
    drop(tunnel);
    manager.await_line("STATUS=0 connections open; the last reload failed, see the log");
    manager.configure(&config(&[up], ""));
    manager.reload(&service);
    manager.await_line("STATUS=0 connections open");
}

#[test]
fn the_status_line_counts_destinations_that_are_up() {
    let (up, down) = (echo(), free_port());
    let mut manager = Manager::new();
    manager.configure(&config(&[up, down], "probe = true\n"));
    let _service = manager.start();
    manager.await_line("STATUS=0 connections open; 1 of 2 destinations up");
}

/// Nobody takes what is said.
#[test]
fn a_manager_that_hangs_stops_nobody() {
    let up = echo();
    let mut manager = Manager::new();
    manager.configure(&config(&[up], ""));
    let service = manager.start_with(&[("WATCHDOG_USEC", "3000")]);
    // Until there is no room for more.
    let start = Instant::now();
    while start.elapsed() < SECOND {
        open(&manager.path("routed"), up).unwrap();
    }
    service.signal(Signal::SIGTERM);
    assert!(service.wait().success());
    assert!(start.elapsed() < 15 * SECOND);
}
