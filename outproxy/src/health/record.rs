//! What is known of one destination, and what may be tried when.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::announcer::{Announcement, Announcer};

/// How long after one that succeeded the next attempt is made, more or less.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// How long after the start, or after a reload that brought a destination, the first attempt is made,
/// at least; twice that, at most. Clients that are served meanwhile save it.
pub const FIRST_PROBE: Duration = Duration::from_secs(1);
/// How long after the failure that told that a destination is down the next attempt is made. It
/// doubles with each failure that follows.
pub const FIRST_BACKOFF: Duration = Duration::from_millis(250);
/// It is never more than this: a destination that is down is not asked less often than one that
/// is up.
pub const LONGEST_BACKOFF: Duration = INTERVAL;

/// How long after a client's attempt that was refused the next one may be made: it costs nobody any
/// time, and tells at once that the destination is back. After a probe that was, it is at once.
pub const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(100);

/// Whether a destination lets itself be connected.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It does not.
    Down,
    /// Nobody has tried yet.
    Unknown,
    /// It does.
    Up,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "down",
            Self::Unknown => "unknown",
            Self::Up => "up",
        })
    }
}

/// Everything about one destination. Time is what the caller says.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) state: State,
    /// Since when it is in this state; of an unknown one, in vain.
    pub(super) since: Instant,
    /// How long the last attempt took that succeeded.
    pub(super) latency: Option<Duration>,
    pub(super) last_failure: Option<Failure>,
    /// How many attempts have failed since it is down.
    failures: u32,
    last_success: Option<Instant>,
    /// Whether a probe or a trial is on its way: there is one at a time.
    is_busy: bool,
    /// When a client may try one that is down.
    trial_at: Instant,
    /// When a probe is due. Later than `trial_at`, so that whoever comes in time saves it.
    probe_at: Instant,
    announcer: Announcer,
}

/// What may be done with a destination.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Leave {
    /// To connect, as anybody may.
    Free,
    /// To connect alone, to see whether it is up again.
    Trial,
}

/// What went wrong with a destination most recently.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    pub(super) reason: Arc<str>,
    pub(super) at: Instant,
}

/// What a failure tells of the destination.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FailureKind {
    /// Nothing: it is this machine that lacks something.
    Local,
    /// It is down, and says so at once.
    Refused,
    /// It is down, and whoever tries has to wait.
    TimedOut,
    /// It is down, or not to be reached from here.
    Unreachable,
}

impl FailureKind {
    /// A word for metrics, one of few.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Refused => "refused",
            Self::TimedOut => "timed-out",
            Self::Unreachable => "unreachable",
        }
    }
}

