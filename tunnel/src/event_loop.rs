//! The event loop of the connections: it waits for sockets and runs the tasks that they concern.
//!
//! Of what a message costs outside the kernel, most was tokio's: which of its drivers, threads and
//! kinds of tasks an event is for, and how one tells the other. This loop has one thread and knows
//! sockets only. All else is left to a runtime of tokio on another thread, whose timers, signals
//! and channels wake tasks here as they wake any task.
//!
//! Where there is no loop, as in enclave-app, in commands that connect once and in tests, the runtime
//! of tokio that a thread runs waits for its sockets.

mod background;
mod driven;
mod ready;
mod slots;
mod sources;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::sync::oneshot;
use tokio::task::coop;

pub(crate) use sources::Watched;

use background::Background;
use driven::driven_by_tokio;
use ready::{Ready, Wake};
use slots::Slots;
use sources::{Events, Sources};

/// Runs `main` to its end on this thread, and what it spawns until then.
///
/// # Errors
///
/// The kernel has no thread, or no descriptors, for it.
pub fn run<T>(main: impl Future<Output = T>) -> io::Result<T> {
    let event_loop = Rc::new(EventLoop::new()?);
    let background = Background::start(Arc::clone(&event_loop.sources))?;
    let _entered = background.runtime().enter();
    SOURCES.set(Some(Arc::clone(&event_loop.sources)));
    CURRENT.set(Some(Rc::clone(&event_loop)));
    let result = event_loop.block_on(main);
    BUDGET.set(None);
    // As long as the runtime is there, whose timers they hold.
    event_loop.drop_tasks();
    CURRENT.set(None);
    SOURCES.set(None);
    result
}

/// Runs `task` on the event loop of this thread, or on the runtime of tokio if it has none.
///
/// # Panics
///
/// Where there is neither.
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    match current() {
        Some(event_loop) => event_loop.spawn(Box::pin(task)),
        None => drop(tokio::spawn(task)),
    }
}

/// A task that ends when this is dropped.
#[derive(Debug)]
pub struct Task {
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl Task {
    /// Runs `task` as [`spawn`] does.
    ///
    /// # Panics
    ///
    /// As [`spawn`].
    pub fn spawn<T>(task: impl Future<Output = T> + Send + 'static) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel::<()>();
        spawn(async move {
            tokio::select! {
                biased;
                _ = stopped => {}
                _ = task => {}
            }
            // What it held was dropped before.
            drop(end);
        });
        Self { stop, ended }
    }

    /// Ends the task, and waits until all that it held was dropped.
    pub async fn stop(self) {
        let Self { stop, ended } = self;
        drop(stop);
        // Nobody sends anything: the other end is dropped.
        let _ = ended.await;
    }

    /// Waits until the task ends.
    pub async fn ended(self) {
        let Self { stop, ended } = self;
        let _ = ended.await;
        drop(stop);
    }
}

/// Ready while the task that runs here has its turn. When that is over the task is woken again at once
/// and yields, so that the others get theirs.
pub(crate) fn poll_proceed(cx: &mut Context<'_>) -> Poll<()> {
    match BUDGET.get() {
        None => coop::poll_proceed(cx).map(|turn| turn.made_progress()),
        Some(0) => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        Some(left) => {
            BUDGET.set(Some(left - 1));
            Poll::Ready(())
        }
    }
}

fn current() -> Option<Rc<EventLoop>> {
    CURRENT.with_borrow(Option::clone)
}

/// What waits for the sockets of this thread.
fn sources() -> io::Result<Arc<Sources>> {
    SOURCES.with_borrow(Option::clone).map_or_else(driven_by_tokio, Ok)
}

thread_local! {
    /// Of the event loop, where there is one, also on the thread of its runtime.
    static SOURCES: RefCell<Option<Arc<Sources>>> = const { RefCell::new(None) };
    static CURRENT: RefCell<Option<Rc<EventLoop>>> = const { RefCell::new(None) };
    /// How often the task that this loop runs may go on until its turn is over.
    static BUDGET: Cell<Option<u8>> = const { Cell::new(None) };
}

struct EventLoop {
    sources: Arc<Sources>,
    ready: Arc<Ready>,
    tasks: RefCell<Slots<Option<Running>>>,
}

/// A task; its slot is empty while it is polled.
struct Running {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    wake: Arc<Wake>,
    waker: Waker,
}

impl EventLoop {
    fn new() -> io::Result<Self> {
        let (sources, ready) = (Sources::new()?, Ready::new()?);
        sources.add_interrupt(ready.interrupt())?;
        Ok(Self { sources: Arc::new(sources), ready: Arc::new(ready), tasks: RefCell::default() })
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.tasks.borrow_mut().insert(|key| {
            let wake = Wake::new(key, &self.ready);
            let waker = Waker::from(Arc::clone(&wake));
            waker.wake_by_ref();
            Some(Running { future, wake, waker })
        });
    }

    fn block_on<T>(&self, main: impl Future<Output = T>) -> io::Result<T> {
        let mut main = pin!(main);
        let wake = Wake::new(MAIN, &self.ready);
        let waker = Waker::from(Arc::clone(&wake));
        waker.wake_by_ref();
        let (mut woken, mut events) = (Vec::new(), Events::default());
        loop {
            self.ready.take(&mut woken);
            for key in woken.drain(..) {
                BUDGET.set(Some(TURN));
                if key != MAIN {
                    self.poll(key);
                } else {
                    wake.begin();
                    let polled = main.as_mut().poll(&mut Context::from_waker(&waker));
                    if let Poll::Ready(result) = polled {
                        return Ok(result);
                    }
                }
            }
            let waited = self.sources.wait(&mut events, self.ready.rest());
            self.ready.go_on();
            waited?;
            self.sources.report(&events);
        }
    }

    fn poll(&self, key: usize) {
        let taken = self.tasks.borrow_mut().get_mut(key).and_then(Option::take);
        // It may have ended before its turn came.
        let Some(mut task) = taken else { return };
        task.wake.begin();
        let polled = task.future.as_mut().poll(&mut Context::from_waker(&task.waker));
        let mut tasks = self.tasks.borrow_mut();
        if polled.is_ready() {
            tasks.remove(key);
        } else if let Some(slot) = tasks.get_mut(key) {
            *slot = Some(task);
        }
    }

    /// Drops the tasks, and those that they spawn as they are dropped.
    fn drop_tasks(&self) {
        loop {
            let tasks = self.tasks.take();
            if tasks.is_empty() {
                return;
            }
        }
    }
}

/// In place of the key of a slot.
const MAIN: usize = usize::MAX;
/// How often a task may go on in one turn: as often as with tokio.
const TURN: u8 = 128;
