//! The worker: the process that the PKCS#11 module lives in.
//!
//! It speaks [`wire`] over one socket: [`Order::Open`] loads the module and finds the token,
//! [`Order::Login`] logs in and opens the sessions, and then each [`Order::Act`] goes to the next
//! session that is free. Nothing here has a time-out, since PKCS#11 has none: whoever started this
//! process ends it when it hangs.

mod attributes;
mod cipher;
mod create;
mod delete;
mod executor;
mod fault;
mod keys;
mod list;
mod module;
mod pool;
mod replies;
mod signature;
mod wanted;

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use cryptoki::session::Session;
use protocol::answer::Code;
use protocol::frame::{self, FrameError};
use thiserror::Error;

use crate::pin::Pin;
use crate::wire::{self, Call, Effect, Fault, Open, Order};

use self::fault::Trouble;
use self::module::Module;
use self::pool::Pool;
use self::replies::Replies;

/// Serves the calls that come on `socket` until it ends.
///
/// # Errors
///
/// [`WorkerError`]; the process is then of no more use.
pub fn run(socket: UnixStream) -> Result<(), WorkerError> {
    let replies = Arc::new(Replies::new(socket.try_clone().map_err(FrameError::from)?));
    let mut worker = Worker { replies: Arc::clone(&replies), stage: Stage::Closed };
    let served = serve(socket, &mut worker);
    let panicked = worker.close();
    served?;
    if panicked { Err(WorkerError::Panicked) } else { Ok(()) }
}

/// Why a worker ends before its parent wants it to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The socket failed, or does not carry frames.
    #[error("failed to read a call")]
    Frame(#[from] FrameError),
    /// A frame is not a call. What it is instead may be a secret, and is not said.
    #[error("a frame is not a call")]
    Malformed,
    /// A session's thread panicked.
    #[error("a session has panicked")]
    Panicked,
}

fn serve(mut socket: UnixStream, worker: &mut Worker) -> Result<(), WorkerError> {
    while let Some(content) = frame::read_blocking(&mut socket, wire::MAX_FRAME)? {
        let Call { number, order } =
            serde_json::from_slice(&content).map_err(|_| WorkerError::Malformed)?;
        // A PIN is not to be kept while the call runs.
        drop(content);
        let result = match order {
            Order::Act(action) => match worker.stage.pool() {
                Some(pool) => {
                    pool.submit(number, action);
                    continue;
                }
                None => Err(out_of_order("an action came before the login")),
            },
            Order::Login(pin) => worker.login(&pin),
            Order::Open(open) => worker.open(&open),
        };
        worker.replies.send(number, result);
    }
    Ok(())
}

fn out_of_order(what: &str) -> Fault {
    Trouble::refused(Code::Internal, what).into()
}

struct Worker {
    replies: Arc<Replies>,
    stage: Stage,
}

enum Stage {
    Closed,
    /// The sessions are opened at the first login, and stay for the next where it is refused.
    Opened {
        module: Arc<Module>,
        sessions: Vec<Session>,
        wanted: usize,
    },
    LoggedIn {
        module: Arc<Module>,
        pool: Pool,
    },
}

impl Stage {
    const fn pool(&self) -> Option<&Pool> {
        match self {
            Self::LoggedIn { pool, .. } => Some(pool),
            Self::Closed | Self::Opened { .. } => None,
        }
    }
}

impl Worker {
    fn open(&mut self, open: &Open) -> Result<Effect, Fault> {
        if !matches!(self.stage, Stage::Closed) {
            return Err(out_of_order("the module is open already"));
        }
        let (module, token) = Module::open(open)?;
        let wanted = open.sessions.max(1);
        self.stage = Stage::Opened { module: Arc::new(module), sessions: Vec::new(), wanted };
        Ok(Effect::Opened(token))
    }

    fn login(&mut self, pin: &Pin) -> Result<Effect, Fault> {
        let Stage::Opened { module, sessions, wanted } = &mut self.stage else {
            return Err(out_of_order("a login comes once, and after the module was opened"));
        };
        while sessions.len() < *wanted {
            sessions.push(module.session()?);
        }
        module.login(&sessions[0], pin)?;
        let pool = Pool::start(std::mem::take(sessions), module, &self.replies);
        self.stage = Stage::LoggedIn { module: Arc::clone(module), pool };
        Ok(Effect::LoggedIn)
    }

    /// Says whether a session has panicked.
    fn close(self) -> bool {
        let (module, panicked) = match self.stage {
            Stage::Closed => return false,
            Stage::Opened { module, sessions, .. } => {
                drop(sessions);
                (module, false)
            }
            Stage::LoggedIn { module, pool } => (module, pool.join()),
        };
        // Modules may crash in their exit handlers if they were not finalized.
        if let Some(module) = Arc::into_inner(module) {
            module.finalize();
        }
        panicked
    }
}

/// Makes the thread that reads calls see the end of them.
fn stop_reading(socket: &UnixStream) {
    // It fails where the parent has gone, and then there is nothing left to read.
    let _ = socket.shutdown(Shutdown::Read);
}
