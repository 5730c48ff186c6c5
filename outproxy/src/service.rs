//! One connection, from its request to its last byte.

mod clusters;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout};
use tunnel::buffer::Buffer;
use tunnel::connections::{Connection, Connections, Stop};
use tunnel::destination::Destination;
use tunnel::endpoint::{Cid, Endpoint};
use tunnel::event_loop;
use tunnel::head::{self, Request};
use tunnel::head_reader::{HeadError, HeadReader};
use tunnel::listener::Peer;
use tunnel::notices::{Session, Tunnel};
use tunnel::relay::{Lingering, Relay, Side, Timeouts};
use tunnel::stream::Stream;
use tunnel::traffic::Traffic;
use tunnel::vsock;

use crate::allowlist::{Permit, Rule};
use crate::config::{Config, Listener};
use crate::enclaves::{self, EnclaveId, Enclaves};
use crate::journal::Journal;
use crate::notices::{self, Notices};
use crate::policy::Policy;
use crate::refusal::Refusal;

/// What serves connections, whichever listener accepted them.
#[derive(Debug)]
pub struct Service {
    policy: ArcSwap<Policy>,
    /// Tells who waits for another policy.
    changed: Notify,
    connections: Arc<Connections<Facts>>,
    journal: Journal,
    hanging_up: Arc<Semaphore>,
    own_cid: Option<Cid>,
    notices: Notices,
    enclaves: Arc<Enclaves>,
}

/// By what an open connection is judged again when the policy changes.
#[derive(Debug)]
pub struct Facts {
    cid: Option<Cid>,
    destination: Destination,
}

