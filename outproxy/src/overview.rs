//! All that `/status` is made of, where the server and the admin endpoint both find it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::time::Instant;
use tunnel::limits::MaxConnections;

use crate::config;
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
        let reload = Reload { time: seconds_since_1970(), result, error };
        self.last_reload.store(Some(Arc::new(reload)));
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
                ended: by_word(&tally.ended),
                refused: by_word(&tally.refused),
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
