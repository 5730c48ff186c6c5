//! Sockets, and who waits for them.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::slots::Slots;
use super::{poll_proceed, sources};

/// An epoll(7), and the sockets that it watches.
#[derive(Debug)]
pub(super) struct Sources {
    epoll: OwnedFd,
    sockets: Mutex<Slots<Arc<Source>>>,
}

impl Sources {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, sockets: Mutex::default() })
    }

    /// Has [`Self::wait`] return whenever something is written to `interrupt`.
    pub(super) fn add_interrupt(&self, interrupt: BorrowedFd<'_>) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::ET;
        Ok(epoll::add(&self.epoll, interrupt, EventData::new_u64(INTERRUPT), flags)?)
    }

    /// Waits for events, or until a signal comes.
    pub(super) fn wait(&self, events: &mut Events, limit: Limit) -> io::Result<()> {
        let at_once = Timespec::default();
        let limit = match limit {
            Limit::None => None,
            Limit::Now => Some(&at_once),
        };
        events.0.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut events.0), limit) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Wakes who waits for `events`.
    pub(super) fn report(&self, events: &Events) {
        let sockets = self.sockets();
        for event in &events.0 {
            let key = usize::try_from(event.data.u64()).ok();
            // The socket may have been closed since. If another one has its key by now, that is
            // tried in vain.
            if let Some(socket) = key.and_then(|key| sockets.get(key)) {
                socket.report(event.flags);
            }
        }
    }

    fn sockets(&self) -> MutexGuard<'_, Slots<Arc<Source>>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRawFd for Sources {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

/// For how long to wait.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    None,
    Now,
}

/// What epoll_wait(2) reports at once.
pub(super) struct Events(Vec<epoll::Event>);

impl Events {
    pub(super) fn are_none(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for Events {
    fn default() -> Self {
        Self(Vec::with_capacity(MOST_EVENTS))
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("len", &self.0.len()).finish_non_exhaustive()
    }
}

/// What is known of one socket.
#[derive(Debug, Default)]
struct Source {
    /// What it is ready for; above that, how often something was reported.
    state: AtomicU32,
    waiting: Mutex<Waiting>,
}

/// Their wakers stay when they are woken: mostly the same tasks wait again.
#[derive(Debug, Default)]
struct Waiting {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Source {
    fn report(&self, flags: EventFlags) {
        let mut ready = 0;
        if flags.intersects(EventFlags::IN | ENDED) {
            ready |= READABLE;
        }
        if flags.intersects(ENDED) {
            ready |= READ_ENDED;
        }
        if flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
            ready |= WRITABLE;
        }
        // Before it looks who waits: who looks at the state last sees this. The lock orders them.
        let add = |state: u32| Some((state | ready).wrapping_add(REPORT));
        let _ = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        let waiting = self.waiting();
        let reader = waiting.reader.as_ref().filter(|_| ready & READABLE != 0);
        let writer = waiting.writer.as_ref().filter(|_| ready & WRITABLE != 0);
        for waker in reader.into_iter().chain(writer) {
            waker.wake_by_ref();
        }
    }

    fn poll_ready(
        &self,
        cx: &mut Context<'_>,
        wanted: u32,
        waker: fn(&mut Waiting) -> &mut Option<Waker>,
    ) -> Poll<Seen> {
        let mut state = self.state.load(Ordering::Acquire);
        if state & wanted == 0 {
            let mut waiting = self.waiting();
            match waker(&mut waiting) {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            state = self.state.load(Ordering::Acquire);
            if state & wanted == 0 {
                return Poll::Pending;
            }
        }
        poll_proceed(cx).map(|()| Seen(state))
    }

    /// Whoever was reported something since has another state, and keeps it.
    fn forget(&self, Seen(state): Seen, ready: u32) {
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        let _ = self.state.compare_exchange(state, state & !ready, success, failure);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket that is waited for until this is dropped.
///
/// Drop it together with the socket, whose last close(2) makes epoll forget it. Until then events
/// of a socket that nobody knows any more are ignored.
#[derive(Debug)]
pub(crate) struct Watched {
    sources: Arc<Sources>,
    source: Arc<Source>,
    key: usize,
}

/// What was known of a socket before a call was made on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen(u32);

impl Watched {
    /// Has the event loop of this thread, or the runtime of tokio that it runs, wait for something
    /// to read, and if `room` for room to write.
    ///
    /// # Errors
    ///
    /// What epoll_ctl(2) answers.
    pub(crate) fn new(socket: impl AsFd, room: bool) -> io::Result<Self> {
        let sources = sources()?;
        let source = Arc::<Source>::default();
        let key = sources.sockets().insert(|_| Arc::clone(&source));
        // From here on it is removed by its drop.
        let watched = Self { sources, source, key };
        epoll::add(&watched.sources.epoll, socket, watched.data(), interest(room))?;
        Ok(watched)
    }

    /// Waits for room to write in `socket`, too.
    ///
    /// # Errors
    ///
    /// What epoll_ctl(2) answers.
    pub(crate) fn watch_room(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::modify(&self.sources.epoll, socket, self.data(), interest(true))?)
    }

    /// Ready when there may be something to read, or the end of it.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<Seen> {
        self.source.poll_ready(cx, READABLE | READ_ENDED, |waiting| &mut waiting.reader)
    }

    /// Ready when there may be room to write, or nobody to read it.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<Seen> {
        self.source.poll_ready(cx, WRITABLE, |waiting| &mut waiting.writer)
    }

    /// There was nothing to read.
    pub(crate) fn set_unreadable(&self, seen: Seen) {
        self.source.forget(seen, READABLE | READ_ENDED);
    }

    /// All that there was has been read; the end may be left.
    pub(crate) fn set_emptied(&self, seen: Seen) {
        self.source.forget(seen, READABLE);
    }

    /// There was no room to write.
    pub(crate) fn set_full(&self, seen: Seen) {
        self.source.forget(seen, WRITABLE);
    }

    fn data(&self) -> EventData {
        EventData::new_u64(self.key as u64)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.sources.sockets().remove(self.key);
    }
}

/// Edges, as it is read and written until there is nothing left.
fn interest(room: bool) -> EventFlags {
    let reading = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
    if room { reading | EventFlags::OUT } else { reading }
}

/// In place of the key of a socket.
const INTERRUPT: u64 = u64::MAX;
/// A batch of them is handled before the next is asked for.
const MOST_EVENTS: usize = 256;

const READABLE: u32 = 1;
/// Also when all was read: the end is reported once.
const READ_ENDED: u32 = 2;
const WRITABLE: u32 = 4;
const REPORT: u32 = 8;
const ENDED: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);
