//! What the service manager is told all the time: that this process works, and what it does.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

use crate::overview::Overview;
use crate::service_manager::ServiceManager;

/// Feeds the watchdog and keeps the status line up to date, for ever.
///
/// It runs beside the connections, on the same thread: when those hang, so does the watchdog's
/// food.
pub async fn beat(manager: ServiceManager, overview: Arc<Overview>) {
    if !manager.is_there() {
        return;
    }
    let limit = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero());
    tokio::join!(feed_watchdog(&manager, limit), show_status(&manager, &overview));
}

async fn feed_watchdog(manager: &ServiceManager, limit: Option<Duration>) {
    let Some(limit) = limit else { return };
    let mut time = interval(limit / FEEDS_PER_LIMIT);
    time.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        time.tick().await;
        tell(manager, NotifyState::Watchdog).await;
    }
}

async fn show_status(manager: &ServiceManager, overview: &Overview) {
    let mut shown = String::new();
    let mut time = interval(STATUS_INTERVAL);
    time.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        time.tick().await;
        let line = overview.line();
        if line != shown {
            tell(manager, NotifyState::Status(&line)).await;
            shown = line;
        }
    }
}

async fn tell(manager: &ServiceManager, state: NotifyState<'_>) {
    if let Err(error) = manager.try_tell(state).await {
        // Not every time that it is busy.
        tracing::debug!(%error, "failed to notify the service manager");
    }
}

/// sd_watchdog_enabled(3) recommends two; one of three may be late.
const FEEDS_PER_LIMIT: u32 = 3;
/// How often the status line may change.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
