//! Timers, on a runtime that has none.

use std::future::pending;
use std::time::Duration;

use tokio::time::{self, Instant};
use tunnel::timers;

const MOMENT: Duration = Duration::from_millis(30);

#[test]
fn timers_end_on_a_runtime_that_has_none() {
    timers::start().unwrap().block_on(async {
        let begun = Instant::now();
        timers::sleep(MOMENT).await;
        timers::sleep_until(begun + 2 * MOMENT).await;
        timers::timeout(MOMENT, pending::<()>()).await.unwrap_err();
        timers::timeout_at(begun + 4 * MOMENT, pending::<()>()).await.unwrap_err();
        timers::until(begun + 5 * MOMENT).await;
        let mut ticks = timers::interval(MOMENT);
        ticks.tick().await;
        ticks.tick().await;
        timers::interval_at(Instant::now() + MOMENT, MOMENT).tick().await;
        assert!(begun.elapsed() >= 7 * MOMENT);
        // A library knows nothing of all this.
        timers::runtime().spawn(async { time::sleep(MOMENT).await }).await.unwrap();
    });
}
