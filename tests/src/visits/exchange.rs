//! One exchange, as both its ends see it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use fastrand::Rng;

use super::lock;
use crate::patience::patience;
use crate::peers::{bounded, listen};
use crate::scripts::bytes::Bytes;

/// One exchange of a client.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    /// Which bytes are sent, and expected back.
    pub seed: u32,
    /// How many.
    pub size: u32,
    /// Whether the client half-closes before it reads, or when it has read all.
    pub ends_early: bool,
}

/// Why a client was not served.
#[derive(Debug)]
pub enum Failure {
    /// Its connection was aborted, as it is when something is lost.
    Aborted(ErrorKind),
    /// A promise was broken.
    Broken(String),
    /// Nobody took its connection.
    Refused(ErrorKind),
}

impl Visit {
    /// One with a size that HSMs' messages have, or now and then a large one.
    #[must_use]
    pub fn random(rng: &mut Rng, ends_early: bool) -> Self {
        let most = if rng.u8(..20) == 0 { 60_000 } else { 1500 };
        Self { seed: rng.u32(..), size: rng.u32(1..most), ends_early }
    }

    /// Connects in this thread's network, and makes the visit.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn make(self, to: SocketAddr) -> Result<(), Failure> {
        let stream = TcpStream::connect_timeout(&to, patience()).map_err(Failure::of_connect)?;
        self.make_on(&mut bounded(stream))
    }

    /// Makes the visit on a connection.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn make_on(self, stream: &mut TcpStream) -> Result<(), Failure> {
        let bytes = Bytes::new(self.seed.into()).at(0, self.size as usize);
        stream.write_all(&[&self.head(), bytes].concat()).map_err(Failure::of_stream)?;
        if self.ends_early {
            half_close(stream)?;
        }
        let (mut seen, mut chunk) = (Seen::default(), [0; 16 * 1024]);
        let mut ended = self.ends_early;
        loop {
            match stream.read(&mut chunk).map_err(Failure::of_stream)? {
                0 => break,
                count => seen.take(&chunk[..count]).map_err(Failure::Broken)?,
            }
            if !ended && seen.is_complete() {
                half_close(stream)?;
                ended = true;
            }
        }
        if seen.head != self.head() {
            return Err(Failure::Broken(format!("N1: a clean end after {} bytes", seen.count)));
        }
        seen.end().map_err(Failure::Broken)
    }

    /// Makes the visit on a connection, but pauses after each byte that came back until `is_over`;
    /// then the rest follows at once.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn stay_on(
        self,
        stream: &mut TcpStream,
        mut pause: impl FnMut(),
        is_over: impl Fn() -> bool,
    ) -> Result<(), Failure> {
        let mut seen = Seen::default();
        self.echo(stream, &self.head(), &mut seen)?;
        let bytes = Bytes::new(self.seed.into());
        let (mut place, size) = (0, self.size as usize);
        while place < size && !is_over() {
            self.echo(stream, bytes.at(place as u64, 1), &mut seen)?;
            place += 1;
            pause();
        }
        while place < size {
            let rest = bytes.at(place as u64, size - place);
            self.echo(stream, rest, &mut seen)?;
            place += rest.len();
        }
        half_close(stream)?;
        match stream.read(&mut [0]).map_err(Failure::of_stream)? {
            0 => seen.end().map_err(Failure::Broken),
            _ => Err(Failure::Broken("N1: more than was sent".into())),
        }
    }

    /// Sends bytes, and takes as many.
    fn echo(self, stream: &mut TcpStream, bytes: &[u8], seen: &mut Seen) -> Result<(), Failure> {
        stream.write_all(bytes).map_err(Failure::of_stream)?;
        let mut echo = vec![0; bytes.len()];
        stream.read_exact(&mut echo).map_err(Failure::of_stream)?;
        seen.take(&echo).map_err(Failure::Broken)
    }

    fn head(self) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&self.seed.to_be_bytes());
        head[4..].copy_from_slice(&self.size.to_be_bytes());
        head
    }
}

impl Failure {
    /// What connect(2) answered.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
    pub fn of_connect(error: io::Error) -> Self {
        match error.kind() {
            // It was accepted, and the abort was quicker than connect(2).
            ErrorKind::ConnectionReset => Self::Aborted(error.kind()),
            ErrorKind::TimedOut => Self::Broken("connect(2) hangs".into()),
            kind => Self::Refused(kind),
        }
    }

