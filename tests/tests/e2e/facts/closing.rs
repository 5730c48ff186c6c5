//! How connections end.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::time::Duration;

use nix::libc;
use socket2::{Socket, TcpKeepalive};
use tests::peers::{accept, listen};
use tests::vsock::{OWN, connect, pair, probe, read_to_end};
use tests::world::{ALLOWED, RAW, World};

crate::scenarios![
    a_peer_that_vanishes_reads_as_a_clean_end_and_the_probe_tells,
    a_peer_that_is_killed_reads_as_a_clean_end_and_the_probe_tells,
    a_half_close_passes_the_probe,
    after_a_failed_write_what_the_peer_had_sent_is_still_there,
    there_is_no_keepalive,
];

/// V1. Both with and without bytes that it has not read: TCP would reset the former.
fn a_peer_that_vanishes_reads_as_a_clean_end_and_the_probe_tells(_: &World) {
    let ends: [fn(Socket); 3] = [
        drop,
        |peer| {
            peer.set_linger(Some(Duration::ZERO)).unwrap();
            drop(peer);
        },
        |peer| peer.shutdown(Shutdown::Both).unwrap(),
    ];
    for end in ends {
        for unread in [&b""[..], b"unread"] {
            let (mut socket, peer) = pair();
            socket.write_all(unread).unwrap();
            end(peer);
            assert_eq!(read_to_end(&mut socket), (vec![], None));
            assert_eq!(probe(&socket).unwrap_err().raw_os_error(), Some(libc::EPIPE));
        }
    }
}

/// V1.
fn a_peer_that_is_killed_reads_as_a_clean_end_and_the_probe_tells(world: &World) {
    let mut outproxy = world.outproxy(&world.outproxy_config(ALLOWED, ""));
    let upstream = listen(RAW);
    let mut client = world.leg.dial(1).unwrap();
    let _upstream = accept(&upstream);
    outproxy.kill();
    assert_eq!(read_to_end(&mut client), (vec![], None));
    assert_eq!(probe(&client).unwrap_err().raw_os_error(), Some(libc::EPIPE));
}

/// V1.
fn a_half_close_passes_the_probe(_: &World) {
    let (mut socket, mut peer) = pair();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut socket), (vec![], None));
    probe(&socket).unwrap();
    // It is a probe only: the peer reads nothing of it.
    socket.write_all(b"more").unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut peer), (b"more".to_vec(), None));
}

/// V10.
fn after_a_failed_write_what_the_peer_had_sent_is_still_there(_: &World) {
    let (mut socket, mut peer) = pair();
    let sent: Vec<_> = std::iter::repeat_with(|| fastrand::u8(..)).take(150_000).collect();
    peer.write_all(&sent).unwrap();
    drop(peer);
    while probe(&socket).is_ok() {}
    assert_eq!(socket.write(b"late").unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert!(read_to_end(&mut socket) == (sent, None));
}

/// V14: idle limits are ours.
fn there_is_no_keepalive(_: &World) {
    let (socket, _peer) = pair();
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(1));
    assert!(socket.set_tcp_keepalive(&keepalive).is_err());
    // Nor would a connection to nowhere make one.
    assert!(connect(OWN, tests::vsock::port()).is_err());
}
