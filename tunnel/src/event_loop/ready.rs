//! Which tasks are to run.

use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task;

use rustix::event::{EventfdFlags, eventfd};

use super::sources::Limit;

/// The tasks that were woken, by whichever thread.
#[derive(Debug)]
pub(super) struct Ready {
    woken: Mutex<Vec<usize>>,
    rests: AtomicBool,
    interrupt: OwnedFd,
}

impl Ready {
    pub(super) fn new() -> io::Result<Self> {
        let interrupt = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { woken: Mutex::default(), rests: AtomicBool::new(false), interrupt })
    }

    /// What is written to when a task is woken while the loop rests. Nobody reads it: every write
    /// is an edge of its own, and 2⁶⁴ of them do not happen.
    pub(super) fn interrupt(&self) -> BorrowedFd<'_> {
        self.interrupt.as_fd()
    }

    /// Swaps the keys of what was woken for `empty`.
    pub(super) fn take(&self, empty: &mut Vec<usize>) {
        mem::swap(&mut *self.woken(), empty);
    }

    /// How long the loop may wait before it calls [`Self::go_on`].
    pub(super) fn rest(&self) -> Limit {
        // Before it looks: who wakes a task after the look has to see this. The lock orders them.
        self.rests.store(true, Ordering::Relaxed);
        if self.woken().is_empty() { Limit::None } else { Limit::Now }
    }

    /// The loop does not wait any more.
    pub(super) fn go_on(&self) {
        self.rests.store(false, Ordering::Relaxed);
    }

    fn push(&self, key: usize) {
        self.woken().push(key);
        if self.rests.load(Ordering::Relaxed) && self.rests.swap(false, Ordering::Relaxed) {
            // It cannot fail; see `interrupt`.
            let _ = rustix::io::write(&self.interrupt, &1_u64.to_ne_bytes());
        }
    }

    fn woken(&self) -> MutexGuard<'_, Vec<usize>> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the task of one key; by mistake also its successor, which does no harm.
#[derive(Debug)]
pub(super) struct Wake {
    key: usize,
    is_woken: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake {
    pub(super) fn new(key: usize, ready: &Arc<Ready>) -> Arc<Self> {
        Arc::new(Self { key, is_woken: AtomicBool::new(false), ready: Arc::clone(ready) })
    }

    /// The task is about to run, and to see what it was woken for so far.
    pub(super) fn begin(&self) {
        // No mere store: it has to acquire what those released who found it woken.
        self.is_woken.swap(false, Ordering::AcqRel);
    }
}

impl task::Wake for Wake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            self.ready.push(self.key);
        }
    }
}