    /// What a read or a write answered.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
    pub fn of_stream(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock => Self::Broken("it hangs".into()),
            kind => Self::Aborted(kind),
        }
    }
}

/// What answers: every connection gets back what it says.
#[derive(Clone, Debug, Default)]
pub struct Upstream(Arc<Answered>);

#[derive(Debug, Default)]
struct Answered {
    whole: AtomicU64,
    aborted: AtomicU64,
    broken: Mutex<Vec<String>>,
}

impl Upstream {
    /// Starts it in this thread's network, for so many connections at once. It ends with the
    /// process.
    #[must_use]
    pub fn start(address: SocketAddr, threads: usize) -> Self {
        let (upstream, listener) = (Self::default(), Arc::new(listen(address)));
        for _ in 0..threads {
            let (upstream, listener) = (upstream.clone(), Arc::clone(&listener));
            thread::spawn(move || upstream.serve(&listener));
        }
        upstream
    }

    /// How many connections it has served to their clean end.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.0.whole.load(Ordering::Relaxed)
    }

    /// Promises that were broken.
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        lock(&self.0.broken).clone()
    }

    fn serve(&self, listener: &TcpListener) {
        loop {
            // Without a descriptor for it there will be another.
            let Ok((stream, _)) = listener.accept() else { continue };
            match answer(&mut bounded(stream)) {
                Ok(()) => _ = self.0.whole.fetch_add(1, Ordering::Relaxed),
                Err(Failure::Aborted(_) | Failure::Refused(_)) => {
                    self.0.aborted.fetch_add(1, Ordering::Relaxed);
                }
                Err(Failure::Broken(what)) => {
                    lock(&self.0.broken).push(format!("upstream: {what}"));
                }
            }
        }
    }
}

fn answer(stream: &mut TcpStream) -> Result<(), Failure> {
    let (mut seen, mut chunk) = (Seen::default(), [0; 16 * 1024]);
    loop {
        match stream.read(&mut chunk).map_err(Failure::of_stream)? {
            0 => return seen.end().map_err(Failure::Broken),
            count => {
                seen.take(&chunk[..count]).map_err(Failure::Broken)?;
                stream.write_all(&chunk[..count]).map_err(Failure::of_stream)?;
            }
        }
    }
}

/// What has come of an exchange: a head that says what follows, and that.
#[derive(Debug, Default)]
struct Seen {
    head: [u8; HEAD],
    count: usize,
}

impl Seen {
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while self.count < HEAD && !bytes.is_empty() {
            self.head[self.count] = bytes[0];
            self.count += 1;
            bytes = &bytes[1..];
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let place = self.count - HEAD;
        self.count += bytes.len();
        if self.count - HEAD > self.size() {
            return Err(format!("N1: more than the {} bytes that were sent", self.size()));
        }
        let expected = Bytes::new(self.seed().into());
        let place = u64::try_from(place).expect("a short place");
        if expected.match_at(place, bytes) {
            return Ok(());
        }
        Err(format!("N1, N3: other bytes than those of {}, from byte {place}", self.seed()))
    }

    fn is_complete(&self) -> bool {
        self.count >= HEAD && self.count - HEAD == self.size()
    }

    /// A clean end was seen.
    fn end(&self) -> Result<(), String> {
        if self.is_complete() {
            return Ok(());
        }
        let size = if self.count < HEAD { "?".into() } else { self.size().to_string() };
        Err(format!("N2: a clean end after {} bytes of {HEAD} + {size}", self.count))
    }

    fn seed(&self) -> u32 {
        u32::from_be_bytes([self.head[0], self.head[1], self.head[2], self.head[3]])
    }

    fn size(&self) -> usize {
        u32::from_be_bytes([self.head[4], self.head[5], self.head[6], self.head[7]]) as usize
    }
}

fn half_close(stream: &TcpStream) -> Result<(), Failure> {
    match stream.shutdown(Shutdown::Write) {
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
        result => result.map_err(Failure::of_stream),
    }
}

const HEAD: usize = 8;
