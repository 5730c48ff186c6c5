//! Only what the host allows is reached, and who is refused learns why.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::time::Instant;

use socket2::Socket;
use tests::dns::{Answer, NameServer};
use tests::leg::Leg;
use tests::patience::patience;
use tests::peers::{
    accept, assert_connect_resets, connect, listen, ping, read_exactly, read_to_end,
};
use tests::process::has;
use tests::world::{ALLOWED, HSM, HSM2, World};

crate::scenarios![
    a_destination_that_is_not_allowed_is_reset_with_its_reason_logged,
    any_connect_client_is_served,
    a_request_may_come_in_any_pieces,
    bad_requests_are_refused_each_with_its_reason,
    an_enclave_reaches_only_what_a_rule_with_its_cid_lists,
    a_name_leads_to_its_address,
    a_name_that_leads_to_this_machine_is_refused,
    the_last_good_address_outlives_its_name_server,
    an_upstream_that_is_not_there_is_told_apart,
];

fn a_destination_that_is_not_allowed_is_reset_with_its_reason_logged(world: &World) {
    let outproxy = world.outproxy(&world.outproxy_config("'10.0.10.103'", ""));
    let inproxy = world.inproxy(&world.inproxy_config(""));
    let upstream = listen(HSM2);
    assert_connect_resets(&world.enclave, HSM2);
    let line = outproxy.line("the refusal", has("outcome", "denied"));
    assert_eq!(
        (&line["destination"], &line["reason"]),
        (&HSM2.to_string().into(), &"no rule lists `10.0.11.27`".into())
    );
    let line = inproxy.line("the refusal", has("outcome", "refused"));
    assert!(line["reason"].as_str().unwrap().contains("403"), "{line}");
    drop(upstream);
}

fn any_connect_client_is_served(world: &World) {
    let outproxy = world.outproxy(&world.outproxy_config(ALLOWED, ""));
    let upstream = listen(HSM);
    let (mut client, head) = ask(
        &world.leg,
        "CONNECT 10.0.10.103:2223 HTTP/1.1\r\nHost: hsm\r\nUser-Agent: curl/7\r\n\r\nfirst",
    );
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut upstream = accept(&upstream);
    assert_eq!(read_exactly(&mut upstream, 5), b"first");
    upstream.write_all(b"reply").unwrap();
    drop(upstream);
    assert_eq!(read_to_end(&mut client).0, b"reply");
    client.shutdown(std::net::Shutdown::Both).unwrap();
    let line = outproxy.line("the connection's end", has("outcome", "finished"));
    assert_eq!((&line["sent"], &line["received"]), (&5.into(), &5.into()));
}

fn a_request_may_come_in_any_pieces(world: &World) {
    let _outproxy = world.outproxy(&world.outproxy_config(ALLOWED, ""));
    let listener = listen(HSM);
    let request = b"CONNECT 10.0.10.103:2223 HTTP/1.1\r\nHost: 10.0.10.103:2223\r\n\r\nfirst";
    for split in 1..request.len() {
        let mut client = world.leg.dial(0).unwrap();
        client.write_all(&request[..split]).unwrap();
        client.write_all(&request[split..]).unwrap();
        let mut upstream = accept(&listener);
        assert_eq!(read_exactly(&mut upstream, 5), b"first", "split at {split}");
    }
}

