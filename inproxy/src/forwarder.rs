//! One connection of the application, from its accept to its last byte.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};
use tunnel::buffer::Buffer;
use tunnel::connect::connect;
use tunnel::connections::{Connection, Connections, Stop};
use tunnel::destination::Destination;
use tunnel::endpoint::Endpoint;
use tunnel::event_loop;
use tunnel::head::{self, Answer, AnswerError};
use tunnel::head_reader::{HeadError, HeadReader};
use tunnel::label::Label;
use tunnel::listener::Peer;
use tunnel::relay::{Relay, Side, Timeouts};
use tunnel::stream::Stream;

use crate::config::Config;
use crate::forwards::{Forwards, Target};
use crate::journal::Journal;
use crate::notices::Notices;

/// Tunnels the connections that every listener accepts.
#[derive(Debug)]
pub struct Forwarder {
    config: Config,
    forwards: Forwards,
    timeouts: Arc<Timeouts>,
    connections: Arc<Connections<()>>,
    journal: Journal,
    notices: Arc<Notices>,
}

impl Forwarder {
    /// A forwarder without connections.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn new(config: Config, forwards: Forwards) -> io::Result<Arc<Self>> {
        let connections = Connections::new(config.limits.max_connections.get());
        let limit = config.limits.connect_timeout;
        let notices = Arc::new(Notices::new(config.outproxy.clone(), limit)?);
        let journal = Journal::default();
        let timeouts = Arc::new(Timeouts {
            idle: config.limits.idle_timeout,
            half_close: config.limits.half_close_timeout,
        });
        Ok(Arc::new(Self { config, forwards, timeouts, connections, journal, notices }))
    }

    /// The connections that are open.
    #[must_use]
    pub fn connections(&self) -> &Connections<()> {
        &self.connections
    }

    /// The session with outproxy.
    #[must_use]
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// How long they may take to finish when the operator wants to stop.
    #[must_use]
    pub fn shutdown_grace(&self) -> Duration {
        self.config.limits.shutdown_grace
    }

    /// What is logged of connections.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Tunnels a new connection, to wherever it was meant to go.
    pub fn serve(self: &Arc<Self>, client: Stream, peer: Peer) {
        let meant = client.local_address();
        let Some((forward, target)) = meant.and_then(|meant| self.forwards.find(meant)) else {
            return self.journal.failed(peer, None, &Failure::NotForwarded(meant));
        };
        match self.connections.open() {
            Some(connection) => {
                let forward = forward.clone();
                event_loop::spawn(Arc::clone(self).run(client, peer, forward, target, connection));
            }
            None => self.journal.failed(peer, Some(target.destination()), &Failure::TooMany),
        }
    }

    /// Not an async function: it would hold its arguments twice, in every idle tunnel. Nor does it
    /// hold what is only needed until the tunnel is open: hence the box, and a future that is not
    /// moved; nor the relay beside what lingers of it: hence the block.
    fn run(
        self: Arc<Self>,
        client: Stream,
        peer: Peer,
        forward: Label,
        target: Target,
        connection: Connection<()>,
    ) -> impl Future<Output = ()> {
        let started = Instant::now();
        async move {
            let lingering = {
                let opened = Box::pin(self.open_unless_stopped(client, &target, &connection));
                let mut running = match opened
                    .await
                    .map(|relay| relay.run(Arc::clone(&self.timeouts), connection.stopped()))
                {
                    Ok(running) => running,
                    Err(failure) => {
                        return self.journal.failed(peer, Some(target.destination()), &failure);
                    }
                };
                let (summary, lingering) = (&mut running).await;
                let duration = started.elapsed();
                self.journal.ended(peer, target.destination(), &forward, &summary, duration);
                lingering
            };
            lingering.closed().await;
        }
    }

    async fn open_unless_stopped(
        &self,
        client: Stream,
        target: &Target,
        connection: &Connection<()>,
    ) -> Result<Relay, Failure> {
        tokio::select! {
            opened = self.open(client, target) => opened,
            reason = connection.stopped() => Err(Failure::Stopped(reason)),
        }
    }

    /// Opens a tunnel. On failure the client's stream is dropped, and so reset.
    async fn open(&self, client: Stream, target: &Target) -> Result<Relay, Failure> {
        match target {
            Target::Raw { via, .. } => {
                let upstream = self.connect(via).await?;
                Ok(Relay::new(client, upstream))
            }
            Target::Routed(destination) => {
                let upstream = self.connect(&self.config.outproxy).await?;
                let answer_timeout =
                    self.config.limits.connect_timeout + self.config.limits.header_timeout;
                let opening = self.request(client, upstream, destination);
                timeout(answer_timeout, opening).await.unwrap_or(Err(Failure::NoAnswer))
            }
        }
    }

    async fn request(
        &self,
        mut client: Stream,
        mut upstream: Stream,
        destination: &Destination,
    ) -> Result<Relay, Failure> {
        let (id, tunnel) = self.notices.register().unzip();
        let request = head::request(destination, id);
        let (mut relay, answer) = if self.config.await_answer {
            upstream.write_all(request.as_bytes()).await.map_err(HeadError::Stream)?;
            let mut reader = HeadReader::default();
            let (answer, rest) =
                std::future::poll_fn(|cx| reader.poll(cx, &mut upstream, head::parse_answer))
                    .await?;
            let mut relay = Relay::new(client, upstream);
            relay.receive_first(rest, 0);
            (relay, answer)
        } else {
            let mut first = Buffer::take();
            let overhead = first.put(request.as_bytes());
            // What the client has said already goes into the same packet.
            client.read_ready(&mut first).await.map_err(Failure::Client)?;
            let mut relay = Relay::new(client, upstream);
            relay.send_first(first, overhead);
            let answer = relay.open(head::parse_answer).await?;
            (relay, answer)
        };
        if !answer.is_grant() {
            return Err(Failure::Refused(answer));
        }
        if let (Some(id), Some(tunnel), true) = (id, tunnel, answer.notices) {
            self.notices.granted(id, &tunnel);
            relay.set_tunnel(Side::Upstream, tunnel);
        }
        Ok(relay)
    }

    /// Connects, and goes on trying for `outproxy-retry` while the other end is not there, so
    /// that its restart does not look like the loss of every HSM.
    async fn connect(&self, endpoint: &Endpoint) -> Result<Stream, Failure> {
        let limit = self.config.limits.connect_timeout;
        let deadline = Instant::now() + self.config.outproxy_retry;
        let mut pause = FIRST_PAUSE;
        loop {
            match connect(endpoint, limit).await {
                Ok(stream) => return Ok(stream),
                Err(error) if is_not_ready(&error) && Instant::now() + pause < deadline => {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(Failure::Connect(endpoint.clone(), error)),
            }
        }
    }
}

