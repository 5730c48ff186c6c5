//! What clients say in requests does not hurt whoever reads the log.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::app::Place;
use crate::client::frame;

#[test]
fn hostile_requests_make_short_lines_of_visible_characters() {
    for format in ["text", "json"] {
        let place = Place::with(&format!("[log]\nformat = '{format}'\n"));
        let mut app = if format == "json" { place.serve_json() } else { place.serve() };
        let mut client = place.client();
        for nasty in NASTY {
            for request in [
                json!({ "id": nasty, "action": "create-key", "label": nasty }),
                json!({ "id": "1", "action": nasty }),
                json!({ "id": "1", "action": "delete-key", "label": nasty.repeat(100) }),
                json!({ (*nasty): nasty, "action": "echo", "message": nasty }),
            ] {
                client.send(&frame(&request.to_string()));
                client.answer();
            }
            // What is no JSON at all.
            client.send(&frame(nasty));
            client.answer();
        }
        app.signal(Signal::SIGTERM);
        assert!(app.wait().success());
        let logged = app.logged();
        assert!(logged.lines().count() > NASTY.len(), "{logged}");
        for line in logged.lines() {
            assert!(line.len() < 1500, "{} bytes: {line}", line.len());
            assert!(line.chars().all(|char| matches!(char, ' '..='~' | '…')), "{line:?}");
            if format == "json" {
                serde_json::from_str::<Value>(line).unwrap();
            } else {
                // As if somebody else had said it.
                assert!(line.starts_with("20") && line.matches("Z  INFO ").count() <= 1, "{line}");
            }
        }
    }
}

const NASTY: &[&str] = &[
    "\u{1b}[2J\u{1b}]0;owned\u{7}",
    "a\n2026-01-01T00:00:00.000000Z ERROR the HSM refuses the login",
    "\r\u{8}\u{8}\u{7f}\0",
    "\u{9b}31m\u{85}\u{2028}",
    "\u{202e}txet desrever\u{200b}\u{feff}\u{e0041}",
    "\" outcome=\"ok\" label=\"",
];
