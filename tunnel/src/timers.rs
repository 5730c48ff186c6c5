//! Timers, which another thread waits for.
//!
//! A runtime with timers rests in epoll_wait(2) with a limit: the kernel arms a timer each time and
//! disarms it again, and the runtime asks for the time twice. For a message that is passed on at
//! once that was a twelfth of all that it cost. [`start`] leaves the waiting to a runtime that does
//! nothing else, so that the one of the connections has no timers.
//!
//! The functions are those of [`tokio::time`], for timers of that runtime; before it is started,
//! and in tests, of the runtime that they are called on.

use std::io;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{self, Instant, Interval, Sleep, Timeout};

static RUNTIME: OnceLock<Handle> = OnceLock::new();

/// Starts the thread that waits for timers, for the rest of the process, and gives a runtime for all
/// else, which has none.
///
/// # Errors
///
/// The kernel has no thread or no descriptors for it.
pub fn start() -> io::Result<Runtime> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    if RUNTIME.set(runtime.handle().clone()).is_ok() {
        thread::Builder::new()
            .name("timers".into())
            .stack_size(STACK)
            .spawn(move || runtime.block_on(keep_one_near()))?;
    }
    Builder::new_current_thread().enable_io().build()
}

/// A runtime that has timers, for libraries that make their own.
///
/// # Panics
///
/// Before [`start`], where there is no runtime.
#[must_use]
pub fn runtime() -> Handle {
    RUNTIME.get().cloned().unwrap_or_else(Handle::current)
}

/// [`tokio::time::sleep`]
pub fn sleep(duration: Duration) -> Sleep {
    make(|| time::sleep(duration))
}

/// [`tokio::time::sleep_until`]
pub fn sleep_until(deadline: Instant) -> Sleep {
    make(|| time::sleep_until(deadline))
}

/// Waits until then; without a timer, which would wake the other thread, where that has come.
pub async fn until(deadline: Instant) {
    if Instant::now() < deadline {
        sleep_until(deadline).await;
    }
}

/// [`tokio::time::timeout`]
pub fn timeout<F: IntoFuture>(limit: Duration, future: F) -> Timeout<F::IntoFuture> {
    make(|| time::timeout(limit, future))
}

/// [`tokio::time::timeout_at`]
pub fn timeout_at<F: IntoFuture>(deadline: Instant, future: F) -> Timeout<F::IntoFuture> {
    make(|| time::timeout_at(deadline, future))
}

/// [`tokio::time::interval`]
///
/// # Panics
///
/// If `period` is zero.
#[must_use]
pub fn interval(period: Duration) -> Interval {
    make(|| time::interval(period))
}

/// [`tokio::time::interval_at`]
///
/// # Panics
///
/// If `period` is zero.
#[must_use]
pub fn interval_at(first: Instant, period: Duration) -> Interval {
    make(|| time::interval_at(first, period))
}

/// A timer belongs to the runtime that it is made on.
fn make<T>(timer: impl FnOnce() -> T) -> T {
    let _entered = RUNTIME.get().map(Handle::enter);
    timer()
}

/// Whoever sets a timer that is nearer than all others wakes the thread that waits. Connections set
/// timers that are seconds away: with one that is nearer none of them does that.
async fn keep_one_near() -> ! {
    loop {
        time::sleep(NEAR).await;
    }
}

/// Time-outs are seldom shorter.
const NEAR: Duration = Duration::from_secs(1);
/// Libraries may use some of it.
const STACK: usize = 512 * 1024;
