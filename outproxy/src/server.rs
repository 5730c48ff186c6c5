//! The life of an outproxy: it binds everything, serves, reloads and drains.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use sd_notify::NotifyState;
use thiserror::Error;
use tokio::task::JoinHandle;
use tunnel::accept::accept;
use tunnel::chain::Chain;
use tunnel::config::ConfigError;
use tunnel::destination::Destination;
use tunnel::endpoint::Endpoint;
use tunnel::listener::{ListenError, Listener};
use tunnel::metrics as names;
use tunnel::signals::{Signals, Wish};
use tunnel::telemetry::LogLevelHandle;

use crate::admin::{Admin, Pages};
use crate::config::{self, Config};
use crate::overview::Overview;
use crate::recorder::Recorder;
use crate::service::Service;

/// A running outproxy.
#[derive(Debug)]
pub struct Server {
    config: Config,
    log: LogLevelHandle,
    service: Arc<Service>,
    listeners: HashMap<Endpoint, Accepting>,
    pages: Pages,
    admin: Option<Admin>,
}

impl Server {
    /// Binds every listener, or none. `path` is read again on a reload.
    ///
    /// # Errors
    ///
    /// [`ListenError`] of the first that could not be bound.
    pub fn bind(
        config: Config,
        path: PathBuf,
        log: LogLevelHandle,
        recorder: Recorder,
    ) -> Result<Self, ListenError> {
        let service = Service::new(&config);
        let overview = Arc::new(Overview::new(path, Arc::clone(&service)));
        let pages = Pages { overview, recorder };
        let listeners = HashMap::new();
        let mut server = Self { config, log, service, listeners, pages, admin: None };
        let admin = server.bind_admin(&server.config)?;
        let bound = server.bind_missing(&server.config)?;
        server.listeners.extend(bound);
        server.admin = admin.map(|listener| Admin::start(listener, server.pages.clone()));
        server.pages.overview.set_listeners(server.config.listeners.clone());
        Ok(server)
    }

    /// Serves until the operator wants it to stop, then drains.
    pub async fn run(mut self, mut signals: Signals) {
        let service = Arc::clone(&self.service);
        let journal = tokio::spawn(async move { service.journal().count_suppressed().await });
        let recorder = self.pages.recorder.clone();
        let upkeep = tokio::spawn(async move { recorder.upkeep().await });
        notify(&[NotifyState::Ready]);
        tracing::info!(listeners = self.listeners.len(), "ready");
        while signals.next().await == Wish::Reload {
            self.reload();
        }
        notify(&[NotifyState::Stopping]);
        let open = self.service.connections().count();
        tracing::info!(open, grace = ?self.config.limits.shutdown_grace, "shutting down");
        self.service.notices().retire();
        for (_, accepting) in self.listeners.drain() {
            accepting.stopped().await;
        }
        let grace = self.config.limits.shutdown_grace;
        let cut_off = self.service.connections().drain(grace, signals.stop()).await;
        self.service.notices().leave().await;
        tracing::info!(cut_off, "stopped");
        journal.abort();
        upkeep.abort();
    }

    /// Reads the file again, and switches to it as a whole or not at all.
    fn reload(&mut self) {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            notify(&[NotifyState::Reloading, now]);
        }
        match self.try_reload() {
            Ok(disallowed) => {
                metrics::counter!(names::RELOADS, "result" => "ok").increment(1);
                self.pages.overview.set_reloaded(None);
                tracing::info!(disallowed, "reloaded");
            }
            Err(error) => {
                metrics::counter!(names::RELOADS, "result" => "failed").increment(1);
                let error = Chain(&error).to_string();
                self.pages.overview.set_reloaded(Some(error.clone()));
                tracing::error!(%error, "failed to reload; everything stays as it was");
            }
        }
        notify(&[NotifyState::Ready]);
    }

    fn try_reload(&mut self) -> Result<usize, ReloadError> {
        let config = Config::load(self.pages.overview.path())?;
        let admin = self.bind_admin(&config)?;
        let bound = self.bind_missing(&config)?;
        self.listeners.retain(|on, _| config.listeners.iter().any(|listener| listener.on == *on));
        self.listeners.extend(bound);
        for listener in &config.listeners {
            if let Some(accepting) = self.listeners.get(&listener.on) {
                accepting.to.store(listener.to.clone().map(Arc::new));
            }
        }
        if let Some(listener) = admin {
            self.admin = Some(Admin::start(listener, self.pages.clone()));
        } else if config.metrics.is_none() {
            self.admin = None;
        }
        self.pages.overview.set_listeners(config.listeners.clone());
        self.log.set(config.log);
        let disallowed = self.service.enforce(&config);
        self.config = config;
        Ok(disallowed)
    }

    /// Binds the endpoint of `[metrics]`, if there is one that this server has not bound yet.
    fn bind_admin(&self, config: &Config) -> Result<Option<Listener>, ListenError> {
        let bound = self.admin.as_ref().map(Admin::endpoint);
        let missing = config.metrics.as_ref().filter(|on| bound != Some(on));
        missing.map(Listener::bind).transpose()
    }

    /// Binds what `config` listens on and this server does not yet.
    fn bind_missing(&self, config: &Config) -> Result<Vec<(Endpoint, Accepting)>, ListenError> {
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

/// Why a reload changed nothing.
#[derive(Debug, Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Listen(#[from] ListenError),
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "failed to notify the service manager");
    }
}
