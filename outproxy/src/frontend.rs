//! Where clients are accepted, and what serves them.

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::sleep;
use tunnel::accept::accept;
use tunnel::backlog::Backlog;
use tunnel::destination::Destination;
use tunnel::endpoint::Endpoint;
use tunnel::event_loop::Task;
use tunnel::listener::{ListenError, Listener};

use crate::config::{self, Config};
use crate::service::Service;

/// A service, and the listeners that bring it connections.
#[derive(Debug)]
pub struct Frontend {
    service: Arc<Service>,
    listeners: HashMap<Endpoint, Accepting>,
}

impl Frontend {
    /// Opens every listener by `listen`, or none.
    ///
    /// # Errors
    ///
    /// [`ListenError`] of the first that could not be opened.
    pub fn bind(config: &Config, listen: impl Listen) -> Result<Self, ListenError> {
        let service = Service::new(config);
        let mut frontend = Self { service, listeners: HashMap::new() };
        frontend.listeners = frontend.open_missing(config, listen)?;
        Ok(frontend)
    }

    /// What serves the connections.
    #[must_use]
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// What connections are accepted from.
    pub fn listeners(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.values().map(|accepting| accepting.listener.as_ref())
    }

    /// Puts `config` in force as a whole or not at all; says how many connections ended since it
    /// no longer allows them.
    ///
    /// # Errors
    ///
    /// [`ListenError`] of the first listener that could not be opened. Then nothing has changed.
    pub fn switch_to(
        &mut self,
        config: &Config,
        listen: impl Listen,
    ) -> Result<usize, ListenError> {
        let opened = self.open_missing(config, listen)?;
        self.listeners.retain(|on, _| config.listeners.iter().any(|listener| listener.on == *on));
        self.listeners.extend(opened);
        for listener in &config.listeners {
            if let Some(accepting) = self.listeners.get(&listener.on) {
                accepting.to.store(listener.to.clone().map(Arc::new));
            }
        }
        Ok(self.service.enforce(config))
    }

    /// Accepts nothing more. Whoever keeps a listener for the next process has clients wait there;
    /// others are refused from when this returns.
    pub async fn close(mut self) -> Draining {
        self.service.notices().retire();
        let mut listeners = Vec::new();
        for (_, accepting) in self.listeners.drain() {
            listeners.push(accepting.stopped().await);
        }
        let backlog = Backlog::watch(listeners.iter().map(Arc::as_ref));
        Draining { service: self.service, backlog }
    }

    /// Opens what `config` listens on and nobody has opened yet.
    fn open_missing(
        &self,
        config: &Config,
        mut listen: impl Listen,
    ) -> Result<HashMap<Endpoint, Accepting>, ListenError> {
        let missing = config.listeners.iter().filter(|on| !self.listeners.contains_key(&on.on));
        let opened: Vec<_> = missing
            .map(|listener| Ok((listen(&listener.on)?, listener)))
            .collect::<Result<_, ListenError>>()?;
        let start = |(opened, listener): (Listener, &config::Listener)| {
            let to = Arc::new(ArcSwapOption::from(listener.to.clone().map(Arc::new)));
            (listener.on.clone(), Accepting::start(opened, to, Arc::clone(&self.service)))
        };
        Ok(opened.into_iter().map(start).collect())
    }
}

/// A service that gets no more connections.
#[derive(Debug)]
pub struct Draining {
    service: Arc<Service>,
    backlog: io::Result<Backlog>,
}

impl Draining {
    /// Lets connections finish, for `grace` or until `hurry` is ready; then ends those that are left,
    /// says how many, and takes leave of the clients.
    ///
    /// Where somebody keeps a listener for the next process, clients can connect meanwhile, and
    /// wait. So the first of them shortens the grace period to [`LONGEST_WAIT`] from then.
    pub async fn finish(self, grace: Duration, hurry: impl Future) -> usize {
        let Self { service, backlog } = self;
        let hurry = async {
            tokio::select! {
                _ = hurry => {}
                () = longest_wait(backlog) => {}
            }
        };
        let cut_off = service.connections().drain(grace, hurry).await;
        service.notices().leave().await;
        service.enclaves().close();
        cut_off
    }
}

/// How a listener comes to be, such as [`Listener::bind`].
pub trait Listen: FnMut(&Endpoint) -> Result<Listener, ListenError> {}

impl<F: FnMut(&Endpoint) -> Result<Listener, ListenError>> Listen for F {}

/// Ready [`LONGEST_WAIT`] after the first client of a listener that somebody keeps.
async fn longest_wait(backlog: io::Result<Backlog>) {
    let waiting = async { backlog?.is_waited_for().await };
    if let Err(error) = waiting.await {
        tracing::warn!(%error, "failed to watch for clients that wait for the next process");
        return pending().await;
    }
    tracing::info!("clients wait for the next process; the grace period is cut short");
    sleep(LONGEST_WAIT).await;
}

/// A listener whose connections are being accepted.
#[derive(Debug)]
struct Accepting {
    listener: Arc<Listener>,
    task: Task,
    /// Where a raw listener leads; `None` if it is a routed one.
    to: Arc<ArcSwapOption<Destination>>,
}

impl Accepting {
    fn start(
        listener: Listener,
        to: Arc<ArcSwapOption<Destination>>,
        service: Arc<Service>,
    ) -> Self {
        let listener = Arc::new(listener);
        let (accepting, target) = (Arc::clone(&listener), Arc::clone(&to));
        let task = Task::spawn(async move {
            accept(&accepting, |stream, peer| service.serve(stream, peer, target.load_full()))
                .await;
        });
        Self { listener, task, to }
    }

    /// Stops accepting, and returns the last hold on the listener.
    async fn stopped(self) -> Arc<Listener> {
        self.task.stop().await;
        self.listener
    }
}

/// How long clients may wait for the next process because of connections that do not finish. The
/// enclaves' connects wait for an answer for 5 s and more.
pub const LONGEST_WAIT: Duration = Duration::from_secs(2);
