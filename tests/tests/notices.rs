//! Aborts that vsock cannot tell, through an inproxy in this process and the outproxy that is
//! installed, over a Unix socket, which cannot tell them either.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use inproxy::forwarder::Forwarder;
use inproxy::forwards::Forwards;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::SockRef;
use tempfile::TempDir;
use tests::proxies::binary;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tunnel::head::{self, SessionId, TunnelId};
use tunnel::listener::Peer;
use tunnel::stream::Stream;

#[test]
fn a_reset_by_upstream_reaches_a_client_that_has_half_closed_at_once() {
    run(async {
        let mut world = World::new(2).await;
        let (mut client, mut upstream) = world.warmed_up().await;
        let baseline = world.descriptors();
        client.write_all(b"request").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut upstream).await.0, b"request");
        upstream.write_all(b"half").await.unwrap();
        reset(upstream);
        let (reply, end) = read_all(&mut client).await;
        assert_eq!(reply, b"half");
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        drop(client);
        world.frees_the_tunnel(baseline).await;
    });
}

#[test]
fn a_reset_by_the_client_reaches_an_upstream_that_has_half_closed_at_once() {
    run(async {
        let mut world = World::new(2).await;
        let (mut client, mut upstream) = world.warmed_up().await;
        let baseline = world.descriptors();
        upstream.write_all(b"reply").await.unwrap();
        upstream.shutdown().await.unwrap();
        assert_eq!(read_all(&mut client).await.0, b"reply");
        client.write_all(b"half").await.unwrap();
        upstream.read_exact(&mut [0; 4]).await.unwrap();
        reset(client);
        assert_eq!(read_all(&mut upstream).await.1.unwrap_err().kind(), ErrorKind::ConnectionReset);
        drop(upstream);
        world.frees_the_tunnel(baseline).await;
    });
}

#[test]
fn a_kill_of_outproxy_resets_a_client_that_has_half_closed() {
    run(async {
        // A race, if there were one, would show in one of many.
        let mut world = World::new(21).await;
        let mut tunnels = vec![world.warmed_up().await];
        for _ in 2..21 {
            tunnels.push(world.tunnel().await);
        }
        for (client, upstream) in &mut tunnels {
            client.shutdown().await.unwrap();
            assert!(read_all(upstream).await.0.is_empty());
        }
        world.signal(Signal::SIGKILL);
        for (client, _) in &mut tunnels {
            assert_eq!(read_all(client).await.1.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    });
}

#[test]
fn a_shutdown_of_outproxy_ends_cleanly_what_finishes_and_resets_the_rest() {
    run(async {
        let mut world = World::new(3).await;
        let (mut finishing, mut upstream) = world.warmed_up().await;
        let (mut stuck, mut silent) = world.tunnel().await;
        for (client, upstream) in [(&mut finishing, &mut upstream), (&mut stuck, &mut silent)] {
            client.shutdown().await.unwrap();
            assert!(read_all(upstream).await.0.is_empty());
        }
        world.signal(Signal::SIGTERM);
        upstream.write_all(b"reply").await.unwrap();
        drop(upstream);
        let (reply, end) = read_all(&mut finishing).await;
        assert!(reply == b"reply" && end.is_ok(), "{end:?}");
        // The grace period is over at once for those who cannot wait.
        world.signal(Signal::SIGTERM);
        assert_eq!(read_all(&mut stuck).await.1.unwrap_err().kind(), ErrorKind::ConnectionReset);
        world.exits().await;
    });
}

#[test]
fn an_exit_of_outproxy_leaves_a_slow_client_its_whole_reply() {
    run(async {
        let mut world = World::new(2).await;
        SockRef::from(&world.accepted[0].0).set_send_buffer_size(4096).unwrap();
        let (mut client, mut upstream) = world.warmed_up().await;
        client.shutdown().await.unwrap();
        assert!(read_all(&mut upstream).await.0.is_empty());
        // More than the client's connection holds, and less than with the tunnel's.
        upstream.write_all(&[7; 200_000]).await.unwrap();
        drop(upstream);
        world.signal(Signal::SIGTERM);
        world.exits().await;
        assert_eq!(world.forwarder.connections().count(), 1);
        let (reply, end) = read_all(&mut client).await;
        assert!(reply.len() == 200_000 && end.is_ok(), "{}, {end:?}", reply.len());
    });
}

#[test]
fn a_foreign_proxy_sees_nothing_but_a_connect_request() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let proxy = UnixListener::bind(directory.path().join("socket")).unwrap();
        let mut world = World::with_proxy(1, directory, None).await;
        let mut client = world.clients.pop().unwrap();
        world.forward();
        let (mut tunnel, _) = proxy.accept().await.unwrap();
        tunnel.write_all(head::GRANT.as_bytes()).await.unwrap();
        tunnel.write_all(b"hello").await.unwrap();
        soon(client.read_exact(&mut [0; 5])).await.unwrap();
        client.shutdown().await.unwrap();
        let (request, _) = read_all(&mut tunnel).await;
        assert!(request.starts_with(b"CONNECT 127.0.0.2:"));
        drop(tunnel);
        assert!(read_all(&mut client).await.1.is_ok());
        assert!(proxy.accept().now_or_never().is_none());
    });
}

