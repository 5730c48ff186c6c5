//! How connections and the application begin and end.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::app::{PATIENCE, Place};
use crate::client::frame;

const ECHO: &str = r#"{"id":"1","action":"echo","message":"hello"}"#;

/// A limit that no test reaches.
const HOUR: &str = "[limits]\nheader-timeout = '1h'\nbody-timeout = '1h'\nshutdown-grace = '1h'";

#[test]
fn a_silent_client_blocks_nobody_and_is_told_so() {
    let place = Place::with("[limits]\nheader-timeout = '300ms'");
    let _app = place.serve();
    let mut silent: Vec<_> = (0..20).map(|_| place.client()).collect();
    place.client().assert_served();
    for client in &mut silent {
        let refusal = client.refusal();
        assert_eq!(refusal.code, "timed-out");
        assert_eq!(refusal.message, "no request came within `300ms`");
        client.assert_end();
    }
}

#[test]
fn a_slow_header_and_a_slow_body_are_cut_short() {
    let place = Place::with("[limits]\nheader-timeout = '300ms'\nbody-timeout = '400ms'");
    let _app = place.serve();
    for (part, limit) in [(2, "300ms"), (4, "400ms"), (9, "400ms")] {
        let mut client = place.client();
        client.send(&frame(ECHO)[..part]);
        let refusal = client.refusal();
        assert_eq!(refusal.code, "timed-out");
        assert_eq!(refusal.message, format!("the request stopped for `{limit}` before its end"));
        client.assert_end();
    }
}

#[test]
fn a_client_that_was_answered_and_has_no_more_to_ask_is_left_without_a_word() {
    let place = Place::with("[limits]\nheader-timeout = '300ms'");
    let _app = place.serve();
    let mut client = place.client();
    client.assert_served();
    client.assert_end();
}

#[test]
fn a_client_that_half_closes_gets_all_its_answers() {
    let place = Place::with(HOUR);
    let _app = place.serve();
    let mut client = place.client();
    client.send(&frame(ECHO).repeat(1000));
    client.half_close();
    for _ in 0..1000 {
        assert_eq!(client.answer()["result"]["message"], "hello");
    }
    client.assert_end();
}

#[test]
fn a_client_that_leaves_without_its_answer_disturbs_nobody() {
    let place = Place::with(HOUR);
    let app = place.serve();
    for _ in 0..20 {
        place.client().send(&frame(ECHO));
        place.client().send(&frame(ECHO)[..9]);
    }
    place.client().assert_served();
    app.await_line("client lost client=unix");
}

#[test]
fn a_client_that_does_not_read_its_answers_is_cut_off() {
    let place = Place::with("[limits]\nbody-timeout = '300ms'");
    let app = place.serve();
    let message = "x".repeat(60_000);
    let content = format!(r#"{{"id":"1","action":"echo","message":"{message}"}}"#);
    place.client().send_for_ever(&frame(&content));
    app.await_line("client lost client=unix error=the answer was not taken within `300ms`");
    place.client().assert_served();
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    let place = Place::with(&format!("{HOUR}\nmax-connections = 2"));
    let app = place.serve();
    let (mut one, mut two) = (place.client(), place.client());
    one.assert_served();
    two.assert_served();
    let mut third = place.client();
    let refusal = third.refusal();
    assert_eq!((refusal.code.as_str(), refusal.id), ("busy", None));
    assert_eq!(refusal.message, "there are 2 connections already; try again");
    third.assert_end();
    app.await_line("outcome=\"busy\"");
    one.half_close();
    one.assert_end();
    // The place is free once the application has noticed, which nothing shows from outside.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut client = place.client();
        let answer = client.ask(ECHO);
        if answer["error"].is_null() {
            break;
        }
        assert!(Instant::now() < deadline, "{answer}");
    }
    two.assert_served();
}

#[test]
fn sigterm_ends_idle_connections_and_the_application() {
    let place = Place::with(HOUR);
    let mut app = place.serve();
    let (mut idle, mut silent) = (place.client(), place.client());
    idle.assert_served();
    app.signal(Signal::SIGTERM);
    idle.assert_end();
    silent.assert_end();
    assert!(app.wait().success());
    app.await_line("stopped cut_off=0");
    assert!(!place.path("app").exists());
}

#[test]
fn sigterm_lets_a_request_that_has_begun_finish() {
    let place = Place::with(HOUR);
    let mut app = place.serve();
    let mut client = place.client();
    let bytes = frame(ECHO);
    client.send(&bytes[..7]);
    place.client().assert_served();
    app.signal(Signal::SIGTERM);
    app.await_line("shutting down");
    assert!(UnixStream::connect(place.path("app")).is_err(), "it accepts no more");
    client.send(&bytes[7..]);
    assert_eq!(client.answer()["result"]["message"], "hello");
    client.assert_end();
    assert!(app.wait().success());
}

#[test]
fn sigterm_waits_no_longer_than_the_grace_period() {
    let place = Place::with(&HOUR.replace("grace = '1h'", "grace = '200ms'"));
    let mut app = place.serve();
    let mut client = place.client();
    client.send(&frame(ECHO)[..7]);
    place.client().assert_served();
    app.signal(Signal::SIGTERM);
    client.assert_cut_off();
    assert!(app.wait().success());
    app.await_line("stopped cut_off=1");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let place = Place::with(HOUR);
    let mut app = place.serve();
    let mut client = place.client();
    client.send(&frame(ECHO)[..7]);
    place.client().assert_served();
    app.signal(Signal::SIGTERM);
    app.await_line("shutting down open=");
    app.signal(Signal::SIGHUP);
    app.signal(Signal::SIGINT);
    client.assert_cut_off();
    assert!(app.wait().success());
}

#[test]
fn sighup_changes_nothing() {
    let place = Place::with(HOUR);
    let app = place.serve();
    let mut client = place.client();
    client.assert_served();
    app.signal(Signal::SIGHUP);
    app.await_line("it cannot be reloaded");
    client.assert_served();
}

#[test]
fn a_request_is_logged_without_what_is_in_it() {
    let place = Place::with(HOUR);
    let app = place.serve();
    place.client().ask(r#"{"id":"1","action":"echo","message":"between us"}"#);
    let line = app.await_line("request answered");
    assert!(line.contains(r#"client=unix action="echo" outcome="ok" seconds="#), "{line}");
    assert!(!app.logged().contains("between us"));
}

#[test]
fn a_label_cannot_forge_a_line_of_the_log() {
    // Nothing but the module is missing.
    let place = Place::with("[hsm]\nmodule = '/nowhere.so'\n");
    let app = place.serve();
    let label = "x\\\" outcome=\\\"ok\\\" \u{202e}\u{2028}";
    let refusal = place
        .client()
        .ask_in_vain(&format!(r#"{{"id":"1","action":"get-key","label":"{label}"}}"#));
    assert_eq!(refusal.code, "invalid-request", "{}", refusal.message);
    let line = app.await_line("request answered");
    assert!(line.contains(r#"label="x\" outcome=\"ok\" \u{202e}\u{2028}" outcome="#), "{line}");
}

#[test]
fn a_thousand_clients_at_once_are_served() {
    let place = Place::with("[limits]\nmax-connections = 1000\nheader-timeout = '1m'");
    let _app = place.serve();
    let started = Instant::now();
    let mut clients: Vec<_> = (0..1000).map(|_| place.client()).collect();
    for client in &mut clients {
        client.send(&frame(ECHO));
    }
    for client in &mut clients {
        assert_eq!(client.answer()["result"]["message"], "hello");
    }
    assert!(started.elapsed() < Duration::from_secs(20));
}
