//! One connection on which an enclave tells of itself.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::ready;
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tunnel::buffer::Buffer;
use tunnel::head::RECORDS_GRANT;
use tunnel::records::{Application, Level, Malformed, Record, RecordReader};
use tunnel::stream::Stream;

use super::enclave::{Connected, Enclave};
use super::{EnclaveId, Enclaves, State};
use crate::tally::seconds_since_1970;

/// The right to tell of an enclave. It is the one connection that has it, until another one comes.
#[derive(Debug)]
pub struct Connection {
    enclaves: Arc<Enclaves>,
    id: EnclaveId,
    number: u64,
    replaced: Arc<Notify>,
    why: Ended,
}

impl Enclaves {
    /// Takes the place of the connection of an enclave, if there is one. `None`: there are as many
    /// enclaves connected as there may be.
    pub fn connect(self: &Arc<Self>, id: EnclaveId) -> Option<Connection> {
        let mut state = self.lock();
        let number = state.connections;
        let end = Arc::new(Notify::new());
        let since = seconds_since_1970();
        state.admit(id)?.replace(Some(Connected { number, since, end: Arc::clone(&end) }));
        state.connections += 1;
        state.note(id, Level::Info, "connected");
        drop(state);
        self.changed.notify_waiters();
        Some(Connection {
            enclaves: Arc::clone(self),
            id,
            number,
            replaced: end,
            why: Ended::Closed,
        })
    }
}

impl State {
    fn note(&mut self, id: EnclaveId, level: Level, text: &str) {
        if let Some(enclave) = self.known.get_mut(&id) {
            enclave.note(&mut self.lines, level, text);
        }
    }
}

/// Grants a connection, within `limit`, and hears what is told over it. `rest` was said already.
pub async fn serve(mut connection: Connection, mut stream: Stream, rest: Buffer, limit: Duration) {
    let granting = stream.write_all(RECORDS_GRANT.as_bytes());
    if let Ok(Ok(())) = timeout(limit, granting).await {
        let replaced = Arc::clone(&connection.replaced);
        connection.why = tokio::select! {
            why = connection.hear(&mut stream, rest) => why,
            () = replaced.notified() => Ended::Replaced,
        };
        if let Ended::Closed = connection.why {
            // It waits for that, to know that it was heard.
            stream.finish();
        }
    }
}

impl Connection {
    async fn hear(&self, stream: &mut Stream, rest: Buffer) -> Ended {
        let mut reader = RecordReader::default();
        let mut pace = Pace::new();
        let mut chunk = rest;
        loop {
            let mut records = Vec::new();
            let read_all = reader.read(chunk.filled(), &mut records);
            pace.spend(chunk.filled().len(), records.len());
            drop(chunk);
            let confirmed = self.take(records);
            if let Err(error) = read_all {
                return Ended::Malformed(error);
            }
            if let Some(number) = confirmed {
                let answer = format!("{number}\n");
                if let Err(error) = stream.write_all(answer.as_bytes()).await {
                    return Ended::Failed(error);
                }
            }
            pace.keep().await;
            chunk = match read(stream).await {
                Ok(chunk) if chunk.is_empty() => return Ended::Closed,
                Ok(chunk) => chunk,
                Err(error) => return Ended::Failed(error),
            };
        }
    }

    /// Takes what was told; returns what there is to confirm.
    fn take(&self, records: Vec<Record>) -> Option<u64> {
        if records.is_empty() {
            return None;
        }
        let mut state = self.enclaves.lock();
        let State { known, lines, .. } = &mut *state;
        let enclave = known.get_mut(&self.id).filter(|enclave| enclave.uses(self.number))?;
        let mut confirmed = None;
        for record in records {
            match record {
                Record::Log(line) => {
                    enclave.hear_line(&line, lines);
                    confirmed = Some(enclave.last_line());
                }
                Record::Snapshot(snapshot) => enclave.hear_snapshot(snapshot),
            }
        }
        drop(state);
        self.enclaves.changed.notify_waiters();
        confirmed
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = self.enclaves.lock();
        let State { known, lines, .. } = &mut *state;
        let Some(enclave) = known.get_mut(&self.id) else { return };
        if let Ended::Malformed(_) = self.why {
            enclave.counts.malformed += 1;
        }
        if !enclave.uses(self.number) {
            return;
        }
        enclave.replace(None);
        let (level, text) = self.why.tell(enclave);
        enclave.note(lines, level, &text);
        drop(state);
        self.enclaves.changed.notify_waiters();
    }
}

/// How a connection ended.
#[derive(Debug)]
enum Ended {
    Closed,
    Failed(io::Error),
    Malformed(Malformed),
    Replaced,
}

impl Ended {
    fn tell(&self, enclave: &Enclave) -> (Level, String) {
        let application = enclave.vitals.as_ref().and_then(|vitals| vitals.application);
        match (self, application) {
            (Self::Closed, Some(Application::Exited { code })) => {
                (Level::Info, format!("disconnected; the application exited with {code}"))
            }
            (Self::Closed, Some(Application::NotStarted { code })) => {
                (Level::Info, format!("disconnected; the application did not start: {code}"))
            }
            (Self::Closed | Self::Replaced, _) => (Level::Info, "disconnected".into()),
            (Self::Failed(error), _) => (Level::Warn, format!("disconnected: {error}")),
            (Self::Malformed(error), _) => (Level::Warn, format!("disconnected: {error}")),
        }
    }
}

/// How fast a client is read: what it tells costs time of the thread that relays. One that tells
/// more has to wait; an inproxy then drops its oldest lines, and counts them.
#[derive(Debug)]
struct Pace {
    until: Instant,
    bytes: usize,
    records: usize,
}

impl Pace {
    fn new() -> Self {
        Self { until: Instant::now() + PERIOD, bytes: 0, records: 0 }
    }

    fn spend(&mut self, bytes: usize, records: usize) {
        self.bytes += bytes;
        self.records += records;
    }

    async fn keep(&mut self) {
        let now = Instant::now();
        let is_spent = self.bytes >= BYTES_PER_PERIOD || self.records >= RECORDS_PER_PERIOD;
        if is_spent && now < self.until {
            sleep_until(self.until).await;
        }
        if is_spent || now >= self.until {
            *self = Self::new();
        }
    }
}

/// Reads what comes next; nothing is the end. No memory is held while it waits.
async fn read(stream: &mut Stream) -> io::Result<Buffer> {
    poll_fn(|cx| {
        let mut chunk = Buffer::take();
        let mut room = ReadBuf::new(chunk.unfilled());
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut room))?;
        let count = room.filled().len();
        chunk.fill(count);
        io::Result::Ok(chunk).into()
    })
    .await
}

const PERIOD: Duration = Duration::from_millis(100);
/// 2 MB a second.
const BYTES_PER_PERIOD: usize = 200_000;
/// 10,000 a second.
const RECORDS_PER_PERIOD: usize = 1000;
