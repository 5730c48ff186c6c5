//! The life of an inproxy: it prepares the enclave's network, binds everything, then runs the
//! application or waits for the operator.

use std::ffi::{OsStr, OsString};
use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tunnel::accept::accept;
use tunnel::chain::Chain;
use tunnel::endpoint::Endpoint;
use tunnel::event_loop::Task;
use tunnel::listener::{ListenError, Listener};
use tunnel::signals;

use crate::application::Application;
use crate::config::Config;
use crate::forwarder::Forwarder;
use crate::forwards::Forwards;
use crate::telemetry::Telemetry;
use crate::{hosts, loopback, network, supervise};

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
            hosts::install(Path::new(hosts::PATH), &entries)?;
        }
        let forwards = Forwards::new(&config, &names);
        let listeners = forwards
            .wildcards()
            .into_iter()
            .map(|wildcard| Listener::bind(&Endpoint::Tcp(wildcard)))
            .collect::<Result<_, ListenError>>()?;
        Ok(Self { forwarder: Forwarder::new(config, forwards)?, listeners })
    }

    /// What tunnels the connections.
    #[must_use]
    pub fn forwarder(&self) -> &Arc<Forwarder> {
        &self.forwarder
    }

    /// Does its duty: serves while the application runs, and exits as it exits; or without one,
    /// serves until the operator wants it to stop, then drains. The host is told of it by
    /// `telemetry`, if at all.
    ///
    /// `serving` is called once the application, if any, has been started.
    ///
    /// # Errors
    ///
    /// The application cannot be waited for.
    pub async fn run(
        self,
        duty: Duty<'_>,
        telemetry: Option<&Telemetry>,
        serving: impl FnOnce(),
    ) -> io::Result<ExitCode> {
        let journal = Arc::clone(&self.forwarder);
        let mut tasks =
            vec![Task::spawn(async move { journal.journal().count_suppressed().await })];
        let listeners = self.listeners.len();
        for listener in self.listeners {
            let forwarder = Arc::clone(&self.forwarder);
            tasks.push(Task::spawn(async move {
                accept(&listener, |stream, peer| forwarder.serve(stream, peer)).await;
            }));
        }
        tracing::info!(listeners, "ready");
        match duty {
            Duty::Supervise(signals, program, arguments) => {
                let application = match Application::start(signals, program, arguments, telemetry) {
                    Ok(application) => application,
                    Err(error) => {
                        tracing::error!(error = %Chain(&error), "the application was not started");
                        return Ok(error.exit_code().into());
                    }
                };
                serving();
                let code = application.wait().await?;
                // What it wrote last may still be on its way.
                stop(tasks).await;
                let grace = self.forwarder.shutdown_grace().min(LAST_BYTES);
                self.forwarder.connections().drain(grace, pending::<()>()).await;
                self.forwarder.notices().leave().await;
                self.forwarder.journal().close();
                Ok(code.into())
            }
            Duty::Serve(mut signals) => {
                serving();
                signals.stop().await;
                stop(tasks).await;
                let connections = self.forwarder.connections();
                let grace = self.forwarder.shutdown_grace();
                tracing::info!(open = connections.count(), ?grace, "shutting down");
                let cut_off = connections.drain(grace, signals.stop()).await;
                self.forwarder.notices().leave().await;
                self.forwarder.journal().close();
                tracing::info!(cut_off, "stopped");
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

async fn stop(tasks: Vec<Task>) {
    for task in tasks {
        task.stop().await;
    }
}

/// What an inproxy is for, once all is bound.
#[derive(Debug)]
pub enum Duty<'a> {
    /// Only to serve.
    Serve(signals::Signals),
    /// To serve this program, run with these arguments.
    Supervise(supervise::Signals, &'a OsStr, &'a [OsString]),
}

impl<'a> Duty<'a> {
    /// Takes over the signals that the duty needs. Call it before binding anything, so that none
    /// is lost.
    ///
    /// # Errors
    ///
    /// What sigaction(2) answers.
    pub fn new(command: &'a [OsString]) -> io::Result<Self> {
        match command.split_first() {
            Some((program, arguments)) => {
                Ok(Self::Supervise(supervise::Signals::install()?, program, arguments))
            }
            None => signals::Signals::install().map(Self::Serve),
        }
    }
}

/// How long tunnels may go on when the application has ended. Its end is the enclave's: nobody
/// waits here for an upstream that never closes.
const LAST_BYTES: Duration = Duration::from_secs(2);
