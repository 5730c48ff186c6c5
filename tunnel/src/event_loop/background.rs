//! The runtime of tokio beside an event loop.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::SOURCES;
use super::sources::Sources;

/// A runtime of tokio on a thread of its own, until this is dropped. The loop waits for the sockets
/// of that thread, too.
///
/// A loop with timers rests in epoll_wait(2) with a limit: the kernel arms a timer each time and
/// disarms it again, and the loop asks for the time twice. For a message that is passed on at once
/// that was a twelfth of all that it cost. So this thread waits for them.
#[derive(Debug)]
pub(super) struct Background {
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    pub(super) fn start(sources: Arc<Sources>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            SOURCES.set(Some(sources));
            runtime.block_on(async {
                tokio::select! {
                    () = keep_a_timer_near() => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_timeout(LONGEST_CALL);
        };
        let thread = thread::Builder::new().name("runtime".into()).stack_size(STACK).spawn(run)?;
        Ok(Self { runtime: handle, stop: Some(stop), thread: Some(thread) })
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Had it panicked, it would have said so.
            let _ = thread.join();
        }
    }
}

/// Whoever sets a timer that is nearer than all others wakes the thread that waits. Connections set
/// timers that are seconds away: with one that is nearer none of them does that.
async fn keep_a_timer_near() {
    loop {
        sleep(NEAR).await;
    }
}

/// Time-outs are seldom shorter.
const NEAR: Duration = Duration::from_secs(1);
/// How long calls that block may keep the process from ending.
const LONGEST_CALL: Duration = Duration::from_secs(1);
/// As much as Rust gives a thread. musl's 128 KiB are too few for libraries.
const STACK: usize = 2 * 1024 * 1024;