#[test]
fn a_foreign_client_gets_a_tunnel_without_notices() {
    run(async {
        let world = World::new(0).await;
        let mut client = soon(world.connect()).await;
        let address = world.upstream.local_addr().unwrap();
        let request = head::request(&address.to_string().parse().unwrap(), None);
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let (mut upstream, _) = world.upstream.accept().await.unwrap();
        upstream.write_all(b"reply").await.unwrap();
        drop(upstream);
        let (reply, end) = read_all(&mut client).await;
        assert!(reply == format!("{}reply", head::GRANT).as_bytes() && end.is_ok());
    });
}

#[test]
fn an_abort_is_told_to_a_client_that_connects_for_notices_only_afterwards() {
    run(async {
        let world = World::new(0).await;
        let mut client = soon(world.connect()).await;
        let destination = world.upstream.local_addr().unwrap().to_string().parse().unwrap();
        let id = TunnelId { session: SessionId::new(7), number: 1 };
        client.write_all(head::request(&destination, Some(id)).as_bytes()).await.unwrap();
        let (upstream, _) = soon(world.upstream.accept()).await.unwrap();
        reads(&mut client, head::GRANT_WITH_NOTICES).await;
        reset(upstream);
        // The client's half-close comes too late: it does not know what this end is.
        assert!(read_all(&mut client).await.0.is_empty());
        let mut words = soon(world.connect()).await;
        words.write_all(head::notices_request(id.session).as_bytes()).await.unwrap();
        reads(&mut words, head::NOTICES_GRANT).await;
        assert_eq!(soon(words.read_u64()).await.unwrap(), id.number);
    });
}

