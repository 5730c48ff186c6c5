//! The session with the outproxy that answers, and the connection for its notices.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tunnel::buffer::Buffer;
use tunnel::connect::connect;
use tunnel::endpoint::Endpoint;
use tunnel::event_loop;
use tunnel::head::{self, SessionId, TunnelId};
use tunnel::head_reader::HeadReader;
use tunnel::notices::{Session, Tunnel};
use tunnel::stream::Stream;

/// Numbers the tunnels, and connects for notices once an outproxy has said that it sends some: a
/// proxy that is none sees nothing but CONNECT requests.
#[derive(Debug)]
pub struct Notices {
    outproxy: Endpoint,
    limit: Duration,
    current: Mutex<Current>,
    seen: Notify,
}

/// A session is with one process: when that one goes, the next tunnels belong to another session.
#[derive(Debug)]
struct Current {
    id: u128,
    session: Arc<Session>,
    tunnels: u64,
    /// No connection for notices is tried before then.
    not_before: Instant,
}

impl Notices {
    /// No tunnels yet. Each step of a connect may take as long as `limit`.
    ///
    /// # Errors
    ///
    /// What getrandom(2) answers.
    pub fn new(outproxy: Endpoint, limit: Duration) -> io::Result<Self> {
        let mut id = [0; 16];
        getrandom(&mut id, GetRandomFlags::empty())?;
        let current = Current {
            id: u128::from_ne_bytes(id),
            session: Arc::default(),
            tunnels: 0,
            not_before: Instant::now(),
        };
        Ok(Self { outproxy, limit, current: Mutex::new(current), seen: Notify::new() })
    }

    /// A number for a new tunnel. `None` where the stream itself can say "abort".
    pub fn register(&self) -> Option<(TunnelId, Tunnel)> {
        if let Endpoint::Tcp(_) = self.outproxy {
            return None;
        }
        let mut current = self.lock();
        if current.session.is_over() {
            current.id = current.id.wrapping_add(1);
            current.session = Arc::default();
            current.not_before = Instant::now();
        }
        current.tunnels += 1;
        let id = TunnelId { session: SessionId::new(current.id), number: current.tunnels };
        Some((id, current.session.register(id.number)?))
    }

    /// Connects for the notices of a tunnel whose other end sends some, unless that was done.
    pub fn granted(self: &Arc<Self>, id: TunnelId, tunnel: &Tunnel) {
        self.seen.notify_one();
        let mut current = self.lock();
        let now = Instant::now();
        let is_current = Arc::ptr_eq(&current.session, tunnel.session());
        if !is_current || tunnel.session().is_connected() || now < current.not_before {
            return;
        }
        // Two steps, then a pause.
        current.not_before = now + self.limit * 2 + PAUSE;
        drop(current);
        let (notices, session) = (Arc::clone(self), Arc::clone(tunnel.session()));
        let expecting = session.expect_connection();
        event_loop::spawn(async move {
            match notices.connect(id.session).await {
                Ok((stream, rest)) => {
                    tokio::join!(session.serve(stream, rest), session.leave_when_idle());
                }
                Err(error) => tracing::debug!(%error, "failed to connect for notices"),
            }
            // If that failed, nobody is to wait any longer.
            drop(expecting);
        });
    }

    /// Whether there is a connection for notices.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.lock().session.is_connected()
    }

    /// Ready once an outproxy of ours has granted a tunnel since the last time. For one that waits.
    pub async fn seen(&self) {
        self.seen.notified().await;
    }

    /// Takes leave of outproxy, so that what was said of tunnels is known before they end.
    pub async fn leave(&self) {
        let session = Arc::clone(&self.lock().session);
        session.leave().await;
    }

    async fn connect(&self, session: SessionId) -> io::Result<(Stream, Buffer)> {
        let mut stream = connect(&self.outproxy, self.limit).await?;
        let asking = async {
            stream.write_all(head::notices_request(session).as_bytes()).await?;
            let mut reader = HeadReader::default();
            std::future::poll_fn(|cx| reader.poll(cx, &mut stream, head::parse_answer))
                .await
                .map_err(io::Error::other)
        };
        match timeout(self.limit, asking).await?? {
            (answer, rest) if answer.is_notices_grant() => Ok((stream, rest)),
            (answer, _) => Err(io::Error::other(answer.to_string())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        // Nothing panics while it holds the lock.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to wait before a connection for notices is tried again.
const PAUSE: Duration = Duration::from_secs(1);
