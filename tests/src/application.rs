//! The application: enclave-app as inproxy's child, and host-client on the host.

use std::fs;
use std::ops::Deref;
use std::process::{Command, Output};
use std::thread;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::client::{ACCESS_KEY_ID, Client, SECRET_ACCESS_KEY, SESSION_TOKEN};
use crate::hsm::TOKEN;
use crate::link::{Link, module};
use crate::patience::{is_emulated, patience};
use crate::process::Process;
use crate::proxies::{Outproxy, binary, run_inproxy};
use crate::secrets_manager::{REGION, SECRET};
use crate::vpc::{HSMS, Vpc};
use crate::world::{ALLOWED, World};

/// All that runs on the host and in the enclave of a world.
#[derive(Debug)]
pub struct Application<'a> {
    world: &'a World,
    /// The host's proxy.
    pub outproxy: Outproxy,
    /// The enclave.
    pub enclave: Running,
    /// What leads to the HSMs.
    pub link: Link,
    inproxy_config: String,
}

/// inproxy with enclave-app as its child. The log is that of both.
#[derive(Debug)]
pub struct Running {
    inproxy: Process,
    app: Pid,
}

impl<'a> Application<'a> {
    /// Starts the proxies and the application, and waits until it serves.
    #[must_use]
    pub fn start(world: &'a World, vpc: &Vpc) -> Self {
        Self::start_with(world, vpc, &vpc.outproxy_config(world, ALLOWED), "info")
    }

    /// As [`Self::start`], with a configuration of outproxy, and a level of enclave-app's log.
    #[must_use]
    pub fn start_with(world: &'a World, vpc: &Vpc, outproxy_config: &str, level: &str) -> Self {
        let outproxy = world.outproxy(outproxy_config);
        let link = start_link(world, vpc);
        let ca = vpc.authority.certificate().display().to_string();
        write_config(world, &ca, level);
        let inproxy_config = vpc.inproxy_config(world);
        let enclave = Running::start(world, &inproxy_config, &link);
        Self { world, outproxy, enclave, link, inproxy_config }
    }

    /// Starts the enclave again, as Nitro's parent does with one whose first process has ended.
    /// Nothing of the old one is left.
    pub fn restart_enclave(&mut self) {
        self.enclave.end();
        self.enclave = Running::start(self.world, &self.inproxy_config, &self.link);
    }

    /// Starts outproxy again, as systemd does.
    pub fn restart_outproxy(&mut self, vpc: &Vpc) {
        self.outproxy = self.world.outproxy(&vpc.outproxy_config(self.world, ALLOWED));
    }

    /// Starts the link to the HSMs again.
    pub fn restart_link(&mut self, vpc: &Vpc) {
        self.link = start_link(self.world, vpc);
    }

    /// A connection from the host.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::connect(&self.world.leg, LEG).expect("the application listens")
    }

    /// Runs host-client on the host, with the credentials of a role in its environment.
    #[must_use]
    pub fn host_client(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary("host-client"));
        command.args(["--endpoint", &self.world.leg.connect(LEG), "--credentials", "sdk"]);
        command.args(arguments);
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID);
        command.env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
        command.env("AWS_SESSION_TOKEN", SESSION_TOKEN);
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }
}

impl Running {
    fn start(world: &World, inproxy_config: &str, link: &Link) -> Self {
        let config = config_path(world);
        let app = binary("enclave-app");
        let (name, value) = link.variable();
        let command =
            ["env", &format!("{name}={value}"), app.to_str().expect("UTF-8"), "--config", &config];
        let inproxy = run_inproxy(&world.enclave, world.directory(), inproxy_config, &command);
        // inproxy has no such field in its own.
        let is_ready = |line: &Value| line["message"] == "ready" && line["listen"].is_string();
        inproxy.line("the application's start", is_ready);
        let app = *children(inproxy.id()).first().expect("a child");
        Self { inproxy, app }
    }

    /// The process of enclave-app.
    #[must_use]
    pub fn app(&self) -> Pid {
        self.app
    }

    /// The process that has the PKCS#11 module, if there is one now.
    #[must_use]
    pub fn worker(&self) -> Option<Pid> {
        children(self.app.as_raw().cast_unsigned()).first().copied()
    }

    /// inproxy, enclave-app and its worker, as far as they run.
    #[must_use]
    pub fn processes(&self) -> Vec<Pid> {
        let inproxy = Pid::from_raw(self.inproxy.id().cast_signed());
        [inproxy, self.app].into_iter().chain(self.worker()).collect()
    }

    /// Kills what is left of it. Afterwards its addresses are free.
    fn end(&mut self) {
        self.kill_all();
        self.inproxy.wait();
        // Nobody here is its parent: no event tells of its end.
        let deadline = Instant::now() + patience();
        while is_running(self.app) {
            assert!(Instant::now() < deadline, "it does not end");
            thread::yield_now();
        }
    }

    fn kill_all(&self) {
        for process in self.processes() {
            // It may have ended.
            let _ = kill(process, Signal::SIGKILL);
        }
    }
}

impl Deref for Running {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.inproxy
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_all();
    }
}

fn start_link(world: &World, vpc: &Vpc) -> Link {
    Link::start(&world.enclave, world.directory(), vpc.authority.certificate(), &HSMS)
}

fn write_config(world: &World, ca: &str, level: &str) {
    // Emulated, everything takes longer than an operator would allow.
    let limits = if is_emulated() { "request-timeout = '90s'" } else { "" };
    let call = if is_emulated() { "call-timeout = '60s'" } else { "" };
    let config = format!(
        "listen = '{}'\n\
         [secret]\nid = '{SECRET}'\nregion = '{REGION}'\ncredentials = 'request'\n\
         ca-bundle = '{ca}'\n\
         [hsm]\nmodule = '{}'\ntoken = '{TOKEN}'\n{call}\n\
         [limits]\n{limits}\n[log]\nformat = 'json'\nlevel = '{level}'\n",
        world.leg.listen(LEG),
        module()
    );
    fs::write(config_path(world), config).expect("a configuration");
}

fn config_path(world: &World) -> String {
    world.directory().join("enclave-app.toml").display().to_string()
}

/// Whether it is there, and has not ended.
fn is_running(process: Pid) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z')))
}

fn children(parent: u32) -> Vec<Pid> {
    fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .map(|child| Pid::from_raw(child.parse().expect("a pid")))
        .collect()
}

/// The endpoint of the leg that is the application's.
pub const LEG: u32 = 2;
