//! How long to wait between starts of the worker, and for one.

use std::time::Duration;

/// The pauses between starts: each about twice as long as the one before.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST_PAUSE }
    }

    /// How long to wait now. A part of it is left to chance, so that many enclaves do not meet at
    /// an HSM that has come back.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(LAST_PAUSE);
        pause
    }

    /// The next pause is the first again.
    pub(super) fn reset(&mut self) {
        self.next = FIRST_PAUSE;
    }
}

/// How long a start may take. Somebody waits for it, and PKCS#11 would wait for ever.
#[derive(Debug)]
pub(super) struct Patience {
    most: Duration,
    longest: Option<Duration>,
}

impl Patience {
    /// At most so long, whatever is learned.
    pub(super) fn new(most: Duration) -> Self {
        Self { most, longest: None }
    }

    /// A start has succeeded, and has taken so long.
    pub(super) fn learn(&mut self, took: Duration) {
        self.longest = self.longest.max(Some(took));
    }

    /// How long the next start may take. Where starts are quick, one that hangs is given up soon:
    /// the next may find the HSM back.
    pub(super) fn limit(&self) -> Duration {
        match self.longest {
            None => self.most,
            Some(longest) => (longest * 3).max(LEAST_PATIENCE).min(self.most),
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(1);
const LEAST_PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second() {
        let mut backoff = Backoff::new();
        for most in [100, 200, 400, 800, 1000, 1000] {
            let pause = backoff.next().as_secs_f64() * 1000.0;
            assert!((f64::from(most) * 0.499..=f64::from(most)).contains(&pause), "{pause}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST_PAUSE);
    }

    #[test]
    fn the_patience_follows_the_longest_start() {
        let seconds = Duration::from_secs;
        let mut patience = Patience::new(seconds(8));
        assert_eq!(patience.limit(), seconds(8));
        patience.learn(Duration::from_millis(90));
        assert_eq!(patience.limit(), seconds(3));
        patience.learn(seconds(2));
        patience.learn(seconds(1));
        assert_eq!(patience.limit(), seconds(6));
        patience.learn(seconds(4));
        assert_eq!(patience.limit(), seconds(8));
    }
}
