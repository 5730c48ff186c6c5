//! Streams that cannot be closed yet after an abort.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::time::timeout;

use super::direction::Direction;
use super::{Relay, Side};
use crate::buffer::Buffer;
use crate::notices::Session;
use crate::stream::{Kind, Stream};
use crate::vsock::BUFFER_SIZE;
use crate::watch::watch;

/// Streams that are still open after an abort.
///
/// - A peer that has half-closed a vsock or Unix stream reads a full close as a clean end of
///   file. The stream is left open: the peer's own half-close time-out ends it, and truthfully; so
///   does a notice, at once (see [`crate::notices`]).
/// - An RST makes TCP forget what it has not sent yet. It waits until that is sent.
#[derive(Debug)]
pub struct Lingering {
    client: Option<Stream>,
    upstream: Option<Stream>,
    limit: Duration,
    /// Has the abort still to tell, where the other process has not connected for notices yet.
    session: Option<Arc<Session>>,
}

impl Lingering {
    /// Nothing lingers.
    pub(super) fn none() -> Self {
        Self { client: None, upstream: None, limit: Duration::ZERO, session: None }
    }

    /// Aborts both streams of a relay, of which `failed` needs no care. What must linger does,
    /// for `limit` at the most, and as long what `session` has to say of it is kept.
    pub(super) fn abort(
        relay: Relay,
        failed: Option<Side>,
        limit: Duration,
        session: Option<Arc<Session>>,
    ) -> Self {
        let Relay { client, upstream, sent, received, .. } = relay;
        let linger = |side, stream: Stream, from: &Direction, to: &Direction| {
            let lingers = failed != Some(side) && must_linger(&stream, from, to);
            lingers.then_some(stream)
        };
        Self {
            client: linger(Side::Client, client, &sent, &received),
            upstream: linger(Side::Upstream, upstream, &received, &sent),
            limit,
            session,
        }
    }

    /// Aborts a stream of which nothing was relayed. If it must linger it does, for `limit` at the
    /// most.
    #[must_use]
    pub fn abort_alone(stream: Stream, limit: Duration) -> Self {
        let nothing = Direction::default();
        let lingers = must_linger(&stream, &nothing, &nothing);
        Self { client: lingers.then_some(stream), limit, ..Self::none() }
    }

    /// Closes what lingers, as soon as it can be.
    pub fn closed(self) -> impl Future<Output = ()> {
        let lingers = self.client.is_some() || self.upstream.is_some();
        // Boxed, since few linger, and every tunnel has a place for it.
        let closing = lingers.then(|| Box::pin(self.close()));
        async {
            if let Some(closing) = closing {
                closing.await;
            }
        }
    }

    async fn close(self) {
        for stream in [self.client, self.upstream].into_iter().flatten() {
            // Nothing is left to report: the tunnel's outcome is known already.
            let _ = timeout(self.limit, until_closable(&stream)).await;
        }
        drop(self.session);
    }
}

/// Whether closing `stream` would look clean to a peer that must learn of an abort, or would
/// take away what the peer is still to get.
fn must_linger(stream: &Stream, from: &Direction, to: &Direction) -> bool {
    match stream.kind() {
        Kind::Tcp => to.moved() > 0,
        Kind::Unix | Kind::Vsock => {
            !to.is_done() && (from.has_ended() || ends(stream)) && !stream.was_aborted()
        }
    }
}

/// Whether the end of the stream is among what the kernel holds of it and nobody will relay.
fn ends(stream: &Stream) -> bool {
    let mut nobodys = Buffer::take();
    // A peer that sends faster than this has not ended.
    for _ in 0..=BUFFER_SIZE / Buffer::CAPACITY as u64 {
        match recv(stream.as_fd().as_raw_fd(), nobodys.unfilled(), MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

async fn until_closable(stream: &Stream) -> io::Result<()> {
    if stream.kind() == Kind::Tcp {
        // From now on "writable" means that nothing waits to be sent; see tcp(7).
        SockRef::from(stream).set_tcp_notsent_lowat(1)?;
    }
    // A registration of its own asks the kernel afresh; the stream's has seen it writable.
    let socket = watch(stream.as_fd().try_clone_to_owned()?, Interest::WRITABLE)?;
    loop {
        // A close by the peer makes the kernel report the socket as writable once more.
        let mut guard = socket.writable().await?;
        if stream.kind() == Kind::Tcp || stream.was_aborted() {
            return Ok(());
        }
        guard.clear_ready();
    }
}
