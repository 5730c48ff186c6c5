//! Those who talk through outproxy.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::manager::{Manager, PATIENCE};

/// A service that says what it hears; ends with the test's process.
pub(crate) fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let copied = io::copy(&mut stream.try_clone().unwrap(), &mut stream);
                copied.and_then(|_| stream.shutdown(Shutdown::Write))
            });
        }
    });
    port
}

/// A port that nobody listens on yet.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A tunnel to a port, through the routed listener at `path`.
pub(crate) fn open(path: &Path, port: u16) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n")?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
    Ok(stream)
}

/// Says a word, and hears it again.
pub(crate) fn ping(stream: &mut (impl Read + Write)) -> io::Result<()> {
    stream.write_all(b"hello")?;
    let mut word = [0; 5];
    stream.read_exact(&mut word)?;
    assert_eq!(&word, b"hello");
    Ok(())
}

/// Clients of a routed Unix socket and of a raw TCP port, which connect all the time. Any of them
/// that fails fails the test.
#[derive(Default)]
pub(crate) struct Clients {
    visits: [AtomicUsize; 2],
    are_done: AtomicBool,
}

impl Clients {
    /// Does something while they connect to the socket `routed`, for a tunnel to the port `up`, and
    /// to the port `raw`.
    pub(crate) fn run<T>(routed: &Path, up: u16, raw: u16, body: impl FnOnce(&Self) -> T) -> T {
        let clients = Self::default();
        let visit_routed = || {
            let mut stream = open(routed, up)?;
            ping(&mut stream)?;
            stream.shutdown(Shutdown::Write)?;
            assert_eq!(stream.read_to_end(&mut Vec::new())?, 0);
            Ok(())
        };
        let visit_raw = || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, raw))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            ping(&mut stream)?;
            stream.shutdown(Shutdown::Write)?;
            assert_eq!(stream.read_to_end(&mut Vec::new())?, 0);
            Ok(())
        };
        thread::scope(|scope| {
            scope.spawn(|| clients.visit(0, visit_routed));
            scope.spawn(|| clients.visit(1, visit_raw));
            // However it ends, the clients must end, too.
            let done = OnDrop(&clients.are_done);
            let result = body(&clients);
            drop(done);
            result
        })
    }

    /// Waits until each of them has finished some more connections.
    pub(crate) fn await_visits(&self, manager: &mut Manager) {
        let deadline = Instant::now() + PATIENCE;
        let visits = || self.visits.each_ref().map(|visits| visits.load(Ordering::Relaxed));
        let before = visits();
        while visits().iter().zip(before).any(|(now, before)| *now < before + 10) {
            assert!(Instant::now() < deadline, "they have connected only {:?} times", visits());
            manager.hears("nothing", Duration::from_millis(10));
        }
    }

    fn visit(&self, number: usize, visit: impl Fn() -> io::Result<()>) {
        while !self.are_done.load(Ordering::Relaxed) {
            let start = Instant::now();
            visit().unwrap_or_else(|error| panic!("client {number}: {error}"));
            assert!(start.elapsed() < LONGEST, "client {number} has waited {:?}", start.elapsed());
            self.visits[number].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// How long a client may be kept waiting by a restart.
const LONGEST: Duration = Duration::from_secs(8);

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