/// Why a tunnel was not opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Failure {
    /// The client failed meanwhile.
    #[error("the client failed: {0}")]
    Client(io::Error),
    /// The other end of the tunnel is not there.
    #[error("failed to connect to `{0}`: {1}")]
    Connect(Endpoint, io::Error),
    /// The other end gave no answer in time.
    #[error("no answer within `connect-timeout` and `header-timeout`")]
    NoAnswer,
    /// The address is local, but no forward has it.
    #[error("no forward has {}", .0.map_or_else(|| "that address".into(), |meant| format!("`{meant}`")))]
    NotForwarded(Option<std::net::SocketAddr>),
    /// The other end refused.
    #[error("refused: {0}")]
    Refused(Answer),
    /// The connection was told to end before it was made.
    #[error("stopped: {0}")]
    Stopped(Stop),
    /// There are as many connections as there may be.
    #[error("all of `max-connections` are open")]
    TooMany,
    /// The other end failed, or gave an answer that is none.
    #[error("the other end failed: {0}")]
    Upstream(#[from] HeadError<AnswerError>),
}

impl Failure {
    /// A word for logs and metrics, one of few.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Client(_) => "client-aborted",
            Self::Connect(..) | Self::NoAnswer | Self::Upstream(_) => "unreachable",
            Self::NotForwarded(_) => "not-forwarded",
            Self::Refused(_) => "refused",
            Self::Stopped(_) => "stopped",
            Self::TooMany => "limit",
        }
    }
}

/// Whether a connect may succeed a moment later. For vsock: ECONNRESET is "no listener", ETIMEDOUT
/// "no such CID", ENODEV "no transport yet".
fn is_not_ready(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EAGAIN
                | libc::ECONNREFUSED
                | libc::ECONNRESET
                | libc::ENODEV
                | libc::ENOENT
                | libc::ETIMEDOUT
        )
    ) || error.kind() == io::ErrorKind::TimedOut
}

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
