//! Sockets of a thread without an event loop, which a runtime of tokio waits for.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, Id};
use tokio::task::JoinHandle;

use super::sources::{Events, Limit, Sources};
use crate::watch::watch;

/// The sockets of this thread and of the runtime that it runs.
///
/// # Panics
///
/// Where there is no runtime.
pub(super) fn driven_by_tokio() -> io::Result<Arc<Sources>> {
    let runtime = Handle::current();
    DRIVEN.with_borrow_mut(|driven| match driven {
        Some(driven) if driven.serves(&runtime) => Ok(Arc::clone(&driven.sources)),
        _ => Ok(Arc::clone(&driven.insert(Driven::start(&runtime)?).sources)),
    })
}

thread_local! {
    static DRIVEN: RefCell<Option<Driven>> = const { RefCell::new(None) };
}

struct Driven {
    sources: Arc<Sources>,
    runtime: Id,
    driver: JoinHandle<()>,
}

impl Driven {
    fn start(runtime: &Handle) -> io::Result<Self> {
        let sources = Arc::new(Sources::new()?);
        let epoll = watch(Epoll(Arc::clone(&sources)), Interest::READABLE)?;
        Ok(Self { sources, runtime: runtime.id(), driver: runtime.spawn(drive(epoll)) })
    }

    fn serves(&self, runtime: &Handle) -> bool {
        // A runtime that has ended has ended its tasks.
        self.runtime == runtime.id() && !self.driver.is_finished()
    }
}

struct Epoll(Arc<Sources>);

impl AsRawFd for Epoll {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

async fn drive(epoll: AsyncFd<Epoll>) {
    // It fails when the runtime ends.
    while let Ok(mut ready) = epoll.readable().await {
        let mut events = Events::default();
        let Epoll(sources) = epoll.get_ref();
        if let Err(error) = sources.wait(&mut events, Limit::Now) {
            tracing::error!(%error, "failed to wait for sockets");
            return;
        }
        if events.are_none() {
            ready.clear_ready();
        }
        sources.report(&events);
    }
}
