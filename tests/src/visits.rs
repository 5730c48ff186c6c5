//! Clients that connect, exchange and leave, all the time, and an upstream that answers them. Both
//! check every byte, and how every stream ends.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::namespace::Enclave;
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

/// Who visits, and whom.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Where the clients are.
    pub enclave: &'a Enclave,
    /// Where they go, and whether they may half-close before they have read.
    pub to: &'a [(SocketAddr, bool)],
    /// How many go at once.
    pub clients: usize,
    /// After how many visits they stop by themselves.
    pub most: Option<u64>,
    /// What they send.
    pub seed: u64,
}

/// Does something while clients visit; they stop when it is done, and when there were as many as
/// the plan has.
pub fn visit_while(plan: Plan<'_>, body: impl FnOnce(&Visits)) -> Ledger {
    let visits = Visits::default();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..plan.clients)
            .map(|number| {
                let visits = &visits;
                scope.spawn(move || plan.enclave.run(|| visits.run(plan, number)))
            })
            .collect();
        // However it ends, the clients must end, too.
        let over = Over(&visits);
        body(&visits);
        if plan.most.is_some() {
            clients.into_iter().for_each(|client| client.join().expect("a client"));
        }
        drop(over);
    });
    visits.state.into_inner().unwrap_or_else(PoisonError::into_inner).ledger
}

/// The clients at work.
#[derive(Debug, Default)]
pub struct Visits {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ledger: Ledger,
    begun: u64,
    /// The latest visit, in the order of beginning, that was served.
    latest: u64,
    over: bool,
}

/// What came of visits.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Those in which every byte came back, and a clean end.
    pub served: u64,
    /// Those that were aborted.
    pub aborted: u64,
    /// Those whose connection nobody took.
    pub refused: u64,
    /// Promises that were broken.
    pub broken: Vec<String>,
    /// Bytes that came back.
    pub bytes: u64,
    /// How long those that were served took.
    pub times: Vec<Duration>,
}

impl Ledger {
    /// How many connections were made.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.served + self.aborted + self.broken.len() as u64
    }

    /// The time that so many in a thousand visits took at most.
    #[must_use]
    pub fn quantile(&self, per_mille: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        let index = times.len().saturating_sub(1) * per_mille / 1000;
        times.get(index).copied().unwrap_or_default()
    }
}

impl Visits {
    /// Waits until somebody is served who comes from now on.
    pub fn await_service(&self) {
        assert!(self.serve_within(patience()), "waited in vain for service");
    }

    /// Whether somebody is served within `limit` who comes from now on.
    #[must_use]
    pub fn serve_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        let begun = state.begun;
        while state.latest <= begun {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// What came of it so far.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.lock().ledger.clone()
    }

    /// Lets some time of visits pass.
    pub fn pause(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let mut state = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.over {
                return;
            }
            let woken = self.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn run(&self, plan: Plan<'_>, number: usize) {
        let mut rng = Rng::with_seed(plan.seed.wrapping_add(number as u64));
        while let Some(begun) = self.begin(plan.most) {
            let (to, may_end_early) = plan.to[rng.usize(..plan.to.len())];
            let visit = Visit::random(&mut rng, may_end_early);
            let start = Instant::now();
            let result = visit.make(to);
            let taken = start.elapsed();
            let is_refused = matches!(result, Err(Failure::Refused(_)));
            self.enter(begun, visit, taken, result);
            if is_refused {
                // Until somebody listens again.
                self.pause(Duration::from_millis(2));
            }
        }
    }

    fn begin(&self, most: Option<u64>) -> Option<u64> {
        let mut state = self.lock();
        let is_hopeless = state.ledger.broken.len() >= MOST_BROKEN;
        if state.over || is_hopeless || most.is_some_and(|most| state.begun >= most) {
            return None;
        }
        state.begun += 1;
        Some(state.begun)
    }

    fn enter(&self, begun: u64, visit: Visit, taken: Duration, result: Result<(), Failure>) {
        let mut state = self.lock();
        match result {
            Ok(()) => {
                state.latest = begun.max(state.latest);
                state.ledger.served += 1;
                state.ledger.bytes += u64::from(visit.size);
                state.ledger.times.push(taken);
            }
            Err(Failure::Aborted(_)) => state.ledger.aborted += 1,
            Err(Failure::Broken(what)) => state.ledger.broken.push(format!("client: {what}")),
            Err(Failure::Refused(_)) => state.ledger.refused += 1,
        }
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

struct Over<'a>(&'a Visits);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.changed.notify_all();
    }
}

fn half_close(stream: &TcpStream) -> Result<(), Failure> {
    match stream.shutdown(Shutdown::Write) {
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
        result => result.map_err(Failure::of_stream),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const HEAD: usize = 8;
/// After so many broken promises nobody goes on: each may have taken as long as anybody waits.
const MOST_BROKEN: usize = 32;
