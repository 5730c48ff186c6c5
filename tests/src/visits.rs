//! Clients that connect, exchange and leave, all the time, and an upstream that answers them. Both
//! check every byte, and how every stream ends.

mod exchange;

use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

pub use self::exchange::{Failure, Upstream, Visit};
use crate::namespace::Enclave;
use crate::patience::patience;

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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// After so many broken promises nobody goes on: each may have taken as long as anybody waits.
const MOST_BROKEN: usize = 32;
