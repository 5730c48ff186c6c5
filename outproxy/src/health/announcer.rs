//! When a change is worth a line in the log.

use std::time::Duration;

use tokio::time::Instant;

/// Admits a line for each change, unless there are very many.
#[derive(Debug)]
pub(super) struct Announcer {
    /// When all lines that were admitted are paid for.
    paid_at: Instant,
    unannounced: u32,
}

/// A line to be logged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Announcement {
    /// How many changes there were since the last one.
    pub(super) changes: u32,
}

impl Announcer {
    pub(super) fn new(now: Instant) -> Self {
        Self { paid_at: now, unannounced: 0 }
    }

    /// There was a change.
    pub(super) fn changed(&mut self, now: Instant) -> Option<Announcement> {
        self.unannounced = self.unannounced.saturating_add(1);
        self.overdue(now)
    }

    /// What was not admitted before, and is now.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<Announcement> {
        let debt = self.paid_at.saturating_duration_since(now);
        if self.unannounced == 0 || debt > PRICE * (BURST - 1) {
            return None;
        }
        self.paid_at = now + debt + PRICE;
        Some(Announcement { changes: std::mem::take(&mut self.unannounced) })
    }
}

/// One line in so much time.
const PRICE: Duration = Duration::from_secs(15);
/// So many at once: to go down, come back, and once more.
const BURST: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_changes_have_a_line_each() {
        let now = Instant::now();
        let mut announcer = Announcer::new(now);
        for _ in 0..BURST {
            assert_eq!(announcer.changed(now), Some(Announcement { changes: 1 }));
        }
        assert_eq!(announcer.changed(now), None);
        assert_eq!(announcer.changed(now + PRICE), Some(Announcement { changes: 2 }));
        assert_eq!(announcer.overdue(now + PRICE * 100), None);
    }

    #[test]
    fn one_that_flaps_has_a_line_now_and_then_that_counts_the_others() {
        let start = Instant::now();
        let mut announcer = Announcer::new(start);
        let flaps = PRICE.as_secs() * 100;
        let lines: Vec<_> = (0..flaps)
            .filter_map(|second| announcer.changed(start + Duration::from_secs(second)))
            .collect();
        assert!((100..=100 + BURST as usize).contains(&lines.len()), "{}", lines.len());
        let last = announcer.overdue(start + Duration::from_secs(flaps) + PRICE);
        let told: u32 = lines.iter().chain(&last).map(|line| line.changes).sum();
        assert_eq!(u64::from(told), flaps);
    }
}
