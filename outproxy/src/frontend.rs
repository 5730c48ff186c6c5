//! Where clients are accepted, and what serves them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::task::JoinHandle;
use tunnel::accept::accept;
use tunnel::destination::Destination;
use tunnel::endpoint::Endpoint;
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
    /// Binds every listener, or none.
    ///
    /// # Errors
    ///
    /// [`ListenError`] of the first that could not be bound.
    pub fn bind(config: &Config) -> Result<Self, ListenError> {
        let service = Service::new(config);
        let mut frontend = Self { service, listeners: HashMap::new() };
        frontend.listeners = frontend.bind_missing(config)?;
        Ok(frontend)
    }

    /// What serves the connections.
    #[must_use]
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Puts `config` in force as a whole or not at all; says how many connections ended since it
    /// no longer allows them.
    ///
    /// # Errors
    ///
    /// [`ListenError`] of the first listener that could not be bound. Then nothing has changed.
    pub fn switch_to(&mut self, config: &Config) -> Result<usize, ListenError> {
        let bound = self.bind_missing(config)?;
        self.listeners.retain(|on, _| config.listeners.iter().any(|listener| listener.on == *on));
        self.listeners.extend(bound);
        for listener in &config.listeners {
            if let Some(accepting) = self.listeners.get(&listener.on) {
                accepting.to.store(listener.to.clone().map(Arc::new));
            }
        }
        Ok(self.service.enforce(config))
    }

    /// Accepts nothing more, and lets connections finish, for `grace` or until `hurry` is ready;
    /// then ends those that are left, says how many, and takes leave of the clients.
    pub async fn drain(mut self, grace: Duration, hurry: impl Future) -> usize {
        self.service.notices().retire();
        for (_, accepting) in self.listeners.drain() {
            accepting.stopped().await;
        }
        let cut_off = self.service.connections().drain(grace, hurry).await;
        self.service.notices().leave().await;
        self.service.enclaves().close();
        cut_off
    }

    /// Binds what `config` listens on and nobody has bound yet.
    fn bind_missing(&self, config: &Config) -> Result<HashMap<Endpoint, Accepting>, ListenError> {
        let missing = config.listeners.iter().filter(|on| !self.listeners.contains_key(&on.on));
        let bound: Vec<_> = missing
            .map(|listener| Ok((Listener::bind(&listener.on)?, listener)))
            .collect::<Result<_, ListenError>>()?;
        let start = |(bound, listener): (Listener, &config::Listener)| {
            let to = Arc::new(ArcSwapOption::from(listener.to.clone().map(Arc::new)));
            (listener.on.clone(), Accepting::start(bound, to, Arc::clone(&self.service)))
        };
        Ok(bound.into_iter().map(start).collect())
    }
}

/// A listener whose connections are being accepted.
#[derive(Debug)]
struct Accepting {
    task: JoinHandle<()>,
    /// Where a raw listener leads; `None` if it is a routed one.
    to: Arc<ArcSwapOption<Destination>>,
}

impl Accepting {
    fn start(
        listener: Listener,
        to: Arc<ArcSwapOption<Destination>>,
        service: Arc<Service>,
    ) -> Self {
        let target = Arc::clone(&to);
        let task = tokio::spawn(async move {
            accept(&listener, |stream, peer| service.serve(stream, peer, target.load_full())).await;
        });
        Self { task, to }
    }

    /// Stops accepting, and returns once the endpoint is free.
    async fn stopped(mut self) {
        self.task.abort();
        // It was cancelled: there is no other way to end it.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.task.abort();
    }
}
