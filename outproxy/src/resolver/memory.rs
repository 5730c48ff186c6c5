//! What is remembered of names, and for how long.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::query::{Question, Reply};
use super::{Answer, DnsError, LAST_GOOD};

/// The answers of name servers, and their failures to answer.
///
/// An answer is used for as long as its TTL says. An answer with addresses is kept for
/// [`LAST_GOOD`] longer, for when its refresh fails: stale bread is better than no bread (RFC
/// 8767). That a name does not exist, or has no address, is an answer too and replaces an earlier
/// one: whoever removes a name wants it to be gone.
///
/// After a failure nobody asks again for [`RETRY`], as RFC 9520 demands: else every connection
/// would wait out the full budget while the name servers are away.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: HashMap<Question, Entry>,
}

/// What is known about a question.
#[derive(Debug)]
pub(super) enum Recall {
    /// The answer, or the failure to get one that was moments ago.
    Known(Answer),
    /// The last good answer, since its refresh failed. If `due`, it is time to try again.
    Stale { addresses: Arc<[IpAddr]>, due: bool },
    /// Nothing that still holds; the last good answer may stand in if asking fails.
    Unknown { last_good: Option<Arc<[IpAddr]>> },
}

/// What a reply, or its absence, changed.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// The last good answer is used from now on.
    BecameStale,
    /// It is no longer used.
    Recovered,
}

#[derive(Debug)]
struct Entry {
    answer: Option<Fact>,
    failure: Option<Failure>,
}

#[derive(Clone, Debug)]
struct Fact {
    answer: Answer,
    fresh_until: Instant,
}

#[derive(Debug)]
struct Failure {
    error: DnsError,
    retry_at: Instant,
}

impl Memory {
    /// What is known at `now`.
    pub(super) fn recall(&self, question: &Question, now: Instant) -> Recall {
        let Some(entry) = self.entries.get(question) else {
            return Recall::Unknown { last_good: None };
        };
        if let Some(fact) = &entry.answer
            && now < fact.fresh_until
        {
            return Recall::Known(fact.answer.clone());
        }
        let last_good = entry.last_good(now);
        match (&entry.failure, last_good) {
            (Some(failure), Some(addresses)) => {
                Recall::Stale { addresses, due: failure.retry_at <= now }
            }
            (Some(failure), None) if now < failure.retry_at => {
                Recall::Known(Err(failure.error.clone()))
            }
            (_, last_good) => Recall::Unknown { last_good },
        }
    }

    /// Takes note of what asking at `now` brought.
    pub(super) fn learn(
        &mut self,
        question: &Question,
        result: &Result<Reply, DnsError>,
        now: Instant,
    ) -> Option<Change> {
        let known = self.entries.get(question);
        let was_failing = known.is_some_and(|entry| entry.failure.is_some());
        let last_good = known.and_then(|entry| entry.last_good(now)).is_some();
        let entry = match result {
            Ok(Reply { answer, ttl }) => {
                let fresh_until = now + (*ttl).clamp(SHORTEST, LONGEST);
                Entry { answer: Some(Fact { answer: answer.clone(), fresh_until }), failure: None }
            }
            Err(error) => Entry {
                answer: known.filter(|_| last_good).and_then(|entry| entry.answer.clone()),
                failure: Some(Failure { error: error.clone(), retry_at: now + RETRY }),
            },
        };
        if known.is_none() {
            self.make_room(now);
        }
        self.entries.insert(question.clone(), entry);
        match (result, last_good, was_failing) {
            (Err(_), true, false) => Some(Change::BecameStale),
            (Ok(_), true, true) => Some(Change::Recovered),
            _ => None,
        }
    }

    /// The last good answers alone, none of which is fresh: what a reload hands on.
    pub(super) fn last_good(&self, now: Instant) -> Self {
        let keep = |(question, entry): (&Question, &Entry)| {
            entry.last_good(now)?;
            let fact = entry.answer.clone()?;
            let fresh_until = fact.fresh_until.min(now);
            Some((
                question.clone(),
                Entry { answer: Some(Fact { fresh_until, ..fact }), failure: None },
            ))
        };
        Self { entries: self.entries.iter().filter_map(keep).collect() }
    }

    /// Keeps the number of names bounded, since a permitted `*.suffix` lets an enclave choose
    /// them. What is forgotten is what is useless soonest: refusals before addresses.
    fn make_room(&mut self, now: Instant) {
        if self.entries.len() < ENTRIES {
            return;
        }
        self.entries.retain(|_, entry| entry.useful_until().is_some_and(|until| now < until));
        if self.entries.len() < ENTRIES {
            return;
        }
        let soonest = self.entries.iter().min_by_key(|(_, entry)| entry.useful_until());
        if let Some(question) = soonest.map(|(question, _)| question.clone()) {
            self.entries.remove(&question);
        }
    }
}

impl Entry {
    fn last_good(&self, now: Instant) -> Option<Arc<[IpAddr]>> {
        let fact = self.answer.as_ref().filter(|fact| now < fact.useful_until())?;
        fact.answer.as_ref().ok().cloned()
    }

    fn useful_until(&self) -> Option<Instant> {
        let answer = self.answer.iter().map(Fact::useful_until);
        let failure = self.failure.iter().map(|failure| failure.retry_at);
        answer.chain(failure).max()
    }
}

impl Fact {
    fn useful_until(&self) -> Instant {
        match self.answer {
            Ok(_) => self.fresh_until + LAST_GOOD,
            Err(_) => self.fresh_until,
        }
    }
}

