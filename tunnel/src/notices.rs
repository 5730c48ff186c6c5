//! Notices: how one proxy tells the other what vsock cannot say.
//!
//! A peer that has half-closed its end of a vsock stream reads an abort as a clean end of file; see
//! [`Lingering`](crate::relay::Lingering). The two proxies therefore share a connection beside
//! their tunnels, over which both send words of eight bytes, big-endian. A word is the number of a
//! tunnel that its sender has aborted, or one of [`PING`], [`PONG`], [`RETIRING`] and [`BYE`].
//!
//! The words only hasten what is decided without them, with two exceptions that need them: an end
//! of file that may be the work of a kill is believed once the other process has shown that it
//! lives, and a process that leaves says [`BYE`] when its tunnels are over.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::buffer::Buffer;
use crate::stream::Stream;

/// Asks for a [`PONG`].
pub const PING: u64 = u64::MAX;
/// Answers all [`PING`]s so far.
pub const PONG: u64 = u64::MAX - 1;
/// The sender takes no new tunnels.
pub const RETIRING: u64 = u64::MAX - 2;
/// The sender has no tunnels any more and is about to exit; who reads it closes the connection.
pub const BYE: u64 = u64::MAX - 3;

/// The tunnels between two processes, and what these have to say to each other about them.
#[derive(Debug, Default)]
pub struct Session {
    state: Mutex<State>,
    disconnected: Notify,
}

#[derive(Debug, Default)]
struct State {
    tunnels: HashMap<u64, Registered>,
    /// Which of the connections so far is in use.
    connected: Option<u64>,
    connections: u64,
    connection: Option<Waker>,
    words: Vec<u64>,
    pong_waits: bool,
    /// Tunnels whose doubts the next [`PONG`] ends.
    asking: Vec<u64>,
    /// Tunnels whose doubts are for the [`PING`] after that.
    doubting: Vec<u64>,
    leaving: bool,
    over: bool,
}

/// All that a tunnel costs while it is idle, but for its place in the table.
#[derive(Debug, Default)]
struct Registered {
    relay: Option<Waker>,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Fate {
    Aborted,
    Doubted,
    #[default]
    Open,
    Trusted,
}

impl Session {
    /// Registers a tunnel, until the returned value is dropped. `None` if the number is taken, if
    /// no tunnel can have it, or if the session is over.
    pub fn register(self: &Arc<Self>, number: u64) -> Option<Tunnel> {
        let mut state = self.lock();
        let over = state.over;
        match state.tunnels.entry(number) {
            Entry::Vacant(entry) if number < BYE && !over => entry.insert(Registered::default()),
            Entry::Vacant(_) | Entry::Occupied(_) => return None,
        };
        Some(Tunnel { session: Arc::clone(self), number })
    }

    /// Whether the process at the other end has gone, or takes no new tunnels.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.lock().over
    }

    /// Whether a connection is in use.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.lock().connected.is_some()
    }

    /// Says and hears over `stream`, of which `rest` was read already, until it ends or another
    /// one takes its place. If the other process has not said [`BYE`], all tunnels end with it.
    pub async fn serve(&self, mut stream: Stream, rest: Buffer) {
        let mut wire = Wire { connection: self.lock().connect(), ..Wire::default() };
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
            match stream.poll_write(cx, &wire.outgoing) {
                _ if wire.outgoing.is_empty() => {}
                Poll::Ready(Ok(n)) => {
                    wire.outgoing.drain(..n);
                    continue;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(lost),
                Poll::Pending => {}
            }
            let mut buffer = Buffer::take();
            match ready!(stream.poll_read(cx, &mut buffer)) {
                Ok(0) | Err(_) => return Poll::Ready(lost),
                Ok(_) => {}
            }
            if let Some(ended) = self.hear(wire, buffer.filled()) {
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

impl State {
    fn connect(&mut self) -> u64 {
        self.connections += 1;
        self.connected = Some(self.connections);
        self.wake_connection();
        // What was asked over an earlier connection is asked again.
        self.words.retain(|word| *word != PING);
        self.doubting.append(&mut self.asking);
        self.ask();
        self.connections
    }

    fn disconnect(&mut self, lost: bool) {
        self.connected = None;
        self.over = true;
        self.words = Vec::new();
        (self.asking, self.doubting) = (Vec::new(), Vec::new());
        for tunnel in self.tunnels.values_mut() {
            if lost {
                tunnel.fate = Fate::Aborted;
            } else if tunnel.fate == Fate::Doubted {
                tunnel.fate = Fate::Trusted;
            } else {
                continue;
            }
            tunnel.wake();
        }
    }

    /// Moves what is to be said to an idle wire; `None` if another connection is in use. Says
    /// whether this process leaves.
    fn poll_words(&mut self, cx: &Context<'_>, wire: &mut Wire) -> Option<bool> {
        if self.connected != Some(wire.connection) {
            return None;
        }
        if !self.connection.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.connection = Some(cx.waker().clone());
        }
        if wire.outgoing.is_empty() {
            self.pong_waits = false;
            let words = std::mem::take(&mut self.words);
            wire.outgoing = words.into_iter().flat_map(u64::to_be_bytes).collect();
        }
        Some(self.leaving)
    }

    fn say(&mut self, word: u64) {
        // A peer that does not read misses what its own time-outs will tell it.
        if word >= BYE || self.words.len() < MOST_WORDS {
            self.words.push(word);
            self.wake_connection();
        }
    }

    fn wake_connection(&mut self) {
        if let Some(waker) = self.connection.take() {
            waker.wake();
        }
    }

    /// Whether it was the last word.
    fn hear(&mut self, word: u64) -> bool {
        match word {
            PING if self.pong_waits => {}
            PING => {
                self.pong_waits = true;
                self.say(PONG);
            }
            PONG => {
                for number in std::mem::take(&mut self.asking) {
                    self.decide(number, Fate::Trusted);
                }
                self.ask();
            }
            RETIRING => self.over = true,
            BYE => return true,
            number => self.decide(number, Fate::Aborted),
        }
        false
    }

    fn decide(&mut self, number: u64, fate: Fate) {
        if let Some(tunnel) = self.tunnels.get_mut(&number)
            && tunnel.fate != Fate::Aborted
        {
            tunnel.fate = fate;
            tunnel.wake();
        }
    }

    /// Asks for all who doubt, unless that was asked and not answered yet: under load one question
    /// serves many.
    fn ask(&mut self) {
        if self.asking.is_empty() && !self.doubting.is_empty() {
            self.asking = std::mem::take(&mut self.doubting);
            self.say(PING);
        }
    }
}

impl Registered {
    fn wake(&mut self) {
        if let Some(waker) = self.relay.take() {
            waker.wake();
        }
    }
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

    /// Ready once the other process has shown that it lived after the first call. Who called
    /// [`Self::poll_aborted`] is woken.
    pub(crate) fn poll_alive(&self) -> Poll<()> {
        let mut state = self.session.lock();
        let connected = state.connected.is_some();
        match state.tunnels.get_mut(&self.number) {
            Some(tunnel) if tunnel.fate == Fate::Open && connected => {
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
        }
    }
}

/// The size of a word, in bytes.
const WORD: u8 = 8;
/// How many words may wait for a peer that does not read.
const MOST_WORDS: usize = 4096;
/// How long a process that exits waits for the other one to have read its last words.
const FAREWELL: Duration = Duration::from_secs(1);
