//! The relay: copies bytes between two streams until both directions are done.
//!
//! The two directions are independent. A half-close is passed on, and neither direction ends the
//! other. A clean end of file is only ever delivered where one was seen: an error, a time-out or
//! a peer that vanishes ends both streams by an abort (see [`Stream`]).

mod direction;
mod linger;

use std::borrow::Borrow;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::buffer::Buffer;
use crate::connections::Stop;
use crate::head_reader::{HeadError, HeadReader};
use crate::notices::Tunnel;
use crate::stream::Stream;
use crate::traffic::Traffic;
use crate::vsock::LostData;
use direction::{Direction, TunnelAt};
pub use linger::Lingering;

/// How long a tunnel may be quiet.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// With both directions open; `None` for ever.
    pub idle: Option<Duration>,
    /// With one direction done, counted from the last byte or from the half-close, whichever
    /// came later.
    pub half_close: Duration,
}

/// Two streams, and what is on its way between them.
#[derive(Debug)]
pub struct Relay {
    client: Stream,
    upstream: Stream,
    sent: Direction,
    received: Direction,
    client_error: Option<io::Error>,
    tunnel: Option<(Side, Tunnel)>,
    traffic: Option<Arc<Traffic>>,
}

impl Relay {
    /// A relay that has not moved anything yet.
    #[must_use]
    pub fn new(client: Stream, upstream: Stream) -> Self {
        Self {
            client,
            upstream,
            sent: Direction::default(),
            received: Direction::default(),
            client_error: None,
            tunnel: None,
            traffic: None,
        }
    }

    /// Counts there, too, what is delivered, from [`Self::run`] on as it is.
    pub fn set_traffic(&mut self, traffic: Arc<Traffic>) {
        self.traffic = Some(traffic);
    }

    /// Says and hears of aborts beside the stream on this side, which leads to the other proxy.
    pub fn set_tunnel(&mut self, side: Side, tunnel: Tunnel) {
        self.tunnel = Some((side, tunnel));
    }

    /// Sends `first` ahead of what the client says; its first `overhead` bytes are not counted as
    /// sent.
    pub fn send_first(&mut self, first: Buffer, overhead: usize) {
        self.sent.put_first(first, overhead);
    }

    /// Delivers `first` to the client ahead of what upstream says; its first `overhead` bytes are
    /// not counted as received.
    pub fn receive_first(&mut self, first: Buffer, overhead: usize) {
        self.received.put_first(first, overhead);
    }

    /// Has what was given to [`Self::receive_first`] wait for what upstream says, for so long at
    /// the most, and go with it.
    pub fn hold_received(&mut self, limit: Duration) {
        self.received.hold(limit);
    }

    /// Relays what the client says while the head of what upstream says is read, as
    /// [`HeadReader::poll`] does. What follows the head is delivered to the client.
    ///
    /// A client that fails meanwhile is the outcome of [`Self::run`]: an abort in the middle of
    /// the head could look clean to upstream.
    ///
    /// # Errors
    ///
    /// [`HeadError`], after which the tunnel is of no use; dropping it aborts both streams.
    pub async fn open<T, E>(
        &mut self,
        mut parse: impl FnMut(&[u8]) -> Result<Option<(T, usize)>, E>,
    ) -> Result<T, HeadError<E>> {
        let mut head = HeadReader::default();
        std::future::poll_fn(|cx| {
            if self.client_error.is_none()
                && let Poll::Ready(Err(error)) = self.poll_sent(cx)
            {
                self.client_error = Some(error);
            }
            let (value, rest) = ready!(head.poll(cx, &mut self.upstream, &mut parse))?;
            self.received.put_first(rest, 0);
            Poll::Ready(Ok(value))
        })
        .await
    }

