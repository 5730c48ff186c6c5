use super::*;
use proptest::prelude::*;

#[test]
fn a_request_is_read_as_it_was_written() {
    for text in ["10.0.11.27:2223", "[fd00::10]:2223", "hsm.example.com:443"] {
        let destination: Destination = text.parse().unwrap();
        let session = SessionId::new(u128::MAX / 3);
        for id in [None, Some(TunnelId { session, number: 7 })] {
            let head = request(&destination, id);
            let with_data = format!("{head}\u{16}\u{3}hello");
            let (read, length) = parse_request(with_data.as_bytes()).unwrap().unwrap();
            assert_eq!(read, Request::Tunnel(destination.clone(), id));
            assert_eq!(length, head.len());
        }
    }
}

#[test]
fn a_tunnel_id_that_makes_no_sense_is_ignored() {
    let hex = "0".repeat(32);
    for id in ["", "-1", "x-1", &format!("+{}-1", &hex[1..]), &hex, &format!("{hex}-x")] {
        let head = format!("CONNECT a:1 HTTP/1.1\r\nTunnel-Id: {id}\r\n\r\n");
        let (read, _) = parse_request(head.as_bytes()).unwrap().unwrap();
        assert!(matches!(read, Request::Tunnel(_, None)), "{id}");
    }
}

#[test]
fn a_request_for_notices_is_read_as_it_was_written() {
    let session = SessionId::new(7);
    let head = notices_request(session);
    for end in 0..head.len() {
        assert!(parse_request(&head.as_bytes()[..end]).unwrap().is_none(), "{end}");
    }
    let read = parse_request(head.as_bytes()).unwrap();
    assert_eq!(read, Some((Request::Notices(session), head.len())));
    for other in [head.replace("tunnel-notices", "websocket"), head.replace("07", "7")] {
        assert!(matches!(parse_request(other.as_bytes()), Err(RequestError::Upgrade)));
    }
    let (answer, _) = parse_answer(NOTICES_GRANT.as_bytes()).unwrap().unwrap();
    assert!(answer.is_notices_grant() && !answer.is_grant());
}

#[test]
fn a_request_for_records_is_read_as_it_was_written() {
    let head = RECORDS_REQUEST.as_bytes();
    for end in 0..head.len() {
        assert!(parse_request(&head[..end]).unwrap().is_none(), "{end}");
    }
    assert_eq!(parse_request(head).unwrap(), Some((Request::Records, head.len())));
    let other = RECORDS_REQUEST.replace("tunnel-telemetry", "tunnel-notices");
    assert!(matches!(parse_request(other.as_bytes()), Err(RequestError::Upgrade)));
    let (answer, _) = parse_answer(RECORDS_GRANT.as_bytes()).unwrap().unwrap();
    assert!(answer.is_records_grant() && !answer.is_grant());
    let (answer, _) = parse_answer(NOTICES_GRANT.as_bytes()).unwrap().unwrap();
    assert!(!answer.is_records_grant());
}

#[test]
fn a_request_split_anywhere_asks_for_more() {
    let head = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nUser-Agent: x\r\n\r\n";
    for end in 0..head.len() {
        assert!(parse_request(&head[..end]).unwrap().is_none(), "{end}");
    }
    assert!(parse_request(head).unwrap().is_some());
}

#[test]
fn unusable_requests_are_refused_at_once() {
    let refused = |head: &[u8]| parse_request(head).unwrap_err().to_string();
    assert!(refused(b"GET / HTTP/1.1\r\n").contains("`GET`"));
    assert!(refused(b"POST / HTTP/1.1\r\nA\x01").contains("`POST`"));
    assert!(refused(b"\x16\x03\x01\x02\0\x01\0").contains("not HTTP"));
    assert!(refused(b"CONNECT / HTTP/1.1\r\n\r\n").contains("has no port"));
    assert!(refused(b"CONNECT 127.1:443 HTTP/1.1\r\n\r\n").contains("IPv4"));
    assert!(refused(b"CONNECT a:0 HTTP/1.1\r\n\r\n").contains("65535"));
    let endless = [b"CONNECT a:1 HTTP/1.1\r\nA: ".as_slice(), &[b'a'; MAX_HEAD]].concat();
    assert!(refused(&endless).contains("longer"));
    let fields = format!("CONNECT a:1 HTTP/1.1\r\n{}", "A: b\r\n".repeat(MAX_FIELDS + 1));
    assert!(refused(fields.as_bytes()).contains("not HTTP"));
}

#[test]
fn an_answer_says_why_not() {
    let head =
        b"HTTP/1.1 403 Forbidden\r\nProxy-Status: outproxy; error=http_request_denied\r\n\r\nbody";
    let (answer, length) = parse_answer(head).unwrap().unwrap();
    assert_eq!(length, head.len() - 4);
    assert!(!answer.is_grant());
    assert_eq!(answer.to_string(), "403 outproxy; error=http_request_denied");
    let (answer, length) = parse_answer(GRANT.as_bytes()).unwrap().unwrap();
    assert!(answer.is_grant() && !answer.notices && length == GRANT.len());
    let (answer, length) = parse_answer(GRANT_WITH_NOTICES.as_bytes()).unwrap().unwrap();
    assert!(answer.is_grant() && answer.notices && length == GRANT_WITH_NOTICES.len());
}

#[test]
fn an_answer_that_is_none_is_refused() {
    assert!(parse_answer(b"SSH-2.0-OpenSSH_9.2\r\n").is_err());
    assert!(
        parse_answer(&[b"HTTP/1.1 200 OK\r\nA: ".as_slice(), &[b'a'; MAX_HEAD]].concat()).is_err()
    );
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_ask_for_more(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_answer(&bytes);
        if let Ok(Some((_, length))) = parse_request(&bytes) {
            prop_assert!(length <= bytes.len());
        }
    }
}
