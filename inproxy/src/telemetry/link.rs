//! The connection over which the host is told, and when it is tried again.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tunnel::buffer::Buffer;
use tunnel::connect::connect;
use tunnel::endpoint::Endpoint;
use tunnel::head::{self, Answer, AnswerError};
use tunnel::head_reader::{HeadError, HeadReader};
use tunnel::records::Snapshot;
use tunnel::stream::Stream;

use super::{Phase, Vitals};
use crate::outbox::Outbox;

/// Keeps one connection to whoever takes records.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) outproxy: Endpoint,
    pub(super) limit: Duration,
    pub(super) outbox: Arc<Outbox>,
    pub(super) vitals: Arc<Vitals>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) attempted: watch::Sender<bool>,
}

impl Link {
    /// Until all is told, once this process ends; else for ever.
    pub(super) async fn run(self) {
        let mut pause = SHORTEST_PAUSE;
        let mut acquaintance = Acquaintance::default();
        loop {
            // What was seen so far did not help.
            let _ = self.vitals.outproxy_seen().now_or_never();
            let opened = self.open().await;
            self.attempted.send_replace(true);
            let is_foreign = match opened {
                Ok((stream, rest)) => {
                    acquaintance.granted();
                    let begun = Instant::now();
                    if self.serve(stream, &rest).await.is_ok() {
                        return;
                    }
                    if begun.elapsed() > STABLE {
                        pause = SHORTEST_PAUSE;
                    }
                    false
                }
                Err(refusal) => {
                    tracing::debug!(error = %refusal, "outproxy is told nothing");
                    acquaintance.is_foreign_after(&refusal)
                }
            };
            self.rest(is_foreign, pause).await;
            if is_foreign && self.is_ending() {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits until the next attempt may succeed.
    async fn rest(&self, is_foreign: bool, pause: Duration) {
        if self.is_ending() {
            // There is but a moment left.
            return sleep(SHORTEST_PAUSE).await;
        }
        // Not all at once, where many lost the same outproxy.
        let usual = pause.mul_f64(0.75 + 0.25 * fraction());
        // One that grants tunnels may still refuse this, again and again, while it grants more.
        let (least, most) =
            if is_foreign { (usual, FOREIGN_PAUSE) } else { (usual.min(SEEN_PAUSE), usual) };
        let seen = async {
            sleep(least).await;
            self.vitals.outproxy_seen().await;
        };
        let mut phase = self.phase.clone();
        let ending = async {
            let _ = phase.wait_for(|phase| *phase == Phase::Ending).await;
        };
        tokio::select! {
            () = sleep(most) => {}
            () = seen => {}
            () = ending => {}
        }
    }

    fn is_ending(&self) -> bool {
        *self.phase.borrow() == Phase::Ending
    }

    async fn open(&self) -> Result<(Stream, Buffer), Refusal> {
        let mut stream = connect(&self.outproxy, self.limit).await.map_err(Refusal::Absent)?;
        let asking = async {
            stream.write_all(head::RECORDS_REQUEST.as_bytes()).await.map_err(HeadError::Stream)?;
            let mut reader = HeadReader::default();
            poll_fn(|cx| reader.poll(cx, &mut stream, head::parse_answer)).await
        };
        match timeout(self.limit, asking).await {
            Ok(Ok((answer, rest))) if answer.is_records_grant() => Ok((stream, rest)),
            Ok(Ok((answer, _))) => Err(Refusal::Refused(answer)),
            Ok(Err(error)) => Err(Refusal::Strange(error)),
            Err(_) => Err(Refusal::Silent),
        }
    }

    /// Tells until the connection fails; or until all was told and heard, as this process ends.
    async fn serve(&self, stream: Stream, rest: &Buffer) -> io::Result<()> {
        self.outbox.connect();
        let (from, mut to) = split(stream);
        let mut hearing = pin!(self.hear(from, rest.filled()));
        tokio::select! {
            heard = &mut hearing => return Err(heard.err().unwrap_or_else(gone)),
            told = self.tell(&mut to) => told?,
        }
        to.shutdown().await?;
        // Who closes has read everything, unless it was killed.
        hearing.await?;
        self.outbox.is_delivered().then_some(()).ok_or_else(gone)
    }

    /// Hears which lines have arrived, to the end of the connection.
    async fn hear(&self, mut from: impl AsyncRead + Unpin, rest: &[u8]) -> io::Result<()> {
        let mut number = None;
        self.understand(rest, &mut number)?;
        let mut bytes = [0; 64];
        loop {
            match from.read(&mut bytes).await? {
                0 => return Ok(()),
                count => self.understand(&bytes[..count], &mut number)?,
            }
        }
    }

    fn understand(&self, bytes: &[u8], number: &mut Option<u64>) -> io::Result<()> {
        for byte in bytes {
            *number = match (byte, *number) {
                (b'\n', Some(number)) => {
                    self.outbox.confirm(number);
                    None
                }
                (b'0'..=b'9', so_far) => {
                    let number = so_far.unwrap_or(0).checked_mul(10);
                    let number =
                        number.and_then(|number| number.checked_add(u64::from(byte - b'0')));
                    Some(number.ok_or(io::ErrorKind::InvalidData)?)
                }
                _ => return Err(io::ErrorKind::InvalidData.into()),
            };
        }
        Ok(())
    }

    /// Tells what there is to tell, until this process ends and all of it is told.
    async fn tell(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut phase = self.phase.clone();
        // It says whose the lines are.
        let mut told = self.vitals.snapshot(&self.outbox);
        to.write_all(&told.encode()).await?;
        let mut beats = interval_at(Instant::now() + BEAT, BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent_beats = 0;
        loop {
            if self.is_ending() {
                return self.tell_rest(to).await;
            }
            tokio::select! {
                () = self.gathered() => {
                    to.write_all(&self.outbox.batch()).await?;
                    continue;
                }
                _ = beats.tick() => silent_beats += 1,
                _ = phase.changed() => {}
            }
            let now = self.vitals.snapshot(&self.outbox);
            if silent_beats >= MOST_SILENT_BEATS || !is_same(&told, &now) {
                to.write_all(&now.encode()).await?;
                (told, silent_beats) = (now, 0);
            }
        }
    }

    /// Ready a moment after there is something to tell: lines seldom come alone.
    async fn gathered(&self) {
        self.outbox.sendable().await;
        sleep(GATHERING).await;
    }

    async fn tell_rest(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        while !self.outbox.is_sent() {
            self.outbox.sendable().await;
            to.write_all(&self.outbox.batch()).await?;
        }
        to.write_all(&self.vitals.snapshot(&self.outbox).encode()).await
    }
}

/// Whether nothing has happened in between.
fn is_same(told: &Snapshot, now: &Snapshot) -> bool {
    *now == Snapshot { uptime_seconds: now.uptime_seconds, ..told.clone() }
}

/// outproxy has closed the connection, or was killed.
fn gone() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

/// A number between 0 and 1, of which nothing depends but when something is tried again.
fn fraction() -> f64 {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    f64::from(nanos.unwrap_or_default().subsec_micros() % 1000) / 1000.0
}

/// Why the host is told nothing.
#[derive(Debug, Error)]
enum Refusal {
    #[error("failed to connect: {0}")]
    Absent(io::Error),
    #[error("refused: {0}")]
    Refused(Answer),
    #[error("no answer within `connect-timeout`")]
    Silent,
    #[error("the other end failed: {0}")]
    Strange(HeadError<AnswerError>),
}

impl Refusal {
    /// Whether whoever listens there takes no records and will take none: another proxy, an older
    /// outproxy, something else.
    fn is_foreign(&self) -> bool {
        match self {
            Self::Absent(_) | Self::Silent | Self::Strange(HeadError::Stream(_)) => false,
            // An outproxy that is busy.
            Self::Refused(answer) => !matches!(answer.status, 408 | 503),
            Self::Strange(HeadError::Parse(_)) => true,
        }
    }

    /// Whether it accepts and then says nothing, as an outproxy does only while it dies, or has too
    /// much to do.
    fn is_silence(&self) -> bool {
        matches!(self, Self::Silent | Self::Strange(HeadError::Stream(_)))
    }
}

/// What is known of whoever listens there.
#[derive(Debug, Default)]
struct Acquaintance {
    /// It has taken records: it is an outproxy of ours, whatever became of it.
    has_granted: bool,
    /// How often in a row it has said nothing.
    silences: u32,
}

impl Acquaintance {
    fn granted(&mut self) {
        *self = Self { has_granted: true, silences: 0 };
    }

    /// Whether whoever has refused now, too, will never take records.
    fn is_foreign_after(&mut self, refusal: &Refusal) -> bool {
        self.silences = if refusal.is_silence() { self.silences.saturating_add(1) } else { 0 };
        !self.has_granted && (refusal.is_foreign() || self.silences >= MOST_SILENCES)
    }
}

/// How often it is looked whether something has changed.
const BEAT: Duration = Duration::from_secs(5);
/// So that outproxy knows that we live, we tell even that nothing has changed once a minute.
const MOST_SILENT_BEATS: u32 = 12;
/// How long lines are gathered. Together with the size of a batch this bounds how many there can be
/// in a second.
const GATHERING: Duration = Duration::from_millis(50);
/// How long an outproxy that restarts usually takes.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// How often an outproxy that is away is asked.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After how long a connection counts as one that holds.
const STABLE: Duration = Duration::from_secs(10);
/// How often somebody is asked who will not understand; an outproxy may take the place of another
/// proxy. One that has granted a tunnel meanwhile is asked sooner.
const FOREIGN_PAUSE: Duration = Duration::from_secs(600);
/// How soon an outproxy is asked again that has granted a tunnel meanwhile.
const SEEN_PAUSE: Duration = Duration::from_secs(1);
/// How often in a row somebody may accept and say nothing before that is taken for an answer.
const MOST_SILENCES: u32 = 5;
