//! What timers cost.

use std::time::Duration;

use tokio::time::sleep;

/// Keeps a timer near as long as it is polled.
///
/// tokio wakes the thread that waits for timers whenever one is set that is nearer than all others:
/// by a write to an eventfd(2), also where that very thread sets it. Connections set timers that
/// are seconds away. With one that is nearer none of them does that.
pub async fn keep_one_near() -> ! {
    loop {
        sleep(NEAR).await;
    }
}

/// Time-outs are seldom shorter.
const NEAR: Duration = Duration::from_secs(1);
