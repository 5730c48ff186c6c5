//! What is in force, and when.

use super::super::plan::{Ms, NameServer, Plan, Policy, RAW_SITE, Site, To};
use super::super::record::Record;

/// The day as it was planned, and as it was seen.
pub(super) struct Model<'a> {
    pub(super) plan: &'a Plan,
    pub(super) record: &'a Record,
}

impl Model<'_> {
    /// The policy at a time, and the process that has it.
    pub(super) fn policy(&self, at: Ms) -> (usize, &Policy) {
        let known = self.record.policies.iter().rev().find(|(since, ..)| *since <= at);
        let (_, process, policy) = known.unwrap();
        (*process, policy)
    }

    /// Since when that policy is in force.
    pub(super) fn policy_since(&self, at: Ms) -> Ms {
        let known = self.record.policies.iter().rev().find(|(since, ..)| *since <= at);
        known.unwrap().0
    }

    /// Whether the operator does nothing from one time to another.
    pub(super) fn is_steady(&self, from: Ms, to: Ms) -> bool {
        let near = from.saturating_sub(TOLERANCE)..=to + TOLERANCE;
        let restarts = self.record.restarts.iter();
        let restarts = restarts.flat_map(|restart| [restart.closed, restart.bound]);
        let policies = self.record.policies.iter().map(|(at, ..)| *at).filter(|at| *at > 0);
        !restarts.chain(policies).any(|at| near.contains(&at))
    }

    /// From when on, at or after `from`, outproxy accepts those who want there.
    pub(super) fn accepts_from(&self, to: To, from: Ms) -> Option<Ms> {
        let mut at = from;
        loop {
            let down = |restart: &&super::super::record::Restart| {
                (restart.closed..restart.bound).contains(&at)
            };
            if let Some(restart) = self.record.restarts.iter().find(down) {
                at = restart.bound;
                if at == Ms::MAX {
                    return None;
                }
                continue;
            }
            if to != To::Raw || self.policy(at).1.sites[RAW_SITE] {
                return Some(at);
            }
            let later = self.record.policies.iter().map(|(since, ..)| *since);
            let closed = self.record.restarts.iter().map(|restart| restart.closed);
            at = later.chain(closed).filter(|since| *since > at).min()?;
        }
    }

    /// When outproxy ends what was opened at a time: since a reload no longer allows it, or since
    /// its process ends.
    pub(super) fn stops(&self, to: To, at: Ms) -> Option<Ms> {
        let (process, _) = self.policy(at);
        let disallowed = self
            .record
            .policies
            .iter()
            .find(|(since, of, policy)| *since > at && *of == process && !policy.allows(to))
            .map(|(since, ..)| *since);
        let restart = self.record.restarts.iter().find(|restart| restart.closed >= at);
        let cut_off = restart.map(|restart| restart.cut_off);
        disallowed.into_iter().chain(cut_off).min()
    }

    /// What a site is; [`None`] if it becomes something else just then.
    pub(super) fn site(&self, site: usize, from: Ms, to: Ms) -> Option<Site> {
        let changes = || self.record.sites.iter().filter(move |(_, of, _)| *of == site);
        let near = from.saturating_sub(TOLERANCE)..=to + TOLERANCE;
        if changes().any(|(at, ..)| *at > 0 && near.contains(at)) {
            return None;
        }
        changes().rev().find(|(at, ..)| *at <= from).map(|(.., kind)| *kind)
    }

    /// Whether the name server has answered at once from one time to another.
    pub(super) fn name_server_is_good(&self, from: Ms, to: Ms) -> bool {
        let changes = &self.record.name_server;
        let before = changes.iter().rev().find(|(at, _)| *at <= from).map(|(_, mode)| *mode);
        let between = changes.iter().filter(|(at, _)| (from..=to).contains(at));
        before
            .into_iter()
            .chain(between.map(|(_, mode)| *mode))
            .all(|mode| mode == NameServer::Good)
    }
}

/// How late may be on time: timers are rounded up to milliseconds, and some follow others.
pub(super) const TOLERANCE: Ms = 3;

/// A `max-connections` that a day may reach.
pub(super) const SMALL: usize = 1000;
