//! An HSM of SoftHSM's with a crypto user, and a Secrets Manager that knows its password.

use std::fs;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

use crate::app::Place;
use crate::authority::Authority;
use crate::canary::{self, PASSWORD};
use crate::service::{Reply, Service};

/// A place with all that keys need.
pub(crate) struct Vault {
    pub(crate) place: Place,
    pub(crate) manager: Service,
    _authority: Authority,
    _stop: oneshot::Sender<()>,
}

impl Vault {
    /// One that has the right password.
    pub(crate) fn new(config: &str) -> Self {
        Self::with(config, vec![Reply::secret("version-1", &canary::value())])
    }

    /// One whose Secrets Manager replies so.
    pub(crate) fn with(config: &str, replies: Vec<Reply>) -> Self {
        let authority = Authority::new();
        let (manager, stop) = start(&authority, replies);
        let canary = canary::name();
        let mut place = Place::with(&format!(
            "[secret]\nid = '{}'\nregion = '{}'\nca-bundle = 'DIR/ca.pem'\n\
             [hsm]\nmodule = '{SOFTHSM}'\ntoken = '{TOKEN}'\n{config}",
            canary.id, canary.region,
        ));
        fs::copy(authority.bundle(), place.path("ca.pem")).unwrap();
        place.set("AWS_ENDPOINT_URL_SECRETS_MANAGER", manager.url());
        place.set("SOFTHSM2_CONF", place.path("softhsm2.conf").to_str().unwrap());
        let vault = Self { place, manager, _authority: authority, _stop: stop };
        vault.make_token();
        vault
    }

    /// The labels of all secret keys, as the HSM itself sees them.
    pub(crate) fn keys(&self) -> Vec<String> {
        let listed = self.run(Command::new("pkcs11-tool").args([
            "--module",
            SOFTHSM,
            "--token-label",
            TOKEN,
            "--login",
            "--pin",
            &pin(),
            "--list-objects",
            "--type",
            "secrkey",
        ]));
        let labels = listed.lines().filter_map(|line| line.trim().strip_prefix("label:"));
        labels.map(|label| label.trim().to_owned()).collect()
    }

    fn make_token(&self) {
        let tokens = self.place.path("tokens");
        fs::create_dir(&tokens).unwrap();
        let config = format!("directories.tokendir = {}\n", tokens.display());
        fs::write(self.place.path("softhsm2.conf"), config).unwrap();
        self.run(
            Command::new("softhsm2-util")
                .args(["--init-token", "--free", "--label", TOKEN])
                .args(["--so-pin", "so-pin", "--pin", &pin()]),
        );
    }

    fn run(&self, command: &mut Command) -> String {
        command.env("SOFTHSM2_CONF", self.place.path("softhsm2.conf"));
        let output = command.output().expect("softhsm2 and opensc are installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Serves from a thread of its own, until what is returned with the service is dropped.
fn start(authority: &Authority, replies: Vec<Reply>) -> (Service, oneshot::Sender<()>) {
    let identity = authority.vouch("localhost");
    let (started, service) = mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            started.send(Service::start(&identity, replies).await).unwrap();
            // It ends with an error, as the other half is dropped.
            let _ = stopped.await;
        });
    });
    (service.recv().unwrap(), stop)
}

fn pin() -> String {
    format!("cu:{PASSWORD}")
}

const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
const TOKEN: &str = "server";
