//! Log lines that somebody else can cause at any rate.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use metrics::counter;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::metrics as names;

/// Admits so many lines a second, and counts the others.
#[derive(Debug)]
pub struct LogLimit {
    lines_per_second: u32,
    left: AtomicU32,
    suppressed: AtomicU64,
    used: Notify,
}

impl LogLimit {
    /// Admits `lines_per_second`, as long as [`Self::refill`] runs.
    #[must_use]
    pub const fn new(lines_per_second: u32) -> Self {
        Self {
            lines_per_second,
            left: AtomicU32::new(lines_per_second),
            suppressed: AtomicU64::new(0),
            used: Notify::const_new(),
        }
    }

    /// Whether one more line may be logged now; if not, it is counted.
    pub fn admits(&self) -> bool {
        self.used.notify_one();
        let admitted = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok();
        if !admitted {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    /// Renews the right to log each second, and hands `report` how many lines there were too
    /// many. It wakes up only after lines were asked for.
    pub async fn refill(&self, report: impl Fn(u64)) -> ! {
        loop {
            self.used.notified().await;
            sleep(Duration::from_secs(1)).await;
            self.left.store(self.lines_per_second, Ordering::Relaxed);
            self.settle(&report);
        }
    }

    /// Hands `report` at once how many lines there were too many since it was told last.
    pub fn settle(&self, report: impl Fn(u64)) {
        match self.suppressed.swap(0, Ordering::Relaxed) {
            0 => {}
            suppressed => {
                count_suppressed(suppressed);
                report(suppressed);
            }
        }
    }
}

/// So many lines are not in the log, since there were too many of their kind.
pub fn count_suppressed(lines: u64) {
    counter!(names::LOG_LINES_MISSING, "cause" => "limit").increment(lines);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn every_line_is_either_admitted_or_reported() {
        let limit = Arc::new(LogLimit::new(3));
        let reported = Arc::new(AtomicU64::new(0));
        tokio::spawn({
            let (limit, reported) = (Arc::clone(&limit), Arc::clone(&reported));
            async move {
                let report = |n| {
                    reported.fetch_add(n, Ordering::Relaxed);
                };
                limit.refill(report).await;
            }
        });
        for _ in 0..5 {
            assert_eq!((0..10).filter(|_| limit.admits()).count(), 3);
            sleep(Duration::from_secs(2)).await;
        }
        assert_eq!(reported.load(Ordering::Relaxed), 5 * 7);
    }
}
