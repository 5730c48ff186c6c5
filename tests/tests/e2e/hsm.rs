//! HSMs as PKCS#11 reaches them through the tunnel.

use std::process::{Command, Output};

use tests::ca::Authority;
use tests::hsm::{Cluster, Hsm};
use tests::link::{Link, module};
use tests::process::has;
use tests::world::{HSM, HSM2, Tunnel, World};

crate::scenarios![
    a_key_made_in_the_enclave_is_in_the_hsm,
    an_hsm_that_is_lost_is_replaced_by_another,
    an_hsm_with_a_foreign_certificate_is_not_spoken_to,
];

const PIN: &str = "crypto-user:correct horse";

fn a_key_made_in_the_enclave_is_in_the_hsm(world: &World) {
    let lab = Lab::new(world);
    let [_hsm, _] = lab.start_hsms();
    let link = lab.link();
    lab.create(&link, "first");
    assert_eq!(lab.cluster.keys(), ["first"]);
    let line = lab.tunnel.outproxy.line("its connection", has("outcome", "finished"));
    assert_eq!((&line["destination"], &line["rule"]), (&HSM.to_string().into(), &"hsm".into()));
    assert!(line["sent"].as_u64() > Some(1000) && line["received"].as_u64() > Some(1000), "{line}");
}

fn an_hsm_that_is_lost_is_replaced_by_another(world: &World) {
    let lab = Lab::new(world);
    let [mut first, second] = lab.start_hsms();
    let link = lab.link();
    lab.create(&link, "of both");
    first.stop();
    lab.create(&link, "of the second, as the first refuses");
    lab.cluster.restart(&mut first);
    second.freeze();
    lab.create(&link, "of the first");
    second.thaw();
    first.freeze();
    lab.create(&link, "of the second, as the first is silent");
    first.thaw();
    first.kill_server();
    assert!(!lab.try_to_create(&link, "of nobody").status.success());
    lab.cluster.restart_server(&mut first);
    lab.create(&link, "of the first again");
    assert_eq!(lab.cluster.keys().len(), 5);
    assert_eq!(lab.cluster.count("of nobody"), 0);
}

fn an_hsm_with_a_foreign_certificate_is_not_spoken_to(world: &World) {
    let lab = Lab::new(world);
    let foreign = Authority::new(world.directory(), "foreign");
    let _foreign = lab.cluster.start(HSM, &foreign);
    let link = lab.link();
    assert!(!lab.try_to_create(&link, "key").status.success());
    let _hsm = lab.cluster.start(HSM2, &lab.authority);
    lab.create(&link, "key");
}

struct Lab<'a> {
    world: &'a World,
    tunnel: Tunnel,
    authority: Authority,
    cluster: Cluster,
}

impl<'a> Lab<'a> {
    fn new(world: &'a World) -> Self {
        let authority = Authority::new(world.directory(), "ca");
        let cluster = Cluster::new(world.directory(), PIN);
        Self { world, tunnel: world.tunnel(), authority, cluster }
    }

    fn start_hsms(&self) -> [Hsm; 2] {
        [HSM, HSM2].map(|address| self.cluster.start(address, &self.authority))
    }

    fn link(&self) -> Link {
        let world = self.world;
        Link::start(&world.enclave, world.directory(), self.authority.certificate(), &[HSM, HSM2])
    }

    fn create(&self, link: &Link, label: &str) {
        let output = self.try_to_create(link, label);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn try_to_create(&self, link: &Link, label: &str) -> Output {
        let (name, value) = link.variable();
        let mut command = Command::new("pkcs11-tool");
        command.env(name, value).args(["--module", &module(), "--login", "--pin", PIN]);
        command.args(["--keygen", "--key-type", "AES:32", "--label", label]);
        self.world.enclave.run(|| command.output()).unwrap()
    }
}
