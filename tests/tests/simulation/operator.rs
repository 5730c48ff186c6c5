//! The operator of outproxy: starts it, reloads it, stops it.

use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use outproxy::config::Config;
use outproxy::frontend::Frontend;
use outproxy::service::Service;
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until};
use tunnel::listener::Listener;

use super::config;
use super::net::Net;
use super::plan::{Ms, Operation, Plan, Policy};
use super::record::{Recorder, Restart};

/// An operator, with an outproxy that runs.
pub(crate) struct Operator {
    plan: Arc<Plan>,
    net: Net,
    directory: PathBuf,
    recorder: Recorder,
    /// Taken while there is none.
    frontend: Option<Frontend>,
    logging: JoinHandle<()>,
    policy: Policy,
    /// Those of all processes.
    services: Vec<Arc<Service>>,
}

impl Operator {
    pub(crate) fn start(plan: Arc<Plan>, net: Net, directory: &Path, recorder: Recorder) -> Self {
        let policy = plan.policy.clone();
        let config = parse(&policy, net, directory);
        let frontend = Frontend::bind(&config, Listener::bind).unwrap();
        let logging = log(frontend.service());
        recorder.lock().policies.push((0, 0, policy.clone()));
        let directory = directory.into();
        let services = vec![Arc::clone(frontend.service())];
        let frontend = Some(frontend);
        Self { plan, net, directory, recorder, frontend, logging, policy, services }
    }

    /// Does all that is planned.
    pub(crate) async fn operate(&mut self) {
        let plan = Arc::clone(&self.plan);
        for (at, operation) in &plan.operator {
            sleep_until(self.recorder.at(*at)).await;
            match operation {
                Operation::BadFile => self.reload_bad_file(),
                Operation::BadListener => self.reload_bad_listener(),
                Operation::Reload(policy) => self.reload(policy),
                Operation::Restart { hurry, pause, policy } => {
                    self.stop(*hurry, *pause).await;
                    self.restart(policy).await;
                }
            }
        }
    }

    /// Stops it for good.
    pub(crate) async fn finish(&mut self) {
        self.stop(None, 0).await;
    }

    /// What its processes say of themselves, once all is quiet.
    pub(crate) fn services(&self) -> &[Arc<Service>] {
        &self.services
    }

    fn reload(&mut self, policy: &Policy) {
        let config = parse(policy, self.net, &self.directory);
        self.frontend.as_mut().unwrap().switch_to(&config, Listener::bind).unwrap();
        self.enforced(policy);
    }

    fn reload_bad_file(&self) {
        let text = config::outproxy(&self.policy, self.net, &self.directory);
        if (text + "[[allow]]\n").parse::<Config>().is_ok() {
            self.recorder.lock().broken.push("a file with a mistake is loaded".into());
        }
    }

    fn reload_bad_listener(&mut self) {
        let nobody = Policy { sites: [false; _], names: [false; _], ..self.policy.clone() };
        let text = config::outproxy(&nobody, self.net, &self.directory);
        let text = format!("[[listen]]\non = 'unix:{}/no/such'\n{text}", self.directory.display());
        let frontend = self.frontend.as_mut().unwrap();
        if frontend.switch_to(&text.parse().unwrap(), Listener::bind).is_ok() {
            self.recorder.lock().broken.push("a listener is bound where it cannot be".into());
        }
    }

    async fn stop(&mut self, hurry: Option<Ms>, pause: Ms) {
        let closed = self.recorder.now();
        let cut_off = closed + hurry.unwrap_or(Ms::MAX / 2).min(self.policy.grace);
        let restart = Restart { closed, cut_off, bound: Ms::MAX };
        self.recorder.lock().restarts.push(restart);
        let frontend = self.frontend.take().unwrap();
        let grace = Duration::from_millis(self.policy.grace);
        let hurry = async {
            match hurry {
                Some(hurry) => sleep(Duration::from_millis(hurry)).await,
                None => pending().await,
            }
        };
        frontend.close().await.finish(grace, hurry).await;
        self.logging.abort();
        sleep(Duration::from_millis(pause)).await;
    }

    async fn restart(&mut self, policy: &Policy) {
        // Until the sockets of the old process are gone.
        tokio::task::yield_now().await;
        let config = parse(policy, self.net, &self.directory);
        let frontend = Frontend::bind(&config, Listener::bind).unwrap();
        self.logging = log(frontend.service());
        self.services.push(Arc::clone(frontend.service()));
        self.frontend = Some(frontend);
        self.enforced(policy);
        let now = self.recorder.now();
        self.recorder.lock().restarts.last_mut().unwrap().bound = now;
    }

    fn enforced(&mut self, policy: &Policy) {
        self.policy = policy.clone();
        let now = self.recorder.now();
        self.recorder.lock().policies.push((now, self.services.len() - 1, policy.clone()));
    }
}

fn parse(policy: &Policy, net: Net, directory: &Path) -> Config {
    config::outproxy(policy, net, directory).parse().unwrap()
}

fn log(service: &Arc<Service>) -> JoinHandle<()> {
    let service = Arc::clone(service);
    tokio::spawn(async move { service.journal().count_suppressed().await })
}