impl Record {
    /// Nothing is known, and a probe is due soon.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: State::Unknown,
            since: now,
            latency: None,
            last_failure: None,
            failures: 0,
            last_success: None,
            is_busy: false,
            trial_at: now,
            probe_at: now + FIRST_PROBE.mul_f64(1.0 + fastrand::f64()),
            announcer: Announcer::new(now),
        }
    }

    /// When the next probe is due.
    pub(super) fn probe_at(&self) -> Instant {
        self.probe_at
    }

    /// What a client may do; nothing, while it is down.
    pub(super) fn admit(&mut self, now: Instant) -> Option<Leave> {
        if self.state != State::Down {
            return Some(Leave::Free);
        }
        let is_due = now >= self.trial_at && !self.is_busy;
        self.is_busy |= is_due;
        is_due.then_some(Leave::Trial)
    }

    /// Whether a probe is to be made now. It is not while a trial is on its way.
    pub(super) fn begin_probe(&mut self, now: Instant) -> bool {
        let is_due = now >= self.probe_at && !self.is_busy;
        self.is_busy |= is_due;
        is_due
    }

    /// A probe or a trial is over, whatever came of it.
    pub(super) fn release(&mut self) {
        self.is_busy = false;
    }

    /// An attempt that began then has succeeded now.
    pub(super) fn succeed(&mut self, began: Instant, now: Instant) -> Option<Announcement> {
        self.latency = Some(now.duration_since(began));
        self.last_success = Some(now);
        self.failures = 0;
        self.probe_at = now + INTERVAL.mul_f64(0.9 + fastrand::f64() / 5.0);
        self.turn(State::Up, now)
    }

    /// An attempt that began then, a probe or a client's, has failed now.
    pub(super) fn fail(
        &mut self,
        began: Instant,
        now: Instant,
        is_probe: bool,
        kind: FailureKind,
        reason: Arc<str>,
    ) -> Option<Announcement> {
        self.last_failure = Some(Failure { kind, reason, at: now });
        if kind == FailureKind::Local {
            let later = now + FIRST_BACKOFF;
            (self.trial_at, self.probe_at) = (self.trial_at.max(later), self.probe_at.max(later));
            return None;
        }
        let is_outdated = match self.state {
            // It was on its way already when the first one failed.
            State::Down => began < self.since,
            State::Unknown => false,
            // Others have got through meanwhile.
            State::Up => self.last_success.is_some_and(|success| success > began),
        };
        if is_outdated {
            return None;
        }
        let backoff = FIRST_BACKOFF.saturating_mul(1 << self.failures.min(10)).min(LONGEST_BACKOFF);
        self.failures = self.failures.saturating_add(1);
        let pause = match kind {
            FailureKind::Refused if is_probe => Duration::ZERO,
            FailureKind::Refused => PAUSE_AFTER_REFUSAL,
            _ => backoff,
        };
        self.trial_at = now + pause;
        self.probe_at = now + backoff.mul_f64(1.0 + fastrand::f64() / 4.0);
        self.turn(State::Down, now)
    }

    /// What changed without a line in the log, once there may be one again.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<Announcement> {
        self.announcer.overdue(now)
    }

    fn turn(&mut self, state: State, now: Instant) -> Option<Announcement> {
        if self.state == state {
            return None;
        }
        (self.state, self.since) = (state, now);
        self.announcer.changed(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fail(record: &mut Record, began: Instant, now: Instant, kind: FailureKind) {
        record.fail(began, now, false, kind, "it failed".into());
    }

    /// One that was up for a second and is down since then.
    fn down(kind: FailureKind) -> (Record, Instant) {
        let start = Instant::now();
        let mut record = Record::new(start);
        record.succeed(start, start);
        fail(&mut record, start + SECOND, start + SECOND, kind);
        (record, start + SECOND)
    }

    #[test]
    fn until_something_is_known_everybody_may_connect() {
        let start = Instant::now();
        let mut record = Record::new(start);
        for _ in 0..3 {
            assert_eq!(record.admit(start), Some(Leave::Free));
        }
        assert!(!record.begin_probe(start + FIRST_PROBE / 2));
        assert!(record.begin_probe(start + FIRST_PROBE * 2));
        assert!(!record.begin_probe(start + FIRST_PROBE * 2));
        assert_eq!(record.admit(start + FIRST_PROBE * 2), Some(Leave::Free));
    }

    #[test]
    fn a_silence_grows_with_each_failure_and_jitters_only_for_probes() {
        let (mut record, mut now) = down(FailureKind::TimedOut);
        for backoff in [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
            let backoff = Duration::from_millis(backoff);
            assert_eq!(record.trial_at, now + backoff);
            let probe_after = record.probe_at - now;
            assert!((backoff..=backoff * 5 / 4).contains(&probe_after), "{probe_after:?}");
            now += backoff;
            assert_eq!(record.admit(now - Duration::from_nanos(1)), None);
            assert_eq!(record.admit(now), Some(Leave::Trial));
            assert_eq!(record.admit(now), None);
            assert!(!record.begin_probe(record.probe_at));
            fail(&mut record, now, now + SECOND, FailureKind::TimedOut);
            record.release();
            now += SECOND;
        }
    }

    #[test]
    fn a_refusal_costs_clients_nothing_so_they_may_try_soon() {
        let (mut record, mut now) = down(FailureKind::Refused);
        for _ in 0..10 {
            assert_eq!(record.trial_at, now + PAUSE_AFTER_REFUSAL);
            now = record.probe_at;
            record.fail(now, now, true, FailureKind::Refused, "refused".into());
            assert_eq!(record.admit(now), Some(Leave::Trial));
            assert_eq!(record.admit(now), None);
            fail(&mut record, now, now, FailureKind::Refused);
            record.release();
            assert_eq!(record.admit(now), None);
        }
        assert!(record.probe_at >= now + LONGEST_BACKOFF);
    }

    #[test]
    fn those_who_were_on_their_way_count_as_one() {
        let (mut record, since) = down(FailureKind::TimedOut);
        let trial_at = record.trial_at;
        for late in 1..1000 {
            let began = since - Duration::from_millis(1);
            fail(&mut record, began, since + late * SECOND, FailureKind::TimedOut);
        }
        assert_eq!((record.failures, record.trial_at), (1, trial_at));
    }

    #[test]
    fn one_who_waited_in_vain_is_not_believed_when_others_got_through() {
        let start = Instant::now();
        let mut record = Record::new(start);
        record.succeed(start + SECOND, start + SECOND);
        fail(&mut record, start, start + 5 * SECOND, FailureKind::TimedOut);
        assert_eq!(record.state, State::Up);
        fail(&mut record, start + 2 * SECOND, start + 7 * SECOND, FailureKind::TimedOut);
        assert_eq!(record.state, State::Down);
    }

    #[test]
    fn what_this_machine_lacks_says_nothing_of_a_destination() {
        let start = Instant::now();
        let mut record = Record::new(start);
        fail(&mut record, start, start, FailureKind::Local);
        assert_eq!(record.state, State::Unknown);
        record.succeed(start, start + SECOND);
        let due = record.probe_at;
        fail(&mut record, due, due, FailureKind::Local);
        assert_eq!((record.state, record.probe_at), (State::Up, due + FIRST_BACKOFF));
        assert_eq!(record.last_failure.unwrap().kind, FailureKind::Local);

        let (mut record, since) = down(FailureKind::TimedOut);
        assert_eq!(record.admit(since + SECOND), Some(Leave::Trial));
        fail(&mut record, since + SECOND, since + SECOND, FailureKind::Local);
        record.release();
        assert_eq!((record.state, record.failures), (State::Down, 1));
        assert_eq!(record.admit(since + SECOND), None);
        assert_eq!(record.admit(since + SECOND + FIRST_BACKOFF), Some(Leave::Trial));
    }

    #[test]
    fn a_success_forgets_the_backoff() {
        let (mut record, mut now) = down(FailureKind::TimedOut);
        for _ in 0..9 {
            now = record.probe_at;
            fail(&mut record, now, now, FailureKind::TimedOut);
        }
        record.succeed(now, now + SECOND);
        assert_eq!((record.state, record.latency), (State::Up, Some(SECOND)));
        fail(&mut record, now + 2 * SECOND, now + 2 * SECOND, FailureKind::TimedOut);
        assert_eq!(record.trial_at, now + 2 * SECOND + FIRST_BACKOFF);
    }
}
