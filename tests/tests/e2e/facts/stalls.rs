//! V6: what arrives while nobody reads. Where the kernel loses it, our window is wide enough; and
//! where that is not enough, because the sender's is wider still, nobody takes the loss for an end.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{SockAddr, Socket};
use tests::patience::patience;
use tests::peers;
use tests::process::Process;
use tests::proxies::Outproxy;
use tests::vsock::{ANY, OWN, accept, fill, is_peer_gone, set_buffer_size, socket, waiting};
use tests::world::{ALLOWED, RAW, World};
use tunnel::kernel::loses_vsock_data;
use tunnel::vsock::{BUFFER_SIZE, MAX_WRITE};

use crate::say;

crate::scenarios![
    the_log_names_the_bug_where_the_kernel_has_it,
    an_upstream_that_stalls_loses_nothing,
    a_client_that_stalls_loses_nothing,
    a_loss_on_the_way_to_upstream_is_a_reset,
    a_loss_on_the_way_to_the_client_is_a_reset,
    a_loss_at_a_foreign_reader_is_a_reset,
];

fn the_log_names_the_bug_where_the_kernel_has_it(world: &World) {
    let tunnel = world.tunnel();
    // Both say more later than this, so it is there by now.
    let upstream = peers::listen(RAW);
    let mut client = peers::connect(&world.enclave, RAW);
    peers::ping(&mut client, &mut peers::accept(&upstream));
    for proxy in [&*tunnel.outproxy, &tunnel.inproxy] {
        let names_it = |line: &Value| line.to_string().contains("this kernel loses vsock data");
        assert_eq!(proxy.logged().iter().any(names_it), loses_vsock_data());
    }
}

/// As large packets fill the path first, nothing depends on how quick the proxy is.
fn an_upstream_that_stalls_loses_nothing(world: &World) {
    let _outproxy = start_outproxy(world);
    for size in SIZES {
        let (client, mut upstream) = to_outproxy(world, BUFFER_SIZE);
        let (sent, read) = stall_twice(&client, &mut upstream, size).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (rest, error) = peers::read_to_end(&mut upstream);
        assert_eq!((rest.len(), error), (sent - read, None), "packets of {size} bytes");
        assert!(rest == payload()[read..sent]);
    }
}

fn a_client_that_stalls_loses_nothing(world: &World) {
    let (_inproxy, listener) = start_inproxy(world, BUFFER_SIZE);
    for size in SIZES {
        let mut client = peers::connect(&world.enclave, RAW);
        let server = accept(&listener);
        let (sent, read) = stall_twice(&server, &mut client, size).unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        let (rest, error) = peers::read_to_end(&mut client);
        assert_eq!((rest.len(), error), (sent - read, None), "packets of {size} bytes");
        assert!(rest == payload()[read..sent]);
    }
}

fn a_loss_on_the_way_to_upstream_is_a_reset(world: &World) {
    let outproxy = start_outproxy(world);
    let (client, mut upstream) = to_outproxy(world, WIDE);
    let result = stall_twice(&client, &mut upstream, 129);
    assert_loss_is_a_reset(result, &client, &mut upstream, &outproxy, "client-aborted");
}

fn a_loss_on_the_way_to_the_client_is_a_reset(world: &World) {
    let (inproxy, listener) = start_inproxy(world, WIDE);
    let mut client = peers::connect(&world.enclave, RAW);
    let server = accept(&listener);
    let result = stall_twice(&server, &mut client, 129);
    assert_loss_is_a_reset(result, &server, &mut client, &inproxy, "upstream-aborted");
}

fn assert_loss_is_a_reset(
    result: Result<(usize, usize), (usize, usize)>,
    sender: &Socket,
    receiver: &mut TcpStream,
    proxy: &Process,
    outcome: &str,
) {
    // It may have been told already that the stream is gone.
    let _ = sender.shutdown(Shutdown::Write);
    let (rest, error) = peers::read_to_end(receiver);
    let (sent, read) = result.unwrap_or_else(|gone| gone);
    let got = read + rest.len();
    assert!(rest == payload()[read..got]);
    if !loses_vsock_data() {
        assert_eq!((got, error), (sent, None), "{result:?}");
        return;
    }
    assert!(got < sent, "all of {sent} bytes came through");
    assert_eq!(error, Some(ErrorKind::ConnectionReset));
    say(&format!("{got} of {sent} bytes came before the reset"));
    let line = proxy.line("the connection's end", |line| line["outcome"] == outcome);
    let cause = line["cause"].as_str().unwrap();
    assert!(cause.contains("a bug of Linux 6.12.92 to 6.12.100"), "{line}");
}