/// Runs a test alone: descriptors are counted.
fn run(test: impl Future<Output = ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// Both proxies, an upstream, and clients that are not served yet.
struct World {
    clients: Vec<TcpStream>,
    accepted: Vec<(TcpStream, Peer)>,
    upstream: TcpListener,
    forwarder: Arc<Forwarder>,
    outproxy: Child,
    socket: PathBuf,
    _directory: TempDir,
}

impl World {
    async fn new(clients: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::with_proxy(clients, directory, Some(binary("outproxy"))).await
    }

    async fn with_proxy(clients: usize, directory: TempDir, outproxy: Option<PathBuf>) -> Self {
        // Upstream takes the address over once the clients are connected to it.
        let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mut connected, mut accepted) = (Vec::new(), Vec::new());
        for _ in 0..clients {
            connected.push(TcpStream::connect(address).await.unwrap());
            let (stream, peer) = listener.accept().await.unwrap();
            accepted.push((stream, Peer::Tcp(peer)));
        }
        drop(listener);
        let upstream = TcpListener::bind(address).await.unwrap();

        let (port, socket) = (address.port(), directory.path().join("socket"));
        let inproxy = format!(
            "outproxy = \"unix:{}\"\n\
             [[forward]]\nname = \"a\"\naddresses = [\"127.0.0.2\"]\nports = [{port}]\n",
            socket.display()
        );
        let config: inproxy::config::Config = inproxy.parse().unwrap();
        let forwards = Forwards::new(&config, &BTreeMap::new());
        let file = directory.path().join("outproxy.toml");
        let text = format!(
            "[[listen]]\non = \"unix:{}\"\n\
             [[allow]]\nname = \"a\"\nhosts = [\"127.0.0.2\"]\nports = [{port}]\n",
            socket.display()
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(outproxy.unwrap_or_else(|| "true".into()));
        command.arg("--config").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
        Self {
            clients: connected,
            accepted,
            upstream,
            forwarder: Forwarder::new(config, forwards).unwrap(),
            outproxy: command.spawn().unwrap(),
            socket,
            _directory: directory,
        }
    }

    /// Serves the next client.
    fn forward(&mut self) {
        let (stream, peer) = self.accepted.pop().unwrap();
        self.forwarder.serve(Stream::try_from(stream).unwrap(), peer);
    }

    async fn tunnel(&mut self) -> (TcpStream, TcpStream) {
        self.forward();
        let (upstream, _) = soon(self.upstream.accept()).await.unwrap();
        (self.clients.pop().unwrap(), upstream)
    }

    /// A tunnel whose aborts can be told.
    async fn warmed_up(&mut self) -> (TcpStream, TcpStream) {
        let (client, upstream) = self.tunnel().await;
        let forwarder = Arc::clone(&self.forwarder);
        eventually(|| forwarder.notices().is_connected()).await;
        drop((client, upstream));
        eventually(|| forwarder.connections().count() == 0).await;
        let (mut client, mut upstream) = self.tunnel().await;
        // Once something came through, the tunnel is open at both ends.
        upstream.write_all(b"x").await.unwrap();
        soon(client.read_exact(&mut [0])).await.unwrap();
        (client, upstream)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.outproxy.id().cast_signed()), signal).unwrap();
    }

    async fn exits(&mut self) {
        let mut status = None;
        eventually(|| {
            status = self.outproxy.try_wait().unwrap();
            status.is_some()
        })
        .await;
        assert!(status.is_some_and(|status| status.success()));
    }

    async fn connect(&self) -> UnixStream {
        loop {
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => return stream,
                // Nothing tells that the socket is there.
                Err(_) => sleep(Duration::from_millis(1)).await,
            }
        }
    }

    /// How many descriptors both processes have.
    fn descriptors(&self) -> [usize; 2] {
        [self.outproxy.id(), std::process::id()]
            .map(|id| std::fs::read_dir(format!("/proc/{id}/fd")).unwrap().count())
    }

    /// Waits until a tunnel's descriptors are closed: two in outproxy; here, also its ends.
    async fn frees_the_tunnel(&self, [outproxy, own]: [usize; 2]) {
        eventually(|| self.descriptors() == [outproxy - 2, own - 4]).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.outproxy.kill();
        let _ = self.outproxy.wait();
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(1), future).await.expect("it happens at once")
}

async fn eventually(mut condition: impl FnMut() -> bool) {
    soon(async {
        while !condition() {
            // Nothing tells that another process has closed a descriptor.
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let end = soon(stream.read_to_end(&mut bytes)).await.map(drop);
    (bytes, end)
}

async fn reads(stream: &mut UnixStream, expected: &str) {
    let mut bytes = vec![0; expected.len()];
    soon(stream.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(bytes, expected.as_bytes());
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}
