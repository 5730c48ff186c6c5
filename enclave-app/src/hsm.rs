//! The HSM, as requests see it: an action in, an outcome out, whatever becomes of the worker.
//!
//! PKCS#11 has no time-outs, and a module may hang, crash, or never recover from a lost link. So it
//! runs in a child process, the worker, that can be killed and replaced at any time.

mod backoff;
mod calls;
mod errand;
mod labels;
mod latch;
mod logins;
mod process;
mod status;
mod supervisor;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::action::{Action, HsmDescription, Outcome};
use protocol::answer::Failure;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use self::errand::Errand;
use self::labels::Labels;
use self::logins::Logins;
use self::status::{Board, Status};
use self::supervisor::Supervisor;
use crate::pin::PinSource;
use crate::wire::Open;

/// How the HSM is reached.
#[derive(Clone, Debug)]
pub struct HsmConfig {
    /// Which token, and how many sessions; at least one.
    pub open: Open,
    /// How long a call may take before the module is taken to hang: [`CALL_TIMEOUT`].
    pub call_timeout: Duration,
    /// How long a request may take, with all that it waits for; longer than a call, to see what
    /// became of it: [`REQUEST_TIMEOUT`].
    pub request_timeout: Duration,
    /// The worker.
    pub program: Program,
}

/// How the worker is run.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// What its environment has beside this process's, from which all that begins with `AWS_` is
    /// taken away.
    pub environment: Vec<(OsString, OsString)>,
}

impl Default for Program {
    /// This program, with the argument `worker`.
    fn default() -> Self {
        // Also right when the file was replaced meanwhile.
        let path = PathBuf::from("/proc/self/exe");
        Self { path, arguments: vec!["worker".into()], environment: Vec::new() }
    }
}

/// The HSM. It is opened when it is first needed, and then kept open.
#[derive(Debug)]
pub struct Hsm {
    labels: Labels,
    logins: Arc<Logins>,
    status: watch::Receiver<Status>,
    request_timeout: Duration,
    stop: watch::Sender<bool>,
    supervisor: Mutex<Option<Task>>,
}

impl Hsm {
    /// Prepares everything, and starts nothing yet.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(config: HsmConfig) -> Self {
        let request_timeout = config.request_timeout;
        let logins = Arc::new(Logins::default());
        let (board, status) = Board::new();
        let (stop, stopped) = watch::channel(false);
        let supervisor = Supervisor::new(config, Arc::clone(&logins), board, stopped);
        let supervisor = Mutex::new(Some(Task(tokio::spawn(supervisor.run()))));
        Self { labels: Labels::default(), logins, status, request_timeout, stop, supervisor }
    }

    /// Has the HSM do something, within [`HsmConfig::request_timeout`].
    ///
    /// It may be dropped at any time; the worker may then do the action all the same.
    ///
    /// # Errors
    ///
    /// Why it was not done, as far as anybody knows.
    pub async fn execute(&self, action: Action, pins: &impl PinSource) -> Result<Outcome, Failure> {
        let errand = Errand {
            labels: &self.labels,
            logins: &self.logins,
            status: self.status.clone(),
            pins,
            deadline: Instant::now() + self.request_timeout,
        };
        errand.run(action).await
    }

    /// How it is now.
    #[must_use]
    pub fn describe(&self) -> HsmDescription {
        self.status.borrow().describe()
    }

    /// Lets the worker finish what it does, for two seconds at most, and ends it. Requests fail
    /// from now on.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        let task = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut task) = task {
            // Beyond that the task is dropped, and with it the worker.
            let _ = timeout(SHUTDOWN_GRACE, &mut task.0).await;
        }
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How long a call may take by default. A lost link shows in less, and whoever asked has an answer
/// within ten seconds.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// How long a request may take by default.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(9);

const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);
