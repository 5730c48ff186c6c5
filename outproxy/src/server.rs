//! The life of an outproxy: it binds everything, serves, reloads and drains.

use std::path::PathBuf;
use std::sync::Arc;

use sd_notify::NotifyState;
use thiserror::Error;
use tunnel::chain::Chain;
use tunnel::config::ConfigError;
use tunnel::event_loop::Task;
use tunnel::listener::{ListenError, Listener};
use tunnel::metrics as names;
use tunnel::signals::{Signals, Wish};
use tunnel::telemetry::LogHandle;

use crate::admin::{Admin, Pages};
use crate::clusters::Followers;
use crate::config::Config;
use crate::enclaves::{self, HostLog};
use crate::frontend::Frontend;
use crate::handover::{Handover, Inherited};
use crate::health::Prober;
use crate::heartbeat;
use crate::overview::Overview;
use crate::recorder::Recorder;
use crate::service_manager::ServiceManager;

/// A running outproxy.
#[derive(Debug)]
pub struct Server {
    config: Config,
    log: LogHandle,
    frontend: Frontend,
    pages: Pages,
    admin: Option<Admin>,
    prober: Prober,
    followers: Followers,
    manager: ServiceManager,
    handover: Handover,
}

impl Server {
    /// Opens every listener, or none. `path` is read again on a reload.
    ///
    /// # Errors
    ///
    /// [`ListenError`] of the first that could not be opened.
    pub async fn open(
        config: Config,
        path: PathBuf,
        log: LogHandle,
        recorder: Recorder,
        inherited: Inherited,
    ) -> Result<Self, ListenError> {
        let manager = ServiceManager::from_env();
        let mut handover = Handover::begin(inherited, &config, manager.clone()).await;
        let admin = config.metrics.as_ref().map(|on| handover.listen(on)).transpose()?;
        let frontend = Frontend::bind(&config, |on| handover.listen(on))?;
        let overview = Arc::new(Overview::new(path, Arc::clone(frontend.service())));
        overview.set_listeners(config.listeners.clone());
        let pages = Pages { overview, recorder };
        let admin = admin.map(|listener| Admin::start(listener, pages.clone()));
        let (prober, followers) = (Prober::default(), Followers::default());
        Ok(Self { config, log, frontend, pages, admin, prober, followers, manager, handover })
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
        self.probe_and_follow();
        self.hand_on().await;
        self.manager.tell(&[NotifyState::Ready]).await;
        let overview = Arc::clone(&self.pages.overview);
        // Where connections are served: if that hangs, the watchdog is to bite.
        let heartbeat = Task::spawn(heartbeat::beat(self.manager.clone(), overview));
        tracing::info!(listeners = self.config.listeners.len(), "ready");
        loop {
            tokio::select! {
                wish = signals.next() => match wish {
                    Wish::Reload => self.reload().await,
                    Wish::Stop => break,
                },
                () = self.followers.changed() => self.follow_clusters(),
            }
        }
        self.pages.overview.set_draining();
        (self.prober, self.followers) = (Prober::default(), Followers::default());
        let open = self.frontend.service().connections().count();
        let grace = self.config.limits.shutdown_grace;
        tracing::info!(open, ?grace, "shutting down");
        let draining = self.frontend.close().await;
        let stopping = [NotifyState::Stopping];
        let telling = self.manager.tell(&stopping);
        let ((), cut_off) = tokio::join!(telling, draining.finish(grace, signals.stop()));
        journal.abort();
        service.journal().close();
        tracing::info!(cut_off, "stopped");
        upkeep.abort();
        forward.abort();
        drop(heartbeat);
    }

    /// Has the next process inherit the listeners.
    async fn hand_on(&mut self) {
        let admin = self.admin.as_ref().map(Admin::listener);
        let listeners: Vec<_> = self.frontend.listeners().chain(admin).collect();
        self.handover.keep_only(&listeners).await;
    }

    /// Reads the file again, and switches to it as a whole or not at all.
    async fn reload(&mut self) {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.manager.tell(&[NotifyState::Reloading, now]).await;
        }
        match self.try_reload() {
            Ok(disallowed) => {
                self.hand_on().await;
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
        self.manager.tell(&[NotifyState::Ready]).await;
    }

    fn try_reload(&mut self) -> Result<usize, ReloadError> {
        let config = Config::load(self.pages.overview.path())?;
        let admin = self.bind_admin(&config)?;
        let disallowed = self.frontend.switch_to(&config, Listener::bind)?;
        if let Some(listener) = admin {
            self.admin = Some(Admin::start(listener, self.pages.clone()));
        } else if config.metrics.is_none() {
            self.admin = None;
        }
        self.pages.overview.set_listeners(config.listeners.clone());
        self.log.set(config.log);
        self.config = config;
        self.probe_and_follow();
        Ok(disallowed)
    }

    /// Some cluster has other HSMs than the policy in force knows.
    fn follow_clusters(&mut self) {
        let disallowed = self.frontend.service().follow_clusters();
        if disallowed > 0 {
            tracing::info!(disallowed, "connections with HSMs that are gone were ended");
        }
        self.probe_and_follow();
    }

    /// Probes the destinations of the policy in force, and follows its clusters.
    fn probe_and_follow(&mut self) {
        let policy = self.frontend.service().policy();
        self.prober.follow(&policy.health, policy.limits.connect_timeout);
        self.followers.follow(&policy.clusters, policy.limits.shutdown_grace);
    }

    /// Binds the endpoint of `[metrics]`, if there is one that this server has not bound yet.
    fn bind_admin(&self, config: &Config) -> Result<Option<Listener>, ListenError> {
        let bound = self.admin.as_ref().map(|admin| admin.listener().endpoint());
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
