//! What the host is told of this inproxy and of its application: an enclave has no console.
//!
//! inproxy opens one connection to outproxy, beside the tunnels, as soon as it starts: an application
//! may crash at once. It tells and is told nothing but which lines have arrived, see
//! [`tunnel::records`].

mod link;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{SetOnce, watch};
use tokio::time::{Instant, timeout};
use tunnel::accept;
use tunnel::event_loop::Task;
use tunnel::records::{Application, Level, MAX_TEXT, Snapshot, Source, now, printable};
use tunnel::telemetry::Copy;

use self::link::Link;
use crate::config::Config;
use crate::forwarder::Forwarder;
use crate::outbox::Outbox;

/// Tells the host what goes on, until it is dropped.
#[derive(Debug)]
pub struct Telemetry {
    outbox: Arc<Outbox>,
    captures: bool,
    vitals: Arc<Vitals>,
    phase: watch::Sender<Phase>,
    attempted: watch::Receiver<bool>,
    task: Task,
}

impl Telemetry {
    /// Begins to tell what is in `outbox`, and what goes on. Each step of a connect may take as long
    /// as `connect-timeout`.
    #[must_use]
    pub fn start(config: &Config, outbox: Arc<Outbox>) -> Self {
        let vitals = Arc::new(Vitals::new(config.forwards.len()));
        let (phase, phases) = watch::channel(Phase::Serving);
        let (attempts, attempted) = watch::channel(false);
        let link = Link {
            outproxy: config.outproxy.clone(),
            limit: config.limits.connect_timeout,
            outbox: Arc::clone(&outbox),
            vitals: Arc::clone(&vitals),
            phase: phases,
            attempted: attempts,
        };
        let captures = config.telemetry.is_some_and(|telemetry| telemetry.application_output);
        Self { outbox, captures, vitals, phase, attempted, task: Task::spawn(link.run()) }
    }

    /// The lines that wait to be told.
    #[must_use]
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Whether what the application writes is told, too.
    #[must_use]
    pub fn captures(&self) -> bool {
        self.captures
    }

    /// What is counted from now on.
    pub fn watch(&self, forwarder: Arc<Forwarder>) {
        // There is one.
        let _ = self.vitals.forwarder.set(forwarder);
    }

    /// Something has happened to the application.
    pub fn set_application(&self, application: Application) {
        *self.vitals.application.lock().unwrap_or_else(PoisonError::into_inner) = Some(application);
        self.phase.send_replace(Phase::Serving);
    }

    /// Waits a moment until it is known whether outproxy listens, so that what the application says
    /// first need not wait.
    pub async fn attempted(&mut self) {
        let _ = timeout(FIRST_ATTEMPT, self.attempted.wait_for(|attempted| *attempted)).await;
    }

    /// Tells the rest, within a moment: these are the last words. `failure` is why this process
    /// ends, if it ends badly.
    pub async fn finish(self, failure: Option<&str>) {
        if let Some(failure) = failure {
            let text = printable(failure.as_bytes(), MAX_TEXT);
            self.outbox.push(Source::Inproxy, Level::Error, text);
        }
        self.phase.send_replace(Phase::Ending);
        let _ = timeout(FAREWELL, self.task.ended()).await;
    }
}

/// What copies the log into an outbox.
#[must_use]
pub fn copy(outbox: Arc<Outbox>) -> Copy {
    Copy::new(move |level, line| {
        outbox.push(Source::Inproxy, level.into(), printable(line, MAX_TEXT));
    })
}

/// How far this process is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Ending,
    Serving,
}

/// What is to be told beside lines.
#[derive(Debug)]
struct Vitals {
    started: Instant,
    started_at: u64,
    forwards: usize,
    forwarder: SetOnce<Arc<Forwarder>>,
    application: Mutex<Option<Application>>,
}

impl Vitals {
    fn new(forwards: usize) -> Self {
        Self {
            started: Instant::now(),
            started_at: now(),
            forwards,
            forwarder: SetOnce::new(),
            application: Mutex::default(),
        }
    }

    fn snapshot(&self, outbox: &Outbox) -> Snapshot {
        let mut snapshot = Snapshot {
            version: env!("CARGO_PKG_VERSION").into(),
            started: self.started_at,
            uptime_seconds: self.started.elapsed().as_secs(),
            forwards: self.forwards as u64,
            accept_errors: accept::errors(),
            lines_dropped: outbox.dropped(),
            application: *self.application.lock().unwrap_or_else(PoisonError::into_inner),
            ..Snapshot::default()
        };
        if let Some(forwarder) = self.forwarder.get() {
            let tally = forwarder.journal().tally();
            snapshot.open = forwarder.connections().count() as u64;
            (snapshot.ended, snapshot.failed) = (by_word(&tally.ended), by_word(&tally.failed));
            (snapshot.sent, snapshot.received) = (tally.sent, tally.received);
        }
        snapshot
    }

    /// Ready once an outproxy of ours has granted a tunnel since the last time.
    async fn outproxy_seen(&self) {
        self.forwarder.wait().await.notices().seen().await;
    }
}

fn by_word(counts: &BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    counts.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect()
}

/// How long the start of the application waits for the first attempt to connect. Where nobody
/// listens that takes a millisecond; only one who accepts and says nothing takes so long.
const FIRST_ATTEMPT: Duration = Duration::from_millis(500);
/// How long the last words may take.
const FAREWELL: Duration = Duration::from_secs(1);
