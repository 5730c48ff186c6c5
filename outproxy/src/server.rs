//! The life of an outproxy: it binds everything, serves, reloads and drains.

use std::path::PathBuf;
use std::sync::Arc;

use sd_notify::NotifyState;
use thiserror::Error;
use tunnel::chain::Chain;
use tunnel::config::ConfigError;
use tunnel::listener::{ListenError, Listener};
use tunnel::metrics as names;
use tunnel::signals::{Signals, Wish};
use tunnel::telemetry::LogHandle;

use crate::admin::{Admin, Pages};
use crate::config::Config;
use crate::enclaves::{self, HostLog};
use crate::frontend::Frontend;
use crate::health::Prober;
use crate::overview::Overview;
use crate::recorder::Recorder;

/// A running outproxy.
#[derive(Debug)]
pub struct Server {
    config: Config,
    log: LogHandle,
    frontend: Frontend,
    pages: Pages,
    admin: Option<Admin>,
    prober: Prober,
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
        log: LogHandle,
        recorder: Recorder,
    ) -> Result<Self, ListenError> {
        let admin = config.metrics.as_ref().map(Listener::bind).transpose()?;
        let frontend = Frontend::bind(&config)?;
        let overview = Arc::new(Overview::new(path, Arc::clone(frontend.service())));
        overview.set_listeners(config.listeners.clone());
        let pages = Pages { overview, recorder };
        let admin = admin.map(|listener| Admin::start(listener, pages.clone()));
        Ok(Self { config, log, frontend, pages, admin, prober: Prober::default() })
    }

    /// Serves until the operator wants it to stop, then drains.
    pub async fn run(mut self, mut signals: Signals) {
        let service = Arc::clone(self.frontend.service());
        let journal = tokio::spawn({
            let service = Arc::clone(&service);
            async move { service.journal().count_suppressed().await }
        });
        let enclaves = Arc::clone(service.enclaves());
        let forward = tokio::spawn(enclaves::forward(enclaves, HostLog::detect()));
        let recorder = self.pages.recorder.clone();
        let upkeep = tokio::spawn(async move { recorder.upkeep().await });
        self.probe();
        notify(&[NotifyState::Ready]);
        tracing::info!(listeners = self.config.listeners.len(), "ready");
        while signals.next().await == Wish::Reload {
            self.reload();
        }
        notify(&[NotifyState::Stopping]);
        self.pages.overview.set_draining();
        self.prober = Prober::default();
        let open = self.frontend.service().connections().count();
        let grace = self.config.limits.shutdown_grace;
        tracing::info!(open, ?grace, "shutting down");
        let cut_off = self.frontend.drain(grace, signals.stop()).await;
        journal.abort();
        service.journal().close();
        tracing::info!(cut_off, "stopped");
        upkeep.abort();
        forward.abort();
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
        let disallowed = self.frontend.switch_to(&config)?;
        if let Some(listener) = admin {
            self.admin = Some(Admin::start(listener, self.pages.clone()));
        } else if config.metrics.is_none() {
            self.admin = None;
        }
        self.pages.overview.set_listeners(config.listeners.clone());
        self.log.set(config.log);
        self.config = config;
        self.probe();
        Ok(disallowed)
    }

    /// Probes the destinations of the policy in force.
    fn probe(&mut self) {
        let policy = self.frontend.service().policy();
        self.prober.follow(&policy.health, policy.limits.connect_timeout);
    }

    /// Binds the endpoint of `[metrics]`, if there is one that this server has not bound yet.
    fn bind_admin(&self, config: &Config) -> Result<Option<Listener>, ListenError> {
        let bound = self.admin.as_ref().map(Admin::endpoint);
        let missing = config.metrics.as_ref().filter(|on| bound != Some(on));
        missing.map(Listener::bind).transpose()
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
