//! The upstreams, and how they treat those who connect.

use std::sync::Arc;

use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Duration;

use super::bytes::{Bytes, NAME};
use super::end::{End, Side};
use super::net::{self, Net};
use super::plan::{Plan, Site, TRAP};
use super::record::Recorder;

/// All sites, and the trap.
pub(crate) struct Sites {
    plan: Arc<Plan>,
    net: Net,
    recorder: Recorder,
    open: Vec<Option<Open>>,
}

/// What a site has while it is what it is.
enum Open {
    Accepting(JoinHandle<()>),
    Black { _listener: TcpListener, _filler: std::net::TcpStream },
}

impl Sites {
    pub(crate) async fn new(plan: Arc<Plan>, net: Net, recorder: Recorder) -> Self {
        let open = (0..=TRAP).map(|_| None).collect();
        let mut sites = Self { plan, net, recorder, open };
        for site in 0..=TRAP {
            sites.set(site, Site::Good).await;
        }
        sites
    }

    /// A site becomes another kind of site.
    pub(crate) async fn set(&mut self, site: usize, kind: Site) {
        self.close(site).await;
        let now = self.recorder.now();
        self.recorder.lock().sites.push((now, site, kind));
        self.open[site] = match kind {
            Site::Refusing => None,
            Site::Black => {
                let listener = net::listen(self.net.site(site), 0);
                let filler = net::fill(self.net, site);
                Some(Open::Black { _listener: listener, _filler: filler })
            }
            Site::Good | Site::Resetting => {
                let listener = net::listen(self.net.site(site), 1024);
                let (plan, recorder) = (Arc::clone(&self.plan), self.recorder.clone());
                let accepting = accept(listener, site, kind, plan, recorder);
                Some(Open::Accepting(tokio::spawn(accepting)))
            }
        };
    }

    /// The day is over.
    pub(crate) async fn close_all(mut self) {
        for site in 0..=TRAP {
            self.close(site).await;
        }
    }

    async fn close(&mut self, site: usize) {
        if let Some(Open::Accepting(task)) = self.open[site].take() {
            task.abort();
            // The address is free once the task is gone.
            let _ = task.await;
        }
    }
}

async fn accept(
    listener: TcpListener,
    site: usize,
    kind: Site,
    plan: Arc<Plan>,
    recorder: Recorder,
) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let now = recorder.now();
        recorder.lock().dialled.push((now, site));
        SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        if kind == Site::Resetting {
            continue;
        }
        socket.set_nodelay(true).unwrap();
        tokio::spawn(serve(socket, site, now, Arc::clone(&plan), recorder.clone()));
    }
}

/// Finds out who it is that connected, and does what is its part then.
async fn serve(
    mut socket: TcpStream,
    site: usize,
    begun: u64,
    plan: Arc<Plan>,
    recorder: Recorder,
) {
    let mut first = [0; NAME];
    if socket.read_exact(&mut first).await.is_err() {
        // It ended before it said who it is, and is reset.
        return;
    }
    let now = recorder.now();
    let whose = Bytes::whose(plan.seed, first).filter(|index| *index < plan.streams.len());
    let Some(index) = whose else {
        return recorder.lock().broken.push(format!("N3: a stream begins with {first:?}"));
    };
    {
        let mut record = recorder.lock();
        let stream = &mut record.streams[index];
        if stream.site.replace(site).is_some() {
            return record.broken.push(format!("N3: stream {index} arrived twice"));
        }
        stream.upstream.begun = begun;
        stream.upstream.read.push((now, NAME as u64));
    }
    SockRef::from(&socket).set_linger(None).unwrap();
    let [expects, sends] = [true, false].map(|client| Bytes::new(plan.seed, index, client));
    let part = &plan.streams[index].upstream;
    let side = Side::Upstream;
    End { socket, index, side, part, sends, expects, recorder }.perform().await;
}
