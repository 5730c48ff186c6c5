//! The life of an enclave-app: it binds, serves and drains.

use std::sync::Arc;

use protocol::answer::{Code, Failure};
use tokio::sync::{Semaphore, watch};
use tunnel::accept::accept;
use tunnel::connections::Connections;
use tunnel::endpoint::Endpoint;
use tunnel::listener::{ListenError, Listener, Peer};
use tunnel::signals::{Signals, Wish};
use tunnel::stream::Stream;

use crate::config::Limits;
use crate::service::Service;
use crate::session::{HANG_UP_TIMEOUT, Session};

/// A running enclave-app.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    reception: Reception,
}

impl Server {
    /// Binds the endpoint. Needs a runtime.
    ///
    /// # Errors
    ///
    /// [`ListenError`], with what the system answered.
    pub fn bind(listen: &Endpoint, limits: Limits, service: Service) -> Result<Self, ListenError> {
        let listener = Listener::bind(listen)?;
        let reception = Reception {
            service: Arc::new(service),
            connections: Connections::new(limits.max_connections.get()),
            limits: Arc::new(limits),
            hanging_up: Arc::new(Semaphore::new(MOST_HANGING_UP)),
            leaving: watch::Sender::new(false),
        };
        Ok(Self { listener, reception })
    }

    /// Serves until the operator wants it to stop, then drains.
    pub async fn run(self, mut signals: Signals) {
        let Self { listener, reception } = self;
        let service = Arc::clone(&reception.service);
        let journal = tokio::spawn(async move { service.journal().count_suppressed().await });
        tracing::info!(listen = %listener.endpoint(), "ready");
        tokio::select! {
            never = accept(&listener, |stream, peer| reception.receive(stream, peer)) => never,
            () = stop(&mut signals) => {}
        }
        drop(listener);
        let (open, grace) = (reception.connections.count(), reception.limits.shutdown_grace);
        tracing::info!(open, ?grace, "shutting down");
        reception.leaving.send_replace(true);
        let cut_off = reception.connections.drain(grace, signals.stop()).await;
        reception.service.shutdown().await;
        journal.abort();
        reception.service.journal().close();
        tracing::info!(cut_off, "stopped");
    }
}

/// Waits until the operator wants it to stop.
async fn stop(signals: &mut Signals) {
    while signals.next().await == Wish::Reload {
        tracing::warn!("the configuration is measured with the image: it cannot be reloaded");
    }
}

/// What receives new connections.
#[derive(Debug)]
struct Reception {
    service: Arc<Service>,
    connections: Arc<Connections<()>>,
    limits: Arc<Limits>,
    hanging_up: Arc<Semaphore>,
    leaving: watch::Sender<bool>,
}

impl Reception {
    fn receive(&self, client: Stream, peer: Peer) {
        let Some(connection) = self.connections.open() else {
            return self.turn_away(client, peer);
        };
        let session = Session {
            client,
            peer,
            service: Arc::clone(&self.service),
            limits: Arc::clone(&self.limits),
            leaving: self.leaving.subscribe(),
        };
        tokio::spawn(async move {
            tokio::select! {
                () = session.run() => {}
                _ = connection.stopped() => {}
            }
        });
    }

    fn turn_away(&self, client: Stream, peer: Peer) {
        let most = self.limits.max_connections;
        let failure =
            Failure::new(Code::Busy, format!("there are {most} connections already; try again"));
        let reply = self.service.refuse(peer, failure);
        // When too many do not hang up by themselves, the others are cut off.
        if let Ok(permit) = Arc::clone(&self.hanging_up).try_acquire_owned() {
            tokio::spawn(async move {
                client.hang_up(&reply.frame, HANG_UP_TIMEOUT).await;
                drop(permit);
            });
        }
    }
}

/// How many clients that were turned away may take their time to read why.
const MOST_HANGING_UP: usize = 256;