impl Service {
    /// A service without connections.
    #[must_use]
    pub fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            connections: Connections::new(config.limits.max_connections.get()),
            policy: ArcSwap::from_pointee(Policy::new(config)),
            changed: Notify::new(),
            journal: Journal::default(),
            hanging_up: Arc::new(Semaphore::new(MOST_HANGING_UP)),
            own_cid: own_cid_or_warn(config),
            notices: Notices::default(),
            enclaves: Arc::default(),
        })
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// The connections that are open.
    #[must_use]
    pub fn connections(&self) -> &Connections<Facts> {
        &self.connections
    }

    /// The sessions of those who connect.
    #[must_use]
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// What those who connect tell of themselves.
    #[must_use]
    pub fn enclaves(&self) -> &Arc<Enclaves> {
        &self.enclaves
    }

    /// What is logged of connections.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Puts what `config` asks for in force, and ends the connections that it no longer allows;
    /// says how many those were.
    pub fn enforce(&self, config: &Config) -> usize {
        let policy = self.policy.load().reloaded(config);
        self.put_in_force(policy)
    }

    /// Puts in force what is known of clusters by now, and ends the connections with HSMs that are
    /// gone; says how many those were.
    pub fn follow_clusters(&self) -> usize {
        let policy = self.policy.load().followed();
        self.put_in_force(policy)
    }

    fn put_in_force(&self, policy: Policy) -> usize {
        let policy = Arc::new(policy);
        self.connections.set_most(policy.limits.max_connections.get());
        self.policy.store(Arc::clone(&policy));
        self.changed.notify_waiters();
        self.connections.stop_if(Stop::Disallowed, |facts| {
            !policy.allowlist.keeps(facts.cid, &facts.destination)
        })
    }

    /// Serves a new connection: a raw one if it leads `to` a destination, else a routed one.
    pub fn serve(self: &Arc<Self>, stream: Stream, client: Peer, to: Option<Arc<Destination>>) {
        let service = Arc::clone(self);
        match self.connections.open() {
            Some(connection) => {
                event_loop::spawn(service.run(stream, client, to, connection));
            }
            None => {
                // It may have wanted to connect for notices.
                self.notices.expect_no_connection(client.cid());
                service.refuse(stream, client, to.as_deref(), to.is_some(), &Refusal::TooMany);
            }
        }
    }

    /// Not an async function: it would hold its arguments twice, in every idle tunnel. Nor does it
    /// hold what is only needed until the tunnel is open: hence the box, and a future that is not
    /// moved; nor the relay beside what lingers of it: hence the block.
    fn run(
        self: Arc<Self>,
        client: Stream,
        peer: Peer,
        to: Option<Arc<Destination>>,
        connection: Connection<Facts>,
    ) -> impl Future<Output = ()> {
        let started = Instant::now();
        async move {
            let (lingering, _opened) = {
                let opened = Box::pin(self.open_or_refuse(client, peer, to, &connection));
                let Some((mut running, opened)) = opened.await.map(|(relay, timeouts, opened)| {
                    (relay.run(timeouts, connection.stopped()), opened)
                }) else {
                    return;
                };
                let (summary, lingering) = (&mut running).await;
                if let Some(Facts { destination, .. }) = connection.facts() {
                    let (address, rule) = (opened.address, &opened.rule);
                    let duration = started.elapsed();
                    self.journal.ended(peer, destination, address, rule, &summary, duration);
                }
                (lingering, opened)
            };
            lingering.closed().await;
        }
    }

    /// Opens a tunnel, unless the client wants or gets something else.
    async fn open_or_refuse(
        &self,
        mut client: Stream,
        peer: Peer,
        to: Option<Arc<Destination>>,
        connection: &Connection<Facts>,
    ) -> Option<(Relay, Arc<Timeouts>, Opened)> {
        let is_raw = to.is_some();
        let opened = tokio::select! {
            opened = self.open(&mut client, peer, to, connection) => opened,
            reason = connection.stopped() => Err(Refusal::Stopped(reason)),
        };
        match opened {
            Ok(Open::Tunnel(upstream, way, opened)) => {
                let timeouts = Arc::clone(&way.timeouts);
                Some((relay(client, upstream, way), timeouts, opened))
            }
            Ok(Open::Notices(session, rest)) => {
                let limit = self.policy().limits.header_timeout;
                event_loop::spawn(notices::serve(session, client, rest, limit));
                None
            }
            Ok(Open::Records(connection, rest)) => {
                let limit = self.policy().limits.header_timeout;
                event_loop::spawn(enclaves::serve(connection, client, rest, limit));
                None
            }
            Err(refusal) => {
                let destination = connection.facts().map(|facts| &facts.destination);
                self.refuse(client, peer, destination, is_raw, &refusal);
                None
            }
        }
    }

    /// Finds out what the client wants, whether it may, and connects to it.
    async fn open(
        &self,
        client: &mut Stream,
        peer: Peer,
        to: Option<Arc<Destination>>,
        connection: &Connection<Facts>,
    ) -> Result<Open, Refusal> {
        let policy = self.policy();
        self.check_peer(peer, &policy)?;
        let cid = peer.cid();
        let (destination, id, early) = match to {
            Some(destination) => (Destination::clone(&destination), None, None),
            None => match read_request(client, policy.limits.header_timeout).await? {
                (Request::Notices(id), rest) => {
                    let session = self.notices.session(cid, id);
                    let session = session.ok_or(Refusal::TooManySessions)?;
                    return Ok(Open::Notices(session, rest));
                }
                (Request::Records, rest) => {
                    let connection = self.enclaves.connect(EnclaveId(cid));
                    let connection = connection.ok_or(Refusal::TooManyEnclaves)?;
                    return Ok(Open::Records(connection, rest));
                }
                (Request::Tunnel(destination, id), early) => {
                    (destination, id, Some(Buffer::holding(early.filled())))
                }
            },
        };
        let awaited = self.await_clusters(cid, &destination).await;
        // Known before the policy is asked: a reload in between finds it.
        connection.set_facts(Facts { cid, destination: destination.clone() });
        awaited?;
        let policy = self.policy();
        let rule = Arc::clone(policy.allowlist.find(cid, &destination)?);
        let permit = rule.try_acquire()?;
        let asked = Instant::now();
        let (upstream, address) = policy.reach(cid, &destination).await?;
        let meters = rule.meters();
        meters.connect_seconds.record(asked.elapsed());
        let traffic = Arc::clone(&meters.traffic);
        let timeouts = Arc::clone(&policy.timeouts);
        let tunnel = id.and_then(|id| self.notices.register(cid, id));
        let way = Way { early, timeouts, tunnel, traffic };
        let opened = Opened { address, rule, _permit: permit };
        Ok(Open::Tunnel(upstream, way, opened))
    }

    /// Refuses those who are no enclave: a process of this machine reaches its vsock ports too.
    fn check_peer(&self, peer: Peer, policy: &Policy) -> Result<(), Refusal> {
        let reserved = [Cid::HYPERVISOR, Cid::LOCAL, Cid::HOST];
        match peer.cid() {
            Some(cid) if reserved.contains(&cid) || self.own_cid == Some(cid) => {
                let admitted = policy.allowlist.admits_reserved(cid);
                admitted.then_some(()).ok_or(Refusal::NoEnclave(cid))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn refuse(
        &self,
        client: Stream,
        peer: Peer,
        destination: Option<&Destination>,
        is_raw: bool,
        refusal: &Refusal,
    ) {
        let policy = self.policy.load();
        let rule = destination.and_then(|to| policy.allowlist.find(peer.cid(), to).ok());
        self.journal.refused(peer, destination, rule.map(Arc::as_ref), refusal);
        // A client that failed has no ear.
        if matches!(refusal, Refusal::Gone(_)) {
            return;
        }
        // When too many do not hang up by themselves, the others are cut off.
        let Ok(permit) = Arc::clone(&self.hanging_up).try_acquire_owned() else { return };
        if is_raw {
            // There are no words for a refusal but the abort.
            let lingering = Lingering::abort_alone(client, policy.limits.half_close_timeout * 2);
            event_loop::spawn(async move {
                lingering.closed().await;
                drop(permit);
            });
        } else {
            let answer = refusal.answer();
            event_loop::spawn(async move {
                client.hang_up(answer.as_bytes(), HANG_UP_TIMEOUT).await;
                drop(permit);
            });
        }
    }
}

/// What a client asked for and got.
#[derive(Debug)]
enum Open {
    /// A connection for notices, and what the client said on it already.
    Notices(Arc<Session>, Buffer),
    /// A connection on which an enclave tells of itself, and what it has told already.
    Records(enclaves::Connection, Buffer),
    /// The upstream, and what there is to do and to remember.
    Tunnel(Stream, Way, Opened),
}

/// How a tunnel begins.
#[derive(Debug)]
struct Way {
    /// What a routed client sent behind its request.
    early: Option<Buffer>,
    timeouts: Arc<Timeouts>,
    tunnel: Option<Tunnel>,
    traffic: Arc<Traffic>,
}

fn relay(client: Stream, upstream: Stream, way: Way) -> Relay {
    let mut relay = Relay::new(client, upstream);
    relay.set_traffic(way.traffic);
    if let Some(early) = way.early {
        let grant = way.tunnel.as_ref().map_or(head::GRANT, |_| head::GRANT_WITH_NOTICES);
        relay.receive_first(Buffer::holding(grant.as_bytes()), grant.len());
        if !early.is_empty() {
            // This client does not wait for the answer: it may go with the upstream's.
            relay.hold_received(LONGEST_HOLD);
        }
        relay.send_first(early, 0);
    }
    if let Some(tunnel) = way.tunnel {
        relay.set_tunnel(Side::Client, tunnel);
    }
    relay
}

/// The CID by which this machine would reach its own listeners.
fn own_cid_or_warn(config: &Config) -> Option<Cid> {
    let own_cid = vsock::local_cid();
    let is_vsock = |listener: &Listener| matches!(listener.on, Endpoint::Vsock { .. });
    if own_cid.is_none() && config.listeners.iter().any(is_vsock) {
        tracing::warn!(
            "failed to read `/dev/vsock`: a process of this machine that connects by its own CID \
             passes for an enclave"
        );
    }
    own_cid
}

/// What is known of a tunnel as long as it lasts.
#[derive(Debug)]
struct Opened {
    address: SocketAddr,
    rule: Arc<Rule>,
    _permit: Permit,
}

async fn read_request(client: &mut Stream, limit: Duration) -> Result<(Request, Buffer), Refusal> {
    let mut reader = HeadReader::default();
    let reading = std::future::poll_fn(|cx| reader.poll(cx, client, head::parse_request));
    match timeout(limit, reading).await {
        Ok(Ok(request)) => Ok(request),
        Ok(Err(HeadError::Parse(error))) => Err(error.into()),
        Ok(Err(HeadError::Stream(error))) => Err(Refusal::Gone(error)),
        Err(_) => Err(Refusal::Silent),
    }
}

/// How long a client that has said something already may wait to hear that it may.
const LONGEST_HOLD: Duration = Duration::from_millis(1);
/// How many refused clients may take their time to read why.
const MOST_HANGING_UP: usize = 256;
/// How much time.
const HANG_UP_TIMEOUT: Duration = Duration::from_secs(1);
