//! The sessions, each with a thread of its own.

use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use cryptoki::session::Session;
use protocol::action::Action;
use protocol::answer::{Code, Failure};

use crate::wire::{Effect, Fault, FaultKind};

use super::executor::Executor;
use super::module::Module;
use super::replies::Replies;

/// Runs actions, as many at once as there are sessions.
pub(super) struct Pool {
    queue: Sender<Job>,
    threads: Vec<JoinHandle<bool>>,
}

type Job = (u64, Action);

impl Pool {
    pub(super) fn start(
        sessions: Vec<Session>,
        module: &Arc<Module>,
        replies: &Arc<Replies>,
    ) -> Self {
        let (queue, jobs) = mpsc::channel();
        let jobs = Arc::new(Mutex::new(jobs));
        let start = |session| {
            let executor = Executor::new(session, Arc::clone(module));
            let (jobs, replies) = (Arc::clone(&jobs), Arc::clone(replies));
            thread::spawn(move || work(executor, &jobs, &replies))
        };
        Self { queue, threads: sessions.into_iter().map(start).collect() }
    }

    /// Hands the action to the next session that is free.
    pub(super) fn submit(&self, number: u64, action: Action) {
        // It fails only after every thread has panicked, and then the calls have been stopped too.
        let _ = self.queue.send((number, action));
    }

    /// Waits for what was submitted, and closes the sessions. Says whether one has panicked.
    pub(super) fn join(self) -> bool {
        drop(self.queue);
        let ends: Vec<_> = self.threads.into_iter().map(JoinHandle::join).collect();
        ends.into_iter().any(|end| end.unwrap_or(true))
    }
}

/// Says whether it ended by a panic.
fn work(mut executor: Executor, jobs: &Mutex<Receiver<Job>>, replies: &Replies) -> bool {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, action)) = next else { return false };
        let run = AssertUnwindSafe(|| executor.run(&action));
        let Ok(result) = panic::catch_unwind(run) else {
            replies.send(number, Err(panicked()));
            replies.stop_calls();
            return true;
        };
        replies.send(number, result.map(Effect::Done));
    }
}

fn panicked() -> Fault {
    Fault {
        kind: FaultKind::Broken,
        failure: Failure::new(Code::Internal, "a mistake of the application ended this call"),
        cause: "a session has panicked".into(),
    }
}