fn bad_requests_are_refused_each_with_its_reason(world: &World) {
    let outproxy = world.outproxy(&world.outproxy_config(ALLOWED, ""));
    let long = format!("CONNECT 10.0.10.103:2223 HTTP/1.1\r\nX: {}", "x".repeat(10_000));
    let cases = [
        ("CONNECT 10.9.9.9:2223 HTTP/1.1\r\n\r\n", 403, "http_request_denied"),
        ("CONNECT 10.0.10.103:22 HTTP/1.1\r\n\r\n", 403, "http_request_denied"),
        ("CONNECT hsm.example:2223 HTTP/1.1\r\n\r\n", 403, "http_request_denied"),
        ("CONNECT 10.0.10.103 HTTP/1.1\r\n\r\n", 400, "http_request_error"),
        ("CONNECT 10.0.10.103:0 HTTP/1.1\r\n\r\n", 400, "http_request_error"),
        ("CONNECT 10.0.10.103:65979 HTTP/1.1\r\n\r\n", 400, "http_request_error"),
        ("CONNECT 10.0.10.0103:2223 HTTP/1.1\r\n\r\n", 400, "http_request_error"),
        ("CONNECT 0x0a.0.10.103:2223 HTTP/1.1\r\n\r\n", 400, "http_request_error"),
        ("GET / HTTP/1.1\r\nHost: hsm\r\n\r\n", 405, "http_request_error"),
        ("\u{16}\u{3}\u{1} is TLS\r\n\r\n", 400, "http_request_error"),
        (&long, 431, "http_request_error"),
    ];
    for (request, status, error) in cases {
        let (mut client, head) = ask(&world.leg, request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {head}");
        let reason = format!("\r\nProxy-Status: outproxy; error={error};");
        assert!(head.contains(&reason), "{request:?}: {head}");
        let (body, _) = read_to_end(&mut client);
        assert!(!body.is_empty(), "{request:?} is refused without a word");
    }
    outproxy.line("the refusals", has("outcome", "malformed"));
    // After all that it serves.
    let (_client, head) = ask(&world.leg, "CONNECT 10.0.10.103:2223 HTTP/1.1\r\n\r\n");
    assert!(head.contains("connection_refused"), "{head}");
}

fn an_enclave_reaches_only_what_a_rule_with_its_cid_lists(world: &World) {
    let config = |cids: &str| {
        let listen = world.leg.listen(0);
        format!(
            "[[listen]]\non = '{listen}'\n[[allow]]\nname = 'hsm'\nhosts = ['10.0.10.103']\n\
             ports = [2223]\n{cids}\n[log]\nformat = 'json'\n"
        )
    };
    let _upstream = listen(HSM);
    let own = world.leg.cids();
    let outproxy = world.outproxy(&config("cids = [16]"));
    for (cids, status) in [("cids = [16]", 403), (own, 200), ("cids = [16, 17]", 403)] {
        outproxy.reload(&config(cids));
        let (_client, head) = ask(&world.leg, "CONNECT 10.0.10.103:2223 HTTP/1.1\r\n\r\n");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{cids}: {head}");
    }
    if let Leg::Vsock(_) = world.leg {
        // Loopback is no enclave.
        outproxy.reload(&config(""));
        let (_client, head) = ask(&world.leg, "CONNECT 10.0.10.103:2223 HTTP/1.1\r\n\r\n");
        assert!(head.contains("CID 1 is no enclave"), "{head}");
    }
}

fn a_name_leads_to_its_address(world: &World) {
    let server = NameServer::start(Answer::Address(Ipv4Addr::new(10, 0, 10, 103)));
    let outproxy = world.outproxy(&with_dns(world, &server));
    let upstream = listen(HSM);
    for name in ["hsm.example", "HSM.EXAMPLE."] {
        let (_client, head) = ask(&world.leg, &request(name));
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        drop(accept(&upstream));
    }
    let (_client, head) = ask(&world.leg, &request("other.example"));
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    let line = outproxy.line("the connection's end", has("address", &HSM.to_string()));
    assert_eq!(line["destination"], "hsm.example:2223");
}

fn a_name_that_leads_to_this_machine_is_refused(world: &World) {
    for octets in [[169, 254, 169, 254], [127, 0, 0, 1], [0, 0, 0, 0], [224, 0, 0, 1]] {
        let server = NameServer::start(Answer::Address(octets.into()));
        let outproxy = world.outproxy(&with_dns(world, &server));
        let (_client, head) = ask(&world.leg, &request("hsm.example"));
        assert!(head.contains("error=destination_ip_prohibited"), "{octets:?}: {head}");
        outproxy.line("the refusal", has("outcome", "unreachable"));
    }
}

fn the_last_good_address_outlives_its_name_server(world: &World) {
    let server = NameServer::start(Answer::Address(Ipv4Addr::new(10, 0, 10, 103)));
    let outproxy = world.outproxy(&with_dns(world, &server));
    let upstream = listen(HSM);
    let (mut old, _) = ask(&world.leg, &request("hsm.example"));
    let mut old_upstream = accept(&upstream);
    server.set(Answer::Failure);
    let deadline = Instant::now() + patience();
    // Its answer held for a second. Whoever connects later has it asked again.
    while !server.was_asked() {
        assert!(Instant::now() < deadline, "nobody asks");
        let (_client, head) = ask(&world.leg, &request("hsm.example"));
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        drop(accept(&upstream));
    }
    let (_client, head) = ask(&world.leg, &request("hsm.example"));
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    old.write_all(b"still here").unwrap();
    assert_eq!(read_exactly(&mut old_upstream, 10), b"still here");
    outproxy.line("a warning", |line| line["level"] == "WARN" && !line["name"].is_null());
}

fn an_upstream_that_is_not_there_is_told_apart(world: &World) {
    let tunnel = world.tunnel();
    assert_connect_resets(&world.enclave, HSM);
    let line = tunnel.outproxy.line("the failure", has("outcome", "unreachable"));
    assert!(line["reason"].as_str().unwrap().contains("refused"), "{line}");
    // And it is back at once.
    let upstream = listen(HSM);
    ping(&mut connect(&world.enclave, HSM), &mut accept(&upstream));
}

fn with_dns(world: &World, server: &NameServer) -> String {
    world.outproxy_config("'hsm.example'", "")
        + &format!("[dns]\nservers = ['{}']\n", server.address)
}

fn request(name: &str) -> String {
    format!("CONNECT {name}:2223 HTTP/1.1\r\nHost: {name}\r\n\r\n")
}

/// Sends a request past inproxy, and reads the head of the answer.
fn ask(leg: &Leg, request: &str) -> (Socket, String) {
    let mut socket = leg.dial(0).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap_or_else(|error| {
            panic!("{request:?}: {error} after {:?}", String::from_utf8_lossy(&head))
        });
        head.extend(byte);
    }
    (socket, String::from_utf8(head).unwrap())
}
