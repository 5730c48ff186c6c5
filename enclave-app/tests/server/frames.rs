//! What is no request, and what becomes of those that follow it.

use crate::app::Place;
use crate::client::{Client, frame};

const ECHO: &str = r#"{"id":"1","action":"echo","message":"hello"}"#;

#[test]
fn a_request_is_answered_with_its_id() {
    let place = Place::with("");
    let _app = place.serve();
    let mut answer = place.client().ask(ECHO);
    assert!(answer["duration-ms"].take().is_u64());
    assert_eq!(
        answer.to_string(),
        r#"{"action":"echo","duration-ms":null,"id":"1","result":{"message":"hello"}}"#
    );
}

#[test]
fn a_frame_without_content_gets_an_answer_and_an_end() {
    let place = Place::with("");
    let _app = place.serve();
    let mut client = place.client();
    client.send(&[0; 4]);
    let refusal = client.refusal();
    assert_eq!((refusal.code.as_str(), refusal.id), ("invalid-request", None));
    assert_eq!(refusal.message, "the frame is empty");
    client.assert_end();
    place.client().assert_served();
}

#[test]
fn a_frame_of_four_gigabytes_gets_an_answer_and_an_end() {
    let place = Place::with("");
    let app = place.serve();
    let before = app.memory();
    for length in [u32::MAX, 1 << 31, 65_537] {
        let mut client = place.client();
        client.send(&length.to_le_bytes());
        client.send(b"{\"id\":");
        let refusal = client.refusal();
        assert_eq!(refusal.code, "too-large");
        assert_eq!(
            refusal.message,
            format!("the frame has {length} bytes; at most 65536 are allowed")
        );
        client.half_close();
        client.assert_end();
    }
    assert!(app.memory() < before + (1 << 20), "{} after {before}", app.memory());
    place.client().assert_served();
}

#[test]
fn the_largest_frame_is_taken() {
    let place = Place::with("");
    let _app = place.serve();
    let content = format!("{ECHO}{}", " ".repeat(65_536 - ECHO.len()));
    assert_eq!(place.client().ask(&content)["result"]["message"], "hello");
}

#[test]
fn an_answer_that_is_too_large_says_so() {
    let place = Place::with("");
    let _app = place.serve();
    let overhead = r#"{"id":"1","action":"echo","message":""}"#.len();
    let message = "x".repeat(65_536 - overhead);
    let mut client = place.client();
    let content = format!(r#"{{"id":"1","action":"echo","message":"{message}"}}"#);
    assert_eq!(client.ask_in_vain(&content).code, "too-large");
    client.assert_served();
}

#[test]
fn a_truncated_frame_gets_an_answer_and_an_end() {
    let place = Place::with("");
    let _app = place.serve();
    for cut in [1, 3, 4, 5, 20] {
        let mut client = place.client();
        client.send(&frame(ECHO)[..cut]);
        client.half_close();
        let refusal = client.refusal();
        assert_eq!(refusal.code, "invalid-request", "{cut}");
        assert_eq!(refusal.message, "the connection ended in the midst of a frame");
        client.assert_end();
    }
    place.client().assert_served();
}

#[test]
fn a_request_may_be_split_at_any_byte() {
    let place = Place::with("");
    let _app = place.serve();
    let bytes = frame(ECHO);
    let (mut client, mut other) = (place.client(), place.client());
    for split in 1..bytes.len() {
        client.send(&bytes[..split]);
        // Once another client has its answer, the first part was read.
        other.assert_served();
        client.send(&bytes[split..]);
        assert_eq!(client.answer()["result"]["message"], "hello", "{split}");
    }
    for byte in bytes {
        client.send(&[byte]);
        other.assert_served();
    }
    assert_eq!(client.answer()["result"]["message"], "hello");
}

#[test]
fn content_that_is_no_request_gets_an_answer_and_the_connection_goes_on() {
    let place = Place::with("");
    let _app = place.serve();
    let mut client = place.client();
    let deep = "[".repeat(60_000);
    let deep_member =
        format!(r#"{{"id":"1","action":"echo","message":{}}}"#, "{\"a\":".repeat(9_000));
    for (content, code) in [
        ("\0", "invalid-request"),
        ("nonsense", "invalid-request"),
        ("{}", "invalid-request"),
        ("null", "invalid-request"),
        (&deep, "invalid-request"),
        (&deep_member, "invalid-request"),
        (&format!("{ECHO}{{}}"), "invalid-request"),
        (&format!("{ECHO}x"), "invalid-request"),
        (r#"{"id":"1","action":"no-such"}"#, "unknown-action"),
        (r#"{"id":"1","action":"get-key","label":"a\u0007b"}"#, "invalid-request"),
        (r#"{"id":"1","action":"get-key","label":"a\nb"}"#, "invalid-request"),
        (r#"{"id":"1","action":"get-key","label":""}"#, "invalid-request"),
        (r#"{"id":"1","action":"get-key"}"#, "invalid-request"),
        (r#"{"id":"1","action":"random","bytes":2000}"#, "invalid-request"),
        (r#"{"id":"1","id":"2","action":"list-keys"}"#, "invalid-request"),
    ] {
        let refusal = client.ask_in_vain(content);
        let shown = &content[..content.len().min(60)];
        assert_eq!(refusal.code, code, "{shown}: {}", refusal.message);
        assert!(refusal.message.len() < 400, "{shown}: {}", refusal.message);
        client.assert_served();
    }
}

#[test]
fn an_error_names_the_request_that_it_answers() {
    let place = Place::with("");
    let _app = place.serve();
    let refusal = place.client().ask_in_vain(r#"{"id":"seven","action":"no-such"}"#);
    assert_eq!(refusal.id.as_deref(), Some("seven"));
    assert!(refusal.message.starts_with("there is no action `no-such`"), "{}", refusal.message);
}

#[test]
fn bytes_behind_a_frame_are_the_next_one() {
    let place = Place::with("");
    let _app = place.serve();
    let mut client = place.client();
    client.send(&[frame(ECHO), frame("nonsense"), frame(ECHO)].concat());
    assert_eq!(client.answer()["result"]["message"], "hello");
    assert_eq!(client.refusal().code, "invalid-request");
    assert_eq!(client.answer()["result"]["message"], "hello");
}

#[test]
fn a_thousand_bad_frames_leave_nothing_behind() {
    let place = Place::with("");
    let app = place.serve();
    let bad: [&[u8]; 5] =
        [&[0; 4], &[255; 8], b"\x10\0\0\0{", b"\x05\0\0\0{\"a\":", b"\x01\0\0\0\xff"];
    let round = |count: usize| {
        for n in 0..count {
            let mut client = place.client();
            client.send(bad[n % bad.len()]);
            client.half_close();
            assert!(["invalid-request", "too-large"].contains(&client.refusal().code.as_str()));
            client.assert_end();
        }
    };
    // What a process takes once, it keeps.
    round(200);
    let before = app.memory();
    round(1000);
    let after = app.memory();
    assert!(after < before + (512 << 10), "{after} after {before}");
    app.await_line("refusals not logged in the last second lines=");
    place.client().assert_served();
}

#[test]
fn requests_are_served_over_tcp_as_well() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let place = Place::new();
    place.configure(&format!("listen = 'tcp:127.0.0.1:{port}'"));
    let app = place.serve();
    let mut client = Client::connect_tcp(port);
    for _ in 0..3 {
        client.assert_served();
    }
    client.send(&[0; 4]);
    assert_eq!(client.refusal().code, "invalid-request");
    client.assert_end();
    app.await_line("request refused client=tcp:127.0.0.1:");
}
