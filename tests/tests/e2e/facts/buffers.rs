//! What the kernel holds of a connection.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use socket2::Socket;
use tests::vsock::{
    ANY, OWN, accept, buffer_size, connect, fill, listen, pair, port, read_to_end, set_buffer_size,
    socket,
};
use tests::world::World;
use tokio::io::AsyncWriteExt;
use tunnel::kernel::loses_vsock_data;
use tunnel::listener::Listener;
use tunnel::vsock::MAX_WRITE;

use crate::say;

crate::scenarios![
    a_stalled_reader_loses_small_packets_on_the_kernels_that_are_known_for_it,
    one_write_is_capped,
    accepted_sockets_inherit_the_window,
    throughput_grows_with_the_window,
    idle_connections_are_small,
];

/// V6. What the reader gets is a prefix, and then ENOBUFS: the loss does not look clean.
fn a_stalled_reader_loses_small_packets_on_the_kernels_that_are_known_for_it(_: &World) {
    let payload = random(1 << 20);
    for size in [16, 129, 300, 517, 600] {
        let (mut writer, mut reader) = pair();
        let result = fill(&writer, &payload, size, Duration::from_millis(500));
        let sent = result.as_ref().map_or_else(|(sent, _)| *sent, |sent| *sent);
        // It may have been told already that the stream is gone.
        let _ = writer.flush().and_then(|()| writer.shutdown(Shutdown::Write));
        let (got, error) = read_to_end(&mut reader);
        assert!(payload.starts_with(&got));
        if loses_vsock_data() && size < 576 {
            assert_eq!(error, Some(libc::ENOBUFS), "{size}: {} of {sent}", got.len());
            assert!(got.len() < sent, "{size}: {sent}");
            say(&format!("packets of {size} bytes: {} of {sent} bytes arrive", got.len()));
        } else {
            assert_eq!((got.len(), error), (sent, None), "{size}: {result:?}");
            // The window, all of it.
            assert_eq!(sent, 256 << 10);
        }
    }
}

/// V8.
fn one_write_is_capped(_: &World) {
    let port = port();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = Listener::bind(&format!("vsock:any:{port}").parse().unwrap()).unwrap();
        let mut reader = connect(OWN, port).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(stream.write(&vec![1; 1 << 20]).await.unwrap(), MAX_WRITE);
        const { assert!(MAX_WRITE < 32 << 10) };
        drop(stream);
        assert_eq!(read_to_end(&mut reader).0.len(), MAX_WRITE);
    });
}

/// V17.
fn accepted_sockets_inherit_the_window(_: &World) {
    let (client, server) = pair();
    assert_eq!((buffer_size(&client), buffer_size(&server)), (256 << 10, 256 << 10));
    let (client, server) = pair_with(3 << 20);
    assert_eq!((buffer_size(&client), buffer_size(&server)), (3 << 20, 3 << 20));
}

/// V17. Each pair of measurements is taken side by side: the machine may have other work.
fn throughput_grows_with_the_window(_: &World) {
    // The first ones are slow: they are translated.
    transfer(64 << 10);
    transfer(1 << 20);
    let mut ratios: Vec<_> = (0..7)
        .map(|_| transfer(64 << 10).as_secs_f64() / transfer(1 << 20).as_secs_f64())
        .collect();
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios[3];
    say(&format!("1 MiB is {ratio:.1} times as fast as 64 KiB; all of {ratios:.1?}"));
    assert!(ratio > 1.2, "{ratios:?}");
}

/// How long some MiB take from one end to the other.
fn transfer(window: u64) -> Duration {
    let (mut writer, mut reader) = pair_with(window);
    let start = Instant::now();
    let writing = thread::spawn(move || {
        let block = [7; MAX_WRITE];
        for _ in 0..PIECES {
            writer.write_all(&block).unwrap();
        }
    });
    let mut left = PIECES * MAX_WRITE;
    let mut chunk = vec![0; 2 * MAX_WRITE];
    while left > 0 {
        let n = reader.read(&mut chunk).unwrap();
        assert_ne!(n, 0);
        left -= n;
    }
    let taken = start.elapsed();
    writing.join().unwrap();
    taken
}

/// V18.
fn idle_connections_are_small(_: &World) {
    let count = 4000;
    let port = port();
    let listener = listen(ANY, port, 64).unwrap();
    let connect = |_| (connect(OWN, port).unwrap(), accept(&listener));
    // The caches of the kernel fill first.
    let _some: Vec<_> = (0..100).map(connect).collect();
    let before = allocated();
    let _all: Vec<_> = (0..count).map(connect).collect();
    let each = allocated().saturating_sub(before) / count;
    say(&format!("an idle connection takes {each} bytes of the kernel, both ends together"));
    assert!((1 << 10..10 << 10).contains(&each), "{each}");
}

/// What the kernel has allocated for objects such as sockets, in bytes.
fn allocated() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Slab:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn pair_with(window: u64) -> (Socket, Socket) {
    let port = port();
    let listener = socket();
    set_buffer_size(&listener, window);
    listener.bind(&socket2::SockAddr::vsock(ANY, port)).unwrap();
    listener.listen(1).unwrap();
    let client = socket();
    set_buffer_size(&client, window);
    client.connect(&socket2::SockAddr::vsock(OWN, port)).unwrap();
    (client, accept(&listener))
}

fn random(count: usize) -> Vec<u8> {
    std::iter::repeat_with(|| fastrand::u8(..)).take(count).collect()
}

/// What one measurement transfers, in writes.
const PIECES: usize = 128;
