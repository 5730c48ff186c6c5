//! The life of an inproxy: it prepares the enclave's network, binds everything, then runs the
//! application or waits for the operator.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::task::JoinSet;
use tunnel::accept::accept;
use tunnel::endpoint::Endpoint;
use tunnel::listener::{ListenError, Listener};
use tunnel::signals;

use crate::config::Config;
use crate::forwarder::Forwarder;
use crate::forwards::Forwards;
use crate::supervise::{self, Child};
use crate::{hosts, loopback, network};

/// An inproxy whose listeners are all bound.
#[derive(Debug)]
pub struct Server {
    forwarder: Arc<Forwarder>,
    listeners: Vec<Listener>,
}

impl Server {
    /// Brings `lo` up, makes every forwarded address local, writes the hosts file and binds every
    /// listener.
    ///
    /// # Errors
    ///
    /// Whatever of this fails, with what to do about it.
    pub async fn bind(config: Config) -> anyhow::Result<Self> {
        let names = loopback::assign(config.hosts());
        network::make_local(&config.networks().collect::<Vec<_>>()).await?;
        if !names.is_empty() {
            let entries: Vec<_> =
                names.iter().map(|(name, ip)| (IpAddr::V4(*ip), name.clone())).collect();
            hosts::install(Path::new(HOSTS), &entries)?;
        }
        let forwards = Forwards::new(&config, &names);
        let listeners = forwards
            .wildcards()
            .into_iter()
            .map(|wildcard| Listener::bind(&Endpoint::Tcp(wildcard)))
            .collect::<Result<_, ListenError>>()?;
        Ok(Self { forwarder: Forwarder::new(config, forwards)?, listeners })
    }

    /// Serves while `command` runs, and exits as it exits. Without a command, serves until the
    /// operator wants it to stop, then drains.
    ///
    /// `serving` is called once the command, if any, has been started.
    ///
    /// # Errors
    ///
    /// The command cannot be run, or signals cannot be caught.
    pub async fn run(
        self,
        command: &[OsString],
        serving: impl FnOnce(),
    ) -> anyhow::Result<ExitCode> {
        let mut tasks = JoinSet::new();
        let journal = Arc::clone(&self.forwarder);
        tasks.spawn(async move { journal.journal().count_suppressed().await });
        let listeners = self.listeners.len();
        for listener in self.listeners {
            let forwarder = Arc::clone(&self.forwarder);
            tasks.spawn(async move {
                accept(&listener, |stream, peer| forwarder.serve(stream, peer)).await;
            });
        }
        tracing::info!(listeners, "ready");
        match command.split_first() {
            Some((program, arguments)) => {
                let signals = supervise::Signals::install().context("failed to catch signals")?;
                let child = match Child::spawn(signals, program, arguments) {
                    Ok(child) => child,
                    Err(error) => {
                        tracing::error!(%error, "the application was not started");
                        return Ok(error.exit_code().into());
                    }
                };
                serving();
                Ok(child.wait().await?.into())
            }
            None => {
                let mut signals = signals::Signals::install().context("failed to catch signals")?;
                serving();
                signals.stop().await;
                tasks.shutdown().await;
                let connections = self.forwarder.connections();
                let grace = self.forwarder.shutdown_grace();
                tracing::info!(open = connections.count(), ?grace, "shutting down");
                let cut_off = connections.drain(grace, signals.stop()).await;
                self.forwarder.notices().leave().await;
                tracing::info!(cut_off, "stopped");
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

const HOSTS: &str = "/etc/hosts";
