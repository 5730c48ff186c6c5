//! All that `/status` is made of, where the server and the admin endpoint both find it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::time::Instant;
use tunnel::limits::MaxConnections;

use crate::config;
use crate::health::Count;
use crate::service::Service;
use crate::status::{
    ConfigStatus, ConnectionsStatus, ErrorStatus, ListenerStatus, Reload, ReloadResult, RuleStatus,
    Status,
};
use crate::tally::seconds_since_1970;

/// What there is to know of a running outproxy.
#[derive(Debug)]
pub struct Overview {
    started: Instant,
    path: PathBuf,
    listeners: ArcSwap<Vec<config::Listener>>,
    last_reload: ArcSwapOption<Reload>,
    /// When the configuration in force was read.
    last_load: AtomicU64,
    is_draining: AtomicBool,
    service: Arc<Service>,
}

impl Overview {
    /// That of an outproxy that starts now, configured by the file at `path`.
    #[must_use]
    pub fn new(path: PathBuf, service: Arc<Service>) -> Self {
        Self {
            started: Instant::now(),
            path,
            listeners: ArcSwap::default(),
            last_reload: ArcSwapOption::empty(),
            last_load: AtomicU64::new(seconds_since_1970()),
            is_draining: AtomicBool::new(false),
            service,
        }
    }

    /// The file that is read on a reload.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What serves the connections.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// These are the listeners from now on.
    pub fn set_listeners(&self, listeners: Vec<config::Listener>) {
        self.listeners.store(Arc::new(listeners));
    }

    /// The file was read again just now; `error` is why it is not in force.
    pub fn set_reloaded(&self, error: Option<String>) {
        let result = if error.is_some() { ReloadResult::Failed } else { ReloadResult::Ok };
        let time = seconds_since_1970();
        if result == ReloadResult::Ok {
            self.last_load.store(time, Ordering::Relaxed);
        }
        let reload = Reload { time, result, error };
        self.last_reload.store(Some(Arc::new(reload)));
    }

    /// Whether the file was put in force when it was last read, and when one was, in seconds since
    /// 1970 (UTC).
    #[must_use]
    pub fn last_load(&self) -> (bool, u64) {
        let last = self.last_reload.load();
        let good = last.as_ref().is_none_or(|last| last.result == ReloadResult::Ok);
        (good, self.last_load.load(Ordering::Relaxed))
    }

    /// Nothing is accepted from now on.
    pub fn set_draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Whether nothing is accepted any more.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// The line that `systemctl status` shows.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = match self.service.connections().count() {
            1 => "1 connection open".into(),
            open => format!("{open} connections open"),
        };
        let Count { down, unknown, up } = self.service.policy().health.count();
        if let probed @ 1.. = down + unknown + up {
            line.push_str(&format!("; {up} of {probed} destinations up"));
        }
        if self.is_draining() {
            line.push_str("; shutting down");
        } else if !self.last_load().0 {
            line.push_str("; the last reload failed, see the log");
        }
        line
    }

    /// All of it, as it is now.
    #[must_use]
    pub fn status(&self) -> Status {
        let policy = self.service.policy();
        let tally = self.service.journal().tally();
        let by_word = |counts: &BTreeMap<&'static str, u64>| {
            counts.iter().map(|(word, count)| ((*word).into(), *count)).collect()
        };
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: self.started.elapsed().as_secs(),
            config: ConfigStatus {
                path: self.path.display().to_string(),
                last_reload: self.last_reload.load_full().map(|reload| Reload::clone(&reload)),
            },
            listeners: self.listeners.load().iter().map(ListenerStatus::from).collect(),
            connections: ConnectionsStatus {
                open: self.service.connections().count(),
                max: policy.limits.max_connections.get(),
                ended: by_word(&tally.outcomes.ended()),
                refused: by_word(&tally.outcomes.refused()),
            },
            rules: policy
                .allowlist
                .rules()
                .iter()
                .map(|rule| RuleStatus {
                    name: rule.name.to_string(),
                    open: rule.open(),
                    max: rule.max_connections.map(MaxConnections::get),
                })
                .collect(),
            destinations: policy.health.status(),
            clusters: policy.clusters.status(),
            enclaves: self.service.enclaves().status(),
            last_errors: tally
                .errors()
                .into_iter()
                .map(|(destination, error)| ErrorStatus {
                    destination: destination.to_string(),
                    rule: error.rule.as_ref().map(ToString::to_string),
                    outcome: error.outcome.into(),
                    reason: error.reason.clone(),
                    time: error.time,
                })
                .collect(),
        }
    }
}

impl From<&config::Listener> for ListenerStatus {
    fn from(listener: &config::Listener) -> Self {
        Self { on: listener.on.to_string(), to: listener.to.as_ref().map(ToString::to_string) }
    }
}
