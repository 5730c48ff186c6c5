//! Clients that have keys made all the time, and keep account of what they were told.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::application::LEG;
use crate::client::{Client, create_key};
use crate::hsm::Cluster;
use crate::leg::Leg;
use crate::patience::{is_emulated, patience};

/// Does something while clients have keys made.
pub fn under_load(leg: &Leg, body: impl FnOnce(&Load<'_>)) -> Ledger {
    let load = Load { leg, state: Mutex::default(), changed: Condvar::new() };
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let load = &load;
            scope.spawn(move || load.run(number));
        }
        // However it ends, the clients must end, too.
        let over = Over(&load);
        body(&load);
        drop(over);
    });
    load.state.into_inner().unwrap_or_else(PoisonError::into_inner).ledger
}

/// The clients.
#[derive(Debug)]
pub struct Load<'a> {
    leg: &'a Leg,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ledger: Ledger,
    /// How many requests have been sent.
    sent: u64,
    /// The latest request, in the order of sending, that was answered by a key.
    succeeded: u64,
    /// The same for those that were answered by an error.
    failed: u64,
    over: bool,
}

impl Load<'_> {
    /// Waits until a key is made for a request that is sent from now on.
    pub fn await_service(&self) {
        let sent = self.lock().sent;
        self.wait("a key", |state| state.succeeded > sent);
    }

    /// Waits until a request that is sent from now on is answered by an error.
    pub fn await_failure(&self) {
        let sent = self.lock().sent;
        self.wait("an error", |state| state.failed > sent);
    }

    /// Lets some time of work pass.
    pub fn pause(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let mut state = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.over {
                return;
            }
            state =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn run(&self, number: usize) {
        let mut client = None;
        // Half of them ask again until they know; the others never do.
        let insists = number.is_multiple_of(2);
        for key in 0.. {
            let label = format!("client-{number}-key-{key}");
            while !self.ask(&mut client, &label) && insists && !self.lock().over {}
            if self.lock().over {
                return;
            }
        }
    }

    /// Asks for a key, and says whether there is one now.
    fn ask(&self, client: &mut Option<Client>, label: &str) -> bool {
        let connected = client.take().map_or_else(|| Client::connect(self.leg, LEG), Ok);
        let Ok(mut connected) = connected else {
            // The application is being started again.
            self.pause(Duration::from_millis(5));
            return false;
        };
        let number = self.change(|state| {
            state.sent += 1;
            state.ledger.asked.insert(label.to_owned());
            state.sent
        });
        let start = Instant::now();
        let answer = match connected.ask(&create_key(label)) {
            Ok(answer) => answer,
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::WouldBlock, "no answer, and no end either");
                self.change(|state| state.ledger.unanswered += 1);
                self.pause(Duration::from_millis(5));
                return false;
            }
        };
        let taken = start.elapsed();
        let done = answer["error"].is_null();
        assert!(done || is_honest(&answer), "{answer}");
        self.change(|state| {
            let latest = if done { &mut state.succeeded } else { &mut state.failed };
            *latest = number.max(*latest);
            state.ledger.slowest = taken.max(state.ledger.slowest);
            if done {
                state.ledger.acknowledged.insert(label.to_owned());
            } else {
                state.ledger.failures += 1;
            }
        });
        *client = Some(connected);
        done
    }

    fn wait(&self, what: &str, mut is_there: impl FnMut(&State) -> bool) {
        let deadline = Instant::now() + patience();
        let mut state = self.lock();
        while !is_there(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {what}");
            state =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.notify_all();
        changed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error says that something is amiss beyond the client, and that it may try again.
fn is_honest(answer: &Value) -> bool {
    let error = &answer["error"];
    let code = error["code"].as_str().unwrap_or_default();
    HONEST.contains(&code)
        && error["retryable"] == true
        && error["message"].as_str().is_some_and(|message| !message.is_empty())
}

/// What the clients know.
#[derive(Debug, Default)]
pub struct Ledger {
    asked: HashSet<String>,
    acknowledged: HashSet<String>,
    /// Requests that were answered by an error.
    failures: usize,
    /// Requests that were not answered.
    unanswered: usize,
    slowest: Duration,
}

impl Ledger {
    /// Asserts that each key that was acknowledged is there once, and every other once at most.
    pub fn check(&self, cluster: &Cluster) {
        let mut keys: HashMap<String, usize> = HashMap::new();
        for label in cluster.keys() {
            *keys.entry(label).or_default() += 1;
        }
        // A creation that was broken off may leave a key that has no name yet; SoftHSM, killed while
        // it writes one, even one that has no label.
        let nameless: usize = ["", PENDING].iter().filter_map(|label| keys.remove(*label)).sum();
        assert!(nameless <= self.unanswered + self.failures, "{nameless} nameless keys; {self}");
        assert!(!self.acknowledged.is_empty(), "no key was made");
        for label in &self.acknowledged {
            assert_eq!(keys.get(label), Some(&1), "`{label}` was acknowledged; {self}");
        }
        for (label, count) in keys {
            assert!(self.asked.contains(&label), "nobody has asked for `{label}`; {self}");
            assert_eq!(count, 1, "`{label}` was not acknowledged; {self}");
        }
    }

    /// Asserts that no client was kept waiting for longer.
    pub fn assert_answered_within(&self, limit: Duration) {
        let limit = if is_emulated() { limit * 10 } else { limit };
        assert!(self.slowest <= limit, "a client waited {:?}", self.slowest);
    }
}

impl std::fmt::Display for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { asked, acknowledged, failures, unanswered, slowest } = self;
        let (asked, acknowledged) = (asked.len(), acknowledged.len());
        write!(
            f,
            "{asked} keys asked for, {acknowledged} acknowledged, {failures} errors, \
             {unanswered} requests unanswered, {slowest:?} at most for an answer"
        )
    }
}

struct Over<'a>(&'a Load<'a>);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.over = true);
    }
}

const CLIENTS: usize = 4;
/// What enclave-app calls a key until it has its label.
const PENDING: &str = "(pending)";
/// What may be said when something is lost.
const HONEST: &[&str] =
    &["busy", "hsm-error", "hsm-unavailable", "secret-unavailable", "timed-out"];
