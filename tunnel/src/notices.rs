//! Notices: how one proxy tells the other what vsock cannot say.
//!
//! A peer that has half-closed its end of a vsock stream reads an abort as a clean end of file; see
//! [`Lingering`](crate::relay::Lingering). The two proxies therefore share a connection beside
//! their tunnels, over which both send words of eight bytes, big-endian. A word is the number of a
//! tunnel that its sender has aborted, the same with [`ENDED`] for one whose clean end it delivers,
//! or one of [`PING`], [`PONG`], [`RETIRING`] and [`BYE`].
//!
//! The words only hasten what is decided without them, with two exceptions that need them: an end
//! of file that may be the work of a kill is believed once the other process has said that it is
//! none, or has shown that it lives; and a process that leaves says [`BYE`] when its tunnels are
//! over.

mod state;

use std::collections::hash_map::Entry;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::buffer::Buffer;
use crate::stream::Stream;
use state::{Fate, Registered, State};

/// Added to a tunnel's number: all that was for the reader is delivered, and the end of file that
/// it reads is a clean one. Said to those who have half-closed, since they cannot tell.
pub const ENDED: u64 = 1 << 63;
/// Asks for a [`PONG`].
pub const PING: u64 = u64::MAX;
/// Answers all [`PING`]s so far.
pub const PONG: u64 = u64::MAX - 1;
/// The sender takes no new tunnels.
pub const RETIRING: u64 = u64::MAX - 2;
/// The sender has no tunnels any more, and exits or rests; who reads it closes the connection.
pub const BYE: u64 = u64::MAX - 3;

/// The tunnels between two processes, and what these have to say to each other about them.
#[derive(Debug, Default)]
pub struct Session {
    state: Mutex<State>,
    connected: Notify,
    disconnected: Notify,
    emptied: Notify,
}

impl Session {
    /// Registers a tunnel, until the returned value is dropped. `None` if the number is taken, if
    /// no tunnel can have it, or if the session is over.
    pub fn register(self: &Arc<Self>, number: u64) -> Option<Tunnel> {
        let mut state = self.lock();
        let over = state.over || state.leaving;
        match state.tunnels.entry(number) {
            Entry::Vacant(entry) if number < ENDED && !over => entry.insert(Registered::default()),
            Entry::Vacant(_) | Entry::Occupied(_) => return None,
        };
        state.registered += 1;
        Some(Tunnel { session: Arc::clone(self), number })
    }