/// How many names are remembered, counted once for each family.
const ENTRIES: usize = 4096;
/// How long nobody asks again after a failure. RFC 9520 section 3.2: one second to five minutes.
const RETRY: Duration = Duration::from_secs(5);
/// The bounds of a TTL. A TTL of zero must not mean a query for each connection of a storm, and
/// a mistake must not last for a week.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::Family;

    const TTL: Duration = Duration::from_secs(60);

    fn question(name: &str) -> Question {
        Question { name: name.parse().unwrap(), family: Family::V4 }
    }

    fn found(ttl: Duration) -> Result<Reply, DnsError> {
        Ok(Reply { answer: Ok([IpAddr::from([10, 0, 10, 103])].into()), ttl })
    }

    fn not_found(ttl: Duration) -> Result<Reply, DnsError> {
        Ok(Reply { answer: Err(DnsError::NotFound(question("a.test").name)), ttl })
    }

    fn timed_out() -> Result<Reply, DnsError> {
        Err(DnsError::TimedOut { name: question("a.test").name, after: TTL })
    }

    /// A memory with a good answer that holds until the instant returned.
    fn with_good_answer() -> (Memory, Question, Instant) {
        let (mut memory, question, now) = (Memory::default(), question("a.test"), Instant::now());
        assert_eq!(memory.learn(&question, &found(TTL), now), None);
        (memory, question, now + TTL)
    }

    #[test]
    fn an_answer_holds_as_long_as_its_ttl() {
        let (memory, question, expiry) = with_good_answer();
        let just_before = expiry.checked_sub(Duration::from_nanos(1)).unwrap();
        assert!(matches!(memory.recall(&question, just_before), Recall::Known(Ok(_))));
        let Recall::Unknown { last_good: Some(addresses) } = memory.recall(&question, expiry)
        else {
            panic!("the answer held for too long, or was forgotten");
        };
        assert_eq!(*addresses, [IpAddr::from([10, 0, 10, 103])]);
    }

    #[test]
    fn a_ttl_is_bounded_on_both_sides() {
        for (ttl, holds) in [(Duration::ZERO, SHORTEST), (Duration::MAX, LONGEST)] {
            let (mut memory, question, now) =
                (Memory::default(), question("a.test"), Instant::now());
            memory.learn(&question, &found(ttl), now);
            let just_before = now + holds.checked_sub(Duration::from_nanos(1)).unwrap();
            assert!(matches!(memory.recall(&question, just_before), Recall::Known(_)));
            assert!(matches!(memory.recall(&question, now + holds), Recall::Unknown { .. }));
        }
    }

    #[test]
    fn the_last_good_answer_stands_in_for_an_hour_of_failures() {
        let (mut memory, question, expiry) = with_good_answer();
        assert_eq!(memory.learn(&question, &timed_out(), expiry), Some(Change::BecameStale));
        assert!(matches!(memory.recall(&question, expiry), Recall::Stale { due: false, .. }));
        let retry = expiry + RETRY;
        assert!(matches!(memory.recall(&question, retry), Recall::Stale { due: true, .. }));
        assert_eq!(memory.learn(&question, &timed_out(), retry), None, "one event, one report");

        let hour = expiry + LAST_GOOD;
        assert!(matches!(memory.recall(&question, hour), Recall::Unknown { last_good: None }));
        memory.learn(&question, &timed_out(), hour);
        assert!(matches!(memory.recall(&question, hour), Recall::Known(Err(_))));
    }

    #[test]
    fn a_good_answer_ends_the_failure() {
        let (mut memory, question, expiry) = with_good_answer();
        memory.learn(&question, &timed_out(), expiry);
        assert_eq!(memory.learn(&question, &found(TTL), expiry + RETRY), Some(Change::Recovered));
        assert!(matches!(memory.recall(&question, expiry + RETRY), Recall::Known(Ok(_))));
    }

    #[test]
    fn that_a_name_is_gone_replaces_its_addresses() {
        let (mut memory, question, expiry) = with_good_answer();
        memory.learn(&question, &not_found(TTL), expiry);
        let known = memory.recall(&question, expiry);
        assert!(matches!(known, Recall::Known(Err(DnsError::NotFound(_)))));
        memory.learn(&question, &timed_out(), expiry + TTL);
        let known = memory.recall(&question, expiry + TTL);
        assert!(matches!(known, Recall::Known(Err(DnsError::TimedOut { .. }))), "{known:?}");
    }

    #[test]
    fn a_failure_without_an_earlier_answer_is_not_asked_about_at_once() {
        let (mut memory, question, now) = (Memory::default(), question("a.test"), Instant::now());
        memory.learn(&question, &timed_out(), now);
        assert!(matches!(memory.recall(&question, now), Recall::Known(Err(_))));
        assert!(matches!(memory.recall(&question, now + RETRY), Recall::Unknown { .. }));
    }

    #[test]
    fn a_reload_hands_on_addresses_but_asks_again() {
        let (mut memory, question, _) = with_good_answer();
        let gone = Question { name: "b.test".parse().unwrap(), ..question.clone() };
        let now = Instant::now();
        memory.learn(&gone, &not_found(TTL), now);
        let handed_on = memory.last_good(now);
        let known = handed_on.recall(&question, now);
        assert!(matches!(known, Recall::Unknown { last_good: Some(_) }), "{known:?}");
        assert_eq!(handed_on.entries.len(), 1);
    }

    #[test]
    fn a_flood_of_names_forgets_the_useless_first() {
        let (mut memory, good, _) = with_good_answer();
        let now = Instant::now();
        for i in 0..ENTRIES + 100 {
            memory.learn(&question(&format!("x{i}.test")), &not_found(TTL), now);
            assert!(memory.entries.len() <= ENTRIES);
        }
        assert!(matches!(memory.recall(&good, now), Recall::Known(Ok(_))));
    }
}
