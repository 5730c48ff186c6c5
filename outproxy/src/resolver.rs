//! From names to addresses.
//!
//! A name that is in the hosts file of this machine has the addresses that stand there; others
//! are asked of name servers, as they are written, without search domains. Both families are
//! asked at once and answer on their own, so that a name server that ignores one of them does
//! not hold up the other.

mod error;
mod memory;
mod query;
mod servers;

use std::collections::HashMap;
use std::fmt;
use std::future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hickory_resolver::net::NetError;
use metrics::{Counter, Histogram, counter, histogram};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tunnel::host::DnsName;
use tunnel::log_limit::count_suppressed;
use tunnel::metrics as names;

pub use self::error::DnsError;
use self::memory::{Change, Memory, Recall};
use self::query::{Ask, NameServers, Question, Reply};
pub use self::servers::{ask_server, first_to_ask, system_servers};

/// How long the name servers have to answer a question, with all retries.
pub const BUDGET: Duration = Duration::from_secs(3);
/// How long a good answer is used after its TTL, if it can't be refreshed.
pub const LAST_GOOD: Duration = Duration::from_secs(60 * 60);
/// How long a refresh may keep a client waiting before the last good answer is used (the client
/// response timer of RFC 8767 section 5). The refresh goes on behind.
pub const PATIENCE: Duration = Duration::from_millis(1800);

/// The addresses of a name in one family, of which there is at least one.
pub type Answer = Result<Arc<[IpAddr]>, DnsError>;

/// A family of addresses.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Family {
    /// IPv4, and A records.
    V4,
    /// IPv6, and AAAA records.
    V6,
}

impl Family {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// Resolves names, remembers the answers, and keeps the last good one for bad times.
///
/// Lookups of one name share one query. A query goes on when nobody waits for it any more, within
/// its budget, so that the next lookup has the answer; it ends with the last clone of the
/// resolver.
#[derive(Clone, Debug)]
pub struct Resolver(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    servers: Box<dyn Ask>,
    budget: Duration,
    state: Arc<Mutex<State>>,
    queries: Mutex<JoinSet<()>>,
    stale_answers: Counter,
    seconds: Histogram,
}

#[derive(Debug)]
struct State {
    memory: Memory,
    in_flight: HashMap<Question, Pending>,
    warnings: Warnings,
}

/// What a query will bring; [`None`] as long as it is under way.
type Pending = watch::Receiver<Option<Result<Reply, DnsError>>>;

impl Resolver {
    /// Asks the name servers at these addresses, or else those of resolv.conf(5).
    ///
    /// The hosts file is read now, and resolv.conf before the first query, or if there is no name
    /// server in it, before a later one. Neither is read again: that takes a reload.
    #[must_use]
    pub fn new(servers: Option<Vec<SocketAddr>>) -> Self {
        Self::with_budget(servers, BUDGET)
    }

    /// Like [`Self::new`], with another time limit for queries than [`BUDGET`].
    #[must_use]
    pub fn with_budget(servers: Option<Vec<SocketAddr>>, budget: Duration) -> Self {
        Self::of(NameServers::new(servers, budget), budget, Memory::default())
    }

    /// The resolver after a reload. It asks anew for every name, and falls back to the last good
    /// answers that this one knows.
    #[must_use]
    pub fn reloaded(&self, servers: Option<Vec<SocketAddr>>) -> Self {
        let memory = lock(&self.0.state).memory.last_good(Instant::now());
        Self::of(NameServers::new(servers, self.0.budget), self.0.budget, memory)
    }

    fn of(servers: impl Ask + 'static, budget: Duration, memory: Memory) -> Self {
        Self(Arc::new(Inner {
            servers: Box::new(servers),
            budget,
            state: Arc::new(Mutex::new(State {
                memory,
                in_flight: HashMap::new(),
                warnings: Warnings::default(),
            })),
            queries: Mutex::default(),
            stale_answers: counter!(names::DNS_STALE_ANSWERS),
            seconds: histogram!(names::DNS_SECONDS),
        }))
    }

    /// Looks up both families of a name. Runs on the Tokio runtime of the caller.
    #[must_use]
    pub fn lookup(&self, name: &DnsName) -> Lookup {
        let [v6, v4] = [Family::V6, Family::V4]
            .map(|family| self.find(Question { name: name.clone(), family }));
        Lookup { v6, v4 }
    }

    fn find(&self, question: Question) -> Half {
        let mut state = lock(&self.0.state);
        match state.memory.recall(&question, Instant::now()) {
            Recall::Known(answer) => Half::Ready(answer),
            Recall::Stale { addresses, due } => {
                if due {
                    self.query(&mut state, question);
                }
                self.0.stale_answers.increment(1);
                Half::Ready(Ok(addresses))
            }
            Recall::Unknown { last_good } => {
                let pending = self.query(&mut state, question.clone());
                Half::Waiting(Box::pin(self.clone().wait(question, pending, last_good)))
            }
        }
    }

