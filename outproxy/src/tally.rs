//! What is remembered of connections that are over: how many, and the last error of each
//! destination.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use tunnel::destination::Destination;

use crate::allowlist::RuleName;
use crate::outcomes::Outcomes;

/// How many destinations are remembered with their last error.
pub const MOST_DESTINATIONS: usize = 256;

/// Connections by their outcome, and errors by their destination.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many are over.
    pub outcomes: Outcomes,
    errors: HashMap<Destination, LastError>,
    next_order: u64,
}

/// What went wrong with a destination most recently.
#[derive(Clone, Debug)]
pub struct LastError {
    /// The rule that allows the destination, if one does.
    pub rule: Option<RuleName>,
    /// One of few words.
    pub outcome: &'static str,
    /// What happened.
    pub reason: String,
    /// When, in seconds since 1970 (UTC).
    pub time: u64,
    order: u64,
}

impl Tally {
    /// Remembers what went wrong with `destination` just now.
    ///
    /// With too many destinations the oldest is forgotten, and one that no rule allows before one
    /// that a rule does: an enclave may ask for what it likes, and hides no outage by that.
    pub fn fail(
        &mut self,
        destination: &Destination,
        rule: Option<&RuleName>,
        outcome: &'static str,
        reason: String,
    ) {
        let order = self.next_order;
        self.next_order += 1;
        let error =
            LastError { rule: rule.cloned(), outcome, reason, time: seconds_since_1970(), order };
        self.errors.insert(destination.clone(), error);
        if self.errors.len() > MOST_DESTINATIONS {
            let least =
                self.errors.iter().min_by_key(|(_, error)| (error.rule.is_some(), error.order));
            if let Some(destination) = least.map(|(destination, _)| destination.clone()) {
                self.errors.remove(&destination);
            }
        }
    }

    /// The last error of each destination, the most recent first.
    #[must_use]
    pub fn errors(&self) -> Vec<(&Destination, &LastError)> {
        let mut errors: Vec<_> = self.errors.iter().collect();
        errors.sort_unstable_by_key(|(_, error)| std::cmp::Reverse(error.order));
        errors
    }
}

/// The time now; 0 while the clock is set before 1970.
#[must_use]
pub fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// When that was, by the clock as it is now: it may have been set meanwhile.
#[must_use]
pub fn seconds_at(then: Instant) -> u64 {
    seconds_since_1970().saturating_sub(then.elapsed().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(tally: &mut Tally, host: usize, rule: Option<&str>) {
        let destination = format!("host{host}.example:443").parse().unwrap();
        let rule = rule.map(|rule| rule.parse().unwrap());
        tally.fail(&destination, rule.as_ref(), "unreachable", "no".into());
    }

    fn remembers(tally: &Tally, host: usize) -> bool {
        let destination = format!("host{host}.example:443").parse::<Destination>().unwrap();
        tally.errors.contains_key(&destination)
    }

    #[test]
    fn the_oldest_destination_is_forgotten() {
        let mut tally = Tally::default();
        (0..MOST_DESTINATIONS).for_each(|host| fail(&mut tally, host, Some("hsm")));
        // It is no longer the oldest.
        fail(&mut tally, 0, Some("hsm"));
        fail(&mut tally, MOST_DESTINATIONS, Some("hsm"));
        assert_eq!(tally.errors().len(), MOST_DESTINATIONS);
        assert!(remembers(&tally, 0) && !remembers(&tally, 1) && remembers(&tally, 2));
        assert_eq!(tally.errors()[1].0.to_string(), "host0.example:443");
    }

    #[test]
    fn what_nobody_allows_hides_no_outage() {
        let mut tally = Tally::default();
        fail(&mut tally, 0, Some("hsm"));
        (1..=2 * MOST_DESTINATIONS).for_each(|host| fail(&mut tally, host, None));
        assert_eq!(tally.errors().len(), MOST_DESTINATIONS);
        assert!(remembers(&tally, 0) && remembers(&tally, 2 * MOST_DESTINATIONS));
    }
}
