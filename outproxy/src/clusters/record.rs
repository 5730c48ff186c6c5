//! What is known of one cluster. Time is what the caller says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::answer::{Fault, FaultKind, Hsm, Listed, Members};

/// Everything about one cluster.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// As AWS told last; nothing before it has told anything.
    pub(super) members: Option<Members>,
    /// Since when those that drain are in no answer any more.
    gone: BTreeMap<IpAddr, Instant>,
    /// What the last answer had that was not believed.
    pub(super) skipped: BTreeSet<Box<str>>,
    pub(super) answered_at: Option<Instant>,
    pub(super) last_fault: Option<(Fault, Instant)>,
    /// Whether AWS was asked in vain most recently.
    pub(super) is_failing: bool,
    /// How often it was.
    pub(super) failures: u64,
    /// How often it was not.
    pub(super) answers: u64,
}

/// What an answer has changed, for the log.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct News {
    pub(super) allowed: Vec<IpAddr>,
    pub(super) draining: Vec<IpAddr>,
    pub(super) gone: Vec<IpAddr>,
    pub(super) skipped: Vec<Box<str>>,
    /// AWS answers, or does no more.
    pub(super) is_turn: bool,
    /// What decides about connections is another than before.
    pub(super) is_change: bool,
}

impl Record {
    /// AWS was asked. What it has once said holds until it says something else.
    pub(super) fn take(
        &mut self,
        answer: Result<&[Hsm], &Fault>,
        now: Instant,
        grace: Duration,
    ) -> News {
        let before = (self.is_failing, self.answers + self.failures > 0);
        let mut news = match answer {
            Ok(hsms) => {
                self.answers += 1;
                self.answered_at = Some(now);
                self.set(hsms, now, grace)
            }
            Err(fault) => {
                self.failures += 1;
                self.last_fault = Some((fault.clone(), now));
                // What is not there has no HSMs, and their addresses may be somebody else's.
                let is_answer = fault.kind == FaultKind::NoCluster;
                if is_answer { self.set(&[], now, grace) } else { News::default() }
            }
        };
        self.is_failing = answer.is_err();
        news.is_turn = before != (self.is_failing, true);
        news
    }

    fn set(&mut self, hsms: &[Hsm], now: Instant, grace: Duration) -> News {
        let Listed { mut members, skipped } = Listed::new(hsms);
        let before = self.members.take();
        let is_first = before.is_none();
        let before = before.unwrap_or_default();
        let is_listed = |ip: &IpAddr| members.allowed.contains(ip) || members.draining.contains(ip);
        self.gone.retain(|ip, _| !is_listed(ip));
        for ip in before.allowed.iter().chain(&before.draining).filter(|ip| !is_listed(ip)) {
            self.gone.entry(*ip).or_insert(now);
        }
        members.draining.extend(self.gone.keys());
        let new = |now: &BTreeSet<IpAddr>, before: &BTreeSet<IpAddr>| {
            now.difference(before).copied().collect()
        };
        let mut news = News {
            allowed: new(&members.allowed, &before.allowed),
            draining: new(&members.draining, &before.draining),
            skipped: skipped.difference(&self.skipped).cloned().collect(),
            is_change: is_first || members != before,
            ..News::default()
        };
        (self.members, self.skipped) = (Some(members), skipped);
        news.gone = self.expire(now, grace);
        news.is_change |= !news.gone.is_empty();
        news
    }

    /// Forgets those that have been in no answer for `grace`, and says which.
    pub(super) fn expire(&mut self, now: Instant, grace: Duration) -> Vec<IpAddr> {
        let is_over = |since: &Instant| now.saturating_duration_since(*since) >= grace;
        let gone: Vec<_> = self.gone.extract_if(.., |_, since| is_over(since)).collect();
        let gone: Vec<_> = gone.into_iter().map(|(ip, _)| ip).collect();
        if let Some(members) = &mut self.members {
            members.draining.retain(|ip| !gone.contains(ip));
        }
        gone
    }

    /// When there is something to be forgotten.
    pub(super) fn next_expiry(&self, grace: Duration) -> Option<Instant> {
        self.gone.values().min().map(|since| *since + grace)
    }
}