    /// The query for a question that is under way, or a new one.
    fn query(&self, state: &mut State, question: Question) -> Option<Pending> {
        // The sender is gone without a word only if the query panicked.
        let under_way = state.in_flight.get(&question);
        if let Some(pending) = under_way.filter(|pending| pending.has_changed().is_ok()) {
            return Some(pending.clone());
        }
        if under_way.is_none() && state.in_flight.len() >= IN_FLIGHT {
            return None;
        }
        let (sender, pending) = watch::channel(None);
        state.in_flight.insert(question.clone(), pending.clone());

        let asked = timeout(self.0.budget, self.0.servers.ask(&question));
        let (budget, state) = (self.0.budget, Arc::clone(&self.0.state));
        let seconds = self.0.seconds.clone();
        let mut queries = self.0.queries.lock().unwrap_or_else(PoisonError::into_inner);
        while queries.try_join_next().is_some() {}
        let query = async move {
            let begun = Instant::now();
            let result = asked.await.unwrap_or_else(|_| {
                Err(DnsError::TimedOut { name: question.name.clone(), after: budget })
            });
            match &result {
                Ok(_) => seconds.record(begun.elapsed()),
                Err(DnsError::TimedOut { .. }) => count_failure("timed-out"),
                Err(_) => count_failure("failed"),
            }
            lock(&state).finish(&question, &result);
            sender.send_replace(Some(result));
        };
        queries.spawn(query);
        Some(pending)
    }

    /// Waits for a query: with a last good answer in hand not for long, else for as long as the
    /// query takes.
    async fn wait(
        self,
        Question { name, .. }: Question,
        pending: Option<Pending>,
        last_good: Option<Arc<[IpAddr]>>,
    ) -> Answer {
        let after = if last_good.is_some() { PATIENCE } else { self.0.budget };
        let result = match pending {
            None => {
                count_failure("busy");
                Err(DnsError::failed(&name, NetError::Busy))
            }
            Some(mut pending) => match timeout(after, pending.wait_for(Option::is_some)).await {
                Err(_) => Err(DnsError::TimedOut { name, after }),
                Ok(result) => result.ok().and_then(|result| result.clone()).unwrap_or_else(|| {
                    Err(DnsError::failed(&name, NetError::Message("the query was given up")))
                }),
            },
        };
        match (result, last_good) {
            (Ok(reply), _) => reply.answer,
            (Err(_), Some(addresses)) => {
                self.0.stale_answers.increment(1);
                Ok(addresses)
            }
            (Err(error), None) => Err(error),
        }
    }
}

impl State {
    fn finish(&mut self, question: &Question, result: &Result<Reply, DnsError>) {
        self.in_flight.remove(question);
        let (now, Question { name, family }) = (Instant::now(), question);
        match (self.memory.learn(question, result, now), result) {
            (Some(Change::BecameStale), Err(error)) => {
                if let Some(suppressed) = self.warnings.admit(now) {
                    tracing::warn!(
                        %name, ?family, %error, suppressed,
                        "failed to refresh the addresses of a name; its last good ones are used"
                    );
                }
            }
            (Some(Change::Recovered), _) => {
                tracing::debug!(%name, ?family, "the addresses of a name are fresh again");
            }
            _ => {}
        }
    }
}

/// The addresses of a name, as they come.
pub struct Lookup {
    v6: Half,
    v4: Half,
}

enum Half {
    Done,
    Ready(Answer),
    Waiting(BoxFuture<'static, Answer>),
}

impl Lookup {
    #[cfg(test)]
    pub(crate) fn new(
        v6: impl Future<Output = Answer> + Send + 'static,
        v4: impl Future<Output = Answer> + Send + 'static,
    ) -> Self {
        Self { v6: Half::Waiting(Box::pin(v6)), v4: Half::Waiting(Box::pin(v4)) }
    }

    /// The next family that answers, each once; IPv6 before IPv4 if both are there.
    ///
    /// Nothing is lost when the future is dropped before it is ready.
    pub async fn next(&mut self) -> Option<(Family, Answer)> {
        if matches!((&self.v6, &self.v4), (Half::Done, Half::Done)) {
            return None;
        }
        tokio::select! {
            biased;
            answer = self.v6.take() => Some((Family::V6, answer)),
            answer = self.v4.take() => Some((Family::V4, answer)),
        }
    }

    /// Whether this family has yet to answer.
    #[must_use]
    pub fn awaits(&self, family: Family) -> bool {
        let half = match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        !matches!(half, Half::Done)
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup")
            .field("awaits_v6", &self.awaits(Family::V6))
            .field("awaits_v4", &self.awaits(Family::V4))
            .finish()
    }
}

impl Half {
    async fn take(&mut self) -> Answer {
        let answer = match self {
            Self::Done => future::pending().await,
            Self::Ready(answer) => answer.clone(),
            Self::Waiting(answer) => answer.await,
        };
        *self = Self::Done;
        answer
    }
}

/// Lets one warning through at a time, and counts the others: an enclave chooses the names under
/// a permitted `*.suffix`, and so could choose how much is logged.
#[derive(Debug, Default)]
struct Warnings {
    next: Option<Instant>,
    suppressed: u64,
}

impl Warnings {
    /// How many warnings were suppressed before this one, or [`None`] if it is one of them.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.next.is_some_and(|next| now < next) {
            self.suppressed += 1;
            count_suppressed(1);
            return None;
        }
        self.next = Some(now + WARNING_INTERVAL);
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// A question was not answered, for one of the reasons of the catalogue.
fn count_failure(reason: &'static str) {
    counter!(names::DNS_FAILURES, "reason" => reason).increment(1);
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many queries may be under way, since each costs a descriptor.
const IN_FLIGHT: usize = 256;
/// How much time passes at least between two warnings.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
