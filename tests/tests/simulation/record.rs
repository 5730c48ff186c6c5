//! What was seen of a day.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::journal::Line;
use super::plan::{Ms, NameServer, Policy, Site, Zone};

/// What everybody writes down, with the time of the simulated clock.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    start: Instant,
    record: Arc<Mutex<Record>>,
}

impl Recorder {
    /// The day begins.
    pub(crate) fn new(streams: usize) -> Self {
        let record = Record { streams: vec![Stream::default(); streams], ..Record::default() };
        Self { start: Instant::now(), record: Arc::new(Mutex::new(record)) }
    }

    pub(crate) fn now(&self) -> Ms {
        u64::try_from(self.start.elapsed().as_millis()).unwrap()
    }

    /// When it is so late.
    pub(crate) fn at(&self, time: Ms) -> Instant {
        self.start + std::time::Duration::from_millis(time)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) streams: Vec<Stream>,
    /// Who connected to which site, and when.
    pub(crate) dialled: Vec<(Ms, usize)>,
    /// The policies of outproxy, each from when on, and by which process.
    pub(crate) policies: Vec<(Ms, usize, Policy)>,
    /// Since when nobody listens, until when, and when what was left of the old process ended.
    pub(crate) restarts: Vec<Restart>,
    pub(crate) questions: Vec<(Ms, usize)>,
    /// Replies, and how long each of them took.
    pub(crate) replies: Vec<(Ms, usize, Zone, Ms)>,
    pub(crate) name_server: Vec<(Ms, NameServer)>,
    pub(crate) sites: Vec<(Ms, usize, Site)>,
    pub(crate) loiterers: Vec<Loiterer>,
    /// How many connections the processes of outproxy have counted.
    pub(crate) tallied: u64,
    pub(crate) lines: Vec<Line>,
    pub(crate) broken: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Restart {
    pub(crate) closed: Ms,
    pub(crate) cut_off: Ms,
    pub(crate) bound: Ms,
}

#[derive(Debug)]
pub(crate) struct Loiterer {
    pub(crate) from: Ms,
    pub(crate) answered: Ms,
    pub(crate) answer: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    /// Its name in the log of inproxy.
    pub(crate) name: String,
    pub(crate) client: End,
    /// At which site it arrived, if it did and the client said who it is.
    pub(crate) site: Option<usize>,
    pub(crate) upstream: End,
}

/// What one end did and saw. Bytes are counted from the first.
#[derive(Clone, Debug, Default)]
pub(crate) struct End {
    pub(crate) begun: Ms,
    pub(crate) written: Vec<(Ms, u64)>,
    pub(crate) read: Vec<(Ms, u64)>,
    pub(crate) half_closed: Option<Ms>,
    pub(crate) reset: Option<Ms>,
    /// It read the end of the stream.
    pub(crate) ended: Option<Ms>,
    /// It saw an abort.
    pub(crate) failed: Option<Ms>,
    pub(crate) corrupt: bool,
    /// It closed its socket.
    pub(crate) is_over: bool,
}

impl End {
    pub(crate) fn total_written(&self) -> u64 {
        self.written.last().map_or(0, |(_, total)| *total)
    }

    pub(crate) fn total_read(&self) -> u64 {
        self.read.last().map_or(0, |(_, total)| *total)
    }
}