/// A reader with the kernel's default window is not ours to widen. Each packet is sent when the one
/// before has arrived, since inproxy would send several as one.
fn a_loss_at_a_foreign_reader_is_a_reset(world: &World) {
    let (_inproxy, listener) = start_inproxy(world, 256 << 10);
    let mut client = peers::connect(&world.enclave, RAW);
    client.set_nodelay(true).unwrap();
    let mut server = accept(&listener);
    let packet = [7; 129];
    // The kernel has room for 455.
    let all = 500 * packet.len();
    let mut sent = 0;
    while sent < all && !is_peer_gone(&client) {
        client.write_all(&packet).unwrap();
        sent += packet.len();
        let deadline = Instant::now() + patience();
        while waiting(&server) < sent && !is_peer_gone(&client) {
            assert!(Instant::now() < deadline, "{} of {sent} bytes arrive", waiting(&server));
        }
    }
    if loses_vsock_data() {
        assert!(sent < all);
        peers::assert_reset(&mut client);
    } else {
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(tests::vsock::read_to_end(&mut server), ([7].repeat(sent), None));
    }
}

/// Fills the path from `sender` to `receiver`, which reads nothing; has it read all of that; fills
/// the path again, with packets of `size`. Says how many bytes were sent in all, and how many of
/// them were read; an error says the same where the stream is gone.
fn stall_twice(
    sender: &Socket,
    receiver: &mut TcpStream,
    size: usize,
) -> Result<(usize, usize), (usize, usize)> {
    let payload = payload();
    let first = fill(sender, &payload[..FIRST], MAX_WRITE, QUIET).unwrap();
    assert!(first >= 1 << 20, "{first} bytes are no stall");
    let read = peers::read_exactly(receiver, first);
    assert!(read == payload[..first]);
    await_writable(sender);
    match fill(sender, &payload[first..], size, QUIET) {
        Ok(more) => {
            assert!(more > 512 << 10, "only {more} bytes in packets of {size}");
            Ok((first + more, first))
        }
        Err((more, error)) => {
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            Err((first + more, first))
        }
    }
}

fn start_outproxy(world: &World) -> Outproxy {
    limit_tcp_buffers();
    world.outproxy(&world.outproxy_config(ALLOWED, ""))
}

/// A connection through outproxy's raw listener, whose client has this window.
fn to_outproxy(world: &World, window: u64) -> (Socket, TcpStream) {
    let upstream = peers::listen(RAW);
    let client = socket();
    set_buffer_size(&client, window);
    client.connect(&SockAddr::vsock(OWN, world.leg.port(1))).unwrap();
    (client, peers::accept(&upstream))
}

/// inproxy, and a listener with this window in the place of a raw outproxy.
fn start_inproxy(world: &World, window: u64) -> (Process, Socket) {
    world.enclave.run(limit_tcp_buffers);
    let listener = socket();
    set_buffer_size(&listener, window);
    listener.bind(&SockAddr::vsock(ANY, world.leg.port(1))).unwrap();
    listener.listen(16).unwrap();
    (world.inproxy(&world.inproxy_config("")), listener)
}

/// Has TCP take little of what nobody reads, in this thread's network. Its windows must have room
/// for several segments, or each would wait for the persist timer.
fn limit_tcp_buffers() {
    let status = Command::new("ip").args(["link", "set", "dev", "lo", "mtu", "1500"]).status();
    assert!(status.unwrap().success());
    for name in ["tcp_rmem", "tcp_wmem"] {
        fs::write(format!("/proc/sys/net/ipv4/{name}"), "4096 65536 131072").unwrap();
    }
}

fn await_writable(socket: &Socket) {
    use nix::poll::PollFlags;
    assert!(tests::vsock::is_ready(socket, PollFlags::POLLOUT, patience()));
}

/// Bytes that differ from those a little before and after.
fn payload() -> Vec<u8> {
    (0..6_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect()
}

/// The first are the smallest that Linux 6.12.95 does not merge, the last the largest of which as
/// many as fit into the window are too many for it.
const SIZES: [usize; 3] = [65, 129, 517];

/// More than fits into our window and TCP's together.
const FIRST: usize = 3 << 19;

/// A window that lets a sender have more on its way than fits into ours.
const WIDE: u64 = 64 << 20;

/// After so long nothing more will move: nobody reads.
const QUIET: Duration = Duration::from_millis(500);