    /// Whether the process at the other end has gone or takes no new tunnels, or this one leaves.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let state = self.lock();
        state.over || state.leaving
    }

    /// Whether a connection is in use.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.lock().connected.is_some()
    }

    /// Has ends of file wait for the connection that comes, as they would for an answer, until the
    /// returned value is dropped. `None` where there is a connection, or where one was expected
    /// before: who failed to connect once is not waited for again.
    #[must_use]
    pub fn expect_connection(self: &Arc<Self>) -> Option<Expecting> {
        self.lock().expect_connection().then(|| Expecting(Arc::clone(self)))
    }

    /// Has nobody wait for a connection any longer.
    pub fn expect_no_connection(&self) {
        self.lock().expect_no_connection();
    }

    /// Waits until there is a connection.
    async fn connected(&self) {
        loop {
            let connected = self.connected.notified();
            if self.is_connected() {
                return;
            }
            connected.await;
        }
    }

    /// Says and hears over `stream`, of which `rest` was read already, until it ends or another
    /// one takes its place. If the other process has not said [`BYE`], all tunnels end with it.
    pub async fn serve(&self, mut stream: Stream, rest: Buffer) {
        let mut wire = Wire { connection: self.lock().connect(), ..Wire::default() };
        self.connected.notify_waiters();
        let mut ended = self.hear(&mut wire, rest.filled());
        drop(rest);
        if ended.is_none() {
            let served = std::future::poll_fn(|cx| self.poll_serve(cx, &mut stream, &mut wire));
            ended = Some(served.await);
        }
        let mut state = self.lock();
        if state.connected == Some(wire.connection) {
            state.disconnect(ended == Some(Ended::Lost));
            self.disconnected.notify_waiters();
        }
    }

    fn poll_serve(
        &self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        wire: &mut Wire,
    ) -> Poll<Ended> {
        loop {
            let Some(leaving) = self.lock().poll_words(cx, wire) else {
                return Poll::Ready(Ended::Replaced);
            };
            let lost = if leaving { Ended::Well } else { Ended::Lost };
            if !wire.outgoing.is_empty() {
                match stream.poll_write(cx, &wire.outgoing) {
                    Poll::Ready(Ok(n)) => {
                        wire.outgoing.drain(..n);
                        continue;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(lost),
                    Poll::Pending => {}
                }
            }
            let ended = match ready!(stream.poll_read_buffer(cx)) {
                Ok(words) if !words.is_empty() => self.hear(wire, words.filled()),
                Ok(_) | Err(_) => return Poll::Ready(lost),
            };
            if let Some(ended) = ended {
                return Poll::Ready(ended);
            }
        }
    }

    fn hear(&self, wire: &mut Wire, bytes: &[u8]) -> Option<Ended> {
        let mut state = self.lock();
        for byte in bytes {
            wire.incoming = wire.incoming << 8 | u64::from(*byte);
            wire.length = (wire.length + 1) % WORD;
            if wire.length == 0 && state.hear(wire.incoming) {
                return Some(Ended::Well);
            }
        }
        None
    }

    /// Takes leave once there has been no tunnel for a while, so that proxies at rest hold nothing.
    pub async fn leave_when_idle(&self) {
        loop {
            let emptied = self.emptied.notified();
            let (open, registered) = self.tunnels();
            if open > 0 {
                emptied.await;
                continue;
            }
            sleep(IDLE).await;
            if self.tunnels() == (0, registered) {
                return self.leave().await;
            }
        }
    }

    fn tunnels(&self) -> (usize, u64) {
        let state = self.lock();
        (state.tunnels.len(), state.registered)
    }

    /// Tells the other process that this one takes no new tunnels.
    pub fn retire(&self) {
        self.lock().say(RETIRING);
    }

    /// Tells the other process that this one exits, and waits a moment until that was understood:
    /// what was said of tunnels has then been read before they end.
    pub async fn leave(&self) {
        {
            let mut state = self.lock();
            state.leaving = true;
            state.say(BYE);
        }
        let understood = async {
            loop {
                let disconnected = self.disconnected.notified();
                if !self.is_connected() {
                    return;
                }
                disconnected.await;
            }
        };
        // A process that does not listen will see us go.
        let _ = timeout(FAREWELL, understood).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, and a waker only puts its task into a queue.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session whose other process is about to connect. It knows its tunnels as long.
#[derive(Debug)]
pub struct Expecting(Arc<Session>);

impl Expecting {
    /// Waits until it has connected, for so long at the most.
    pub async fn wait(self, limit: Duration) {
        let _ = timeout(limit, self.0.connected()).await;
    }
}

impl Drop for Expecting {
    fn drop(&mut self) {
        self.0.expect_no_connection();
    }
}

/// What of a connection is between words.
#[derive(Debug, Default)]
struct Wire {
    connection: u64,
    incoming: u64,
    length: u8,
    outgoing: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ended {
    Lost,
    Replaced,
    Well,
}

/// A tunnel of which both ends know the number.
#[derive(Debug)]
pub struct Tunnel {
    session: Arc<Session>,
    number: u64,
}

impl Tunnel {
    /// The tunnels that this one is one of.
    #[must_use]
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Ready once the other process has aborted the tunnel, or was killed.
    pub(crate) fn poll_aborted(&self, cx: &Context<'_>) -> Poll<io::Error> {
        let mut state = self.session.lock();
        let Some(tunnel) = state.tunnels.get_mut(&self.number) else {
            return Poll::Pending;
        };
        if tunnel.fate == Fate::Aborted {
            let words = "the other end of the tunnel aborted it, or was killed";
            return Poll::Ready(io::Error::new(io::ErrorKind::ConnectionAborted, words));
        }
        if !tunnel.relay.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            tunnel.relay = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Ready once the other process has said that the end of file is a clean one, or has shown that
    /// it lived after the first call. Who called [`Self::poll_aborted`] is woken.
    pub(crate) fn poll_alive(&self) -> Poll<()> {
        let mut state = self.session.lock();
        let can_ask = state.can_ask();
        match state.tunnels.get_mut(&self.number) {
            Some(tunnel) if tunnel.fate == Fate::Open && can_ask => {
                tunnel.fate = Fate::Doubted;
                state.doubting.push(self.number);
                state.ask();
                Poll::Pending
            }
            Some(Registered { fate: Fate::Aborted | Fate::Doubted, .. }) => Poll::Pending,
            // Nobody can be asked.
            Some(Registered { fate: Fate::Open | Fate::Trusted, .. }) | None => Poll::Ready(()),
        }
    }

    /// Tells the other process that the end of file which it will read is a clean one; says whether
    /// it can be told.
    pub(crate) fn notify_ended(&self) -> bool {
        let mut state = self.session.lock();
        if state.connected.is_some() {
            state.say(self.number | ENDED);
        }
        state.connected.is_some()
    }

    /// Tells the other process that this one has aborted the tunnel.
    pub(crate) fn notify_aborted(&self) {
        self.session.lock().say(self.number);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let mut state = self.session.lock();
        if let Some(Registered { fate: Fate::Doubted, .. }) = state.tunnels.remove(&self.number) {
            // Whoever is never answered would fill it.
            state.doubting.retain(|number| *number != self.number);
        }
        if state.tunnels.is_empty() {
            state.tunnels.shrink_to_fit();
            self.session.emptied.notify_waiters();
        }
    }
}

/// How long a session without tunnels keeps its connection.
const IDLE: Duration = Duration::from_millis(500);
/// The size of a word, in bytes.
const WORD: u8 = 8;
/// How long a process that exits waits for the other one to have read its last words.
const FAREWELL: Duration = Duration::from_secs(1);