    /// Relays until both directions are done, a stream fails, a time-out passes or `stop` is
    /// ready. Then both streams are closed: cleanly if the outcome is [`Outcome::Finished`], else
    /// by an abort.
    ///
    /// An abort may have to wait, for twice [`Timeouts::half_close`] at the most: see
    /// [`Lingering`].
    pub fn run<R>(
        self,
        timeouts: impl Borrow<Timeouts>,
        mut stop: impl Future<Output = R> + Unpin,
    ) -> impl Future<Output = (Summary<R>, Lingering)> {
        // Not an async function: that would hold its arguments twice, in every idle tunnel.
        self.count_since((0, 0));
        let mut relay = Some(self);
        let mut quiet = Quiet::new();
        std::future::poll_fn(move |cx| {
            let timeouts = *timeouts.borrow();
            let Some(running) = &mut relay else { return Poll::Pending };
            let before = running.bytes();
            let outcome = running.poll_copy(cx, timeouts, &mut stop, &mut quiet);
            running.count_since(before);
            let outcome = ready!(outcome);
            match relay.take() {
                Some(relay) => Poll::Ready(relay.close(outcome, timeouts)),
                None => Poll::Pending,
            }
        })
    }

    fn close<R>(mut self, outcome: Outcome<R>, timeouts: Timeouts) -> (Summary<R>, Lingering) {
        let (sent, received) = self.bytes();
        let limit = timeouts.half_close * 2;
        let tunnel = self.tunnel.take();
        let failed = match outcome {
            Outcome::Finished => {
                self.client.finish();
                self.upstream.finish();
                return (Summary { outcome, sent, received }, Lingering::none());
            }
            Outcome::Aborted(side, _) => Some(side),
            Outcome::HalfCloseTimeout | Outcome::IdleTimeout | Outcome::Stopped(_) => None,
        };
        let session = tunnel.filter(|(side, _)| failed != Some(*side)).map(|(_, tunnel)| {
            // Also where closing the stream would tell: the peer's half-close may be on its way,
            // and once that was sent the peer can no longer see what the close means.
            tunnel.notify_aborted();
            Arc::clone(tunnel.session())
        });
        let lingering = Lingering::abort(self, failed, limit, session);
        (Summary { outcome, sent, received }, lingering)
    }

    fn poll_copy<R>(
        &mut self,
        cx: &mut Context<'_>,
        timeouts: Timeouts,
        stop: &mut (impl Future<Output = R> + Unpin),
        quiet: &mut Quiet,
    ) -> Poll<Outcome<R>> {
        if let Some(error) = self.client_error.take() {
            return Poll::Ready(self.aborted(Side::Client, error));
        }
        if let Poll::Ready(reason) = Pin::new(stop).poll(cx) {
            return Poll::Ready(Outcome::Stopped(reason));
        }
        let moved = self.moved();
        if let Poll::Ready(Err(error)) = self.poll_sent(cx) {
            return Poll::Ready(self.aborted(Side::Client, error));
        }
        if let Poll::Ready(Err(error)) = self.poll_received(cx) {
            return Poll::Ready(self.aborted(Side::Upstream, error));
        }
        let half_closed = match (self.sent.is_over(), self.received.is_over()) {
            (true, true) => return Poll::Ready(self.ended()),
            (sent, received) => sent || received,
        };
        if let Poll::Ready((side, error)) = self.poll_notice(cx) {
            return Poll::Ready(self.aborted(side, error));
        }
        let active = self.moved() != moved;
        ready!(quiet.poll_elapsed(cx, timeouts, half_closed, active));
        Poll::Ready(if half_closed { Outcome::HalfCloseTimeout } else { Outcome::IdleTimeout })
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tunnel = self.tunnel.as_ref().map(|(side, tunnel)| match side {
            Side::Client => TunnelAt::Sender(tunnel),
            Side::Upstream => TunnelAt::Receiver(tunnel),
        });
        self.sent.poll(cx, &mut self.client, &mut self.upstream, &self.received, tunnel)
    }

    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tunnel = self.tunnel.as_ref().map(|(side, tunnel)| match side {
            Side::Client => TunnelAt::Receiver(tunnel),
            Side::Upstream => TunnelAt::Sender(tunnel),
        });
        self.received.poll(cx, &mut self.upstream, &mut self.client, &self.sent, tunnel)
    }

    /// Ready once the other proxy has aborted, and what it had sent before is delivered.
    fn poll_notice(&self, cx: &Context<'_>) -> Poll<(Side, io::Error)> {
        let Some((side, tunnel)) = &self.tunnel else {
            return Poll::Pending;
        };
        let error = ready!(tunnel.poll_aborted(cx));
        let (stream, direction) = match side {
            Side::Client => (&self.client, &self.sent),
            Side::Upstream => (&self.upstream, &self.received),
        };
        // The notice may have overtaken the news that there is something to read; unless nobody
        // would get it.
        if !direction.is_over() && (direction.is_waiting() || stream.has_unread()) {
            return Poll::Pending;
        }
        Poll::Ready((*side, error))
    }

    /// Payload bytes that were delivered so far: sent, and received.
    fn bytes(&self) -> (u64, u64) {
        (self.sent.bytes(), self.received.bytes())
    }

    fn count_since(&self, before: (u64, u64)) {
        if let Some(traffic) = &self.traffic {
            let (sent, received) = self.bytes();
            traffic.add(sent - before.0, received - before.1);
        }
    }

    fn moved(&self) -> u64 {
        self.sent.moved() + self.received.moved()
    }

    /// The outcome when a side's stream has failed or vanished.
    fn aborted<R>(&mut self, side: Side, error: io::Error) -> Outcome<R> {
        // A failed write came first, and says more.
        match self.ended() {
            Outcome::Finished => Outcome::Aborted(side, error),
            _ if LostData::is_named_by(&error) => Outcome::Aborted(side, error),
            failed_write => failed_write,
        }
    }

    /// The outcome when nothing more will move.
    fn ended<R>(&mut self) -> Outcome<R> {
        if let Some(error) = self.sent.take_error() {
            Outcome::Aborted(Side::Upstream, error)
        } else if let Some(error) = self.received.take_error() {
            Outcome::Aborted(Side::Client, error)
        } else {
            Outcome::Finished
        }
    }
}

/// How a tunnel ended.
#[derive(Debug)]
pub struct Summary<R> {
    /// Why.
    pub outcome: Outcome<R>,
    /// Bytes from the client that upstream's socket took, exact also after an error.
    pub sent: u64,
    /// Bytes from upstream that the client's socket took, exact also after an error.
    pub received: u64,
}

/// Why a tunnel ended.
#[derive(Debug)]
pub enum Outcome<R> {
    /// One side failed, or vanished.
    Aborted(Side, io::Error),
    /// Both directions reached their end.
    Finished,
    /// Nothing moved for [`Timeouts::half_close`] after one direction was done.
    HalfCloseTimeout,
    /// Nothing moved for [`Timeouts::idle`].
    IdleTimeout,
    /// The tunnel was told to stop.
    Stopped(R),
}

impl Outcome<Stop> {
    /// A word for logs and metrics, one of few.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Aborted(Side::Client, _) => "client-aborted",
            Self::Aborted(Side::Upstream, _) => "upstream-aborted",
            Self::Finished => "finished",
            Self::HalfCloseTimeout => "half-close-timeout",
            Self::IdleTimeout => "idle-timeout",
            Self::Stopped(Stop::Disallowed) => "disallowed",
            Self::Stopped(Stop::Shutdown) => "shutdown",
        }
    }
}

impl<R> Outcome<R> {
    /// The error that ended the tunnel, if one did.
    #[must_use]
    pub fn cause(&self) -> Option<&io::Error> {
        match self {
            Self::Aborted(_, error) => Some(error),
            _ => None,
        }
    }
}

/// One of a tunnel's two ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Who connected.
    Client,
    /// What was connected to.
    Upstream,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
        })
    }
}

/// Watches for quiet. It arms no timer for a tunnel that may be idle for ever.
#[derive(Debug)]
struct Quiet {
    since: Instant,
    half_closed: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Quiet {
    fn new() -> Self {
        Self { since: Instant::now(), half_closed: false, timer: None }
    }

    /// Ready once nothing was active for as long as is allowed.
    fn poll_elapsed(
        &mut self,
        cx: &mut Context<'_>,
        timeouts: Timeouts,
        half_closed: bool,
        active: bool,
    ) -> Poll<()> {
        let limit = if half_closed { Some(timeouts.half_close) } else { timeouts.idle };
        let Some(limit) = limit else {
            return Poll::Pending;
        };
        if active || half_closed != self.half_closed {
            self.half_closed = half_closed;
            self.since = Instant::now();
        }
        let Some(deadline) = self.since.checked_add(limit) else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        // Activity moves the deadline, not the timer: re-arming it for every byte would cost more
        // than the bytes.
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
