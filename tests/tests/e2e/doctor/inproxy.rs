//! In the enclave.

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Value, json};
use tests::leg::Leg;
use tests::peers::listen;
use tests::proxies::binary;
use tests::world::{ALLOWED, HSM, RAW, World};

use super::{Examination, text};

crate::scenarios![
    inproxy_is_missed_before_it_runs,
    all_is_well_while_both_proxies_run,
    a_refusal_is_shown_with_what_to_do_on_the_host,
    an_outproxy_that_is_missing_or_silent_is_told,
    an_application_whose_inproxy_died_is_told,
    lines_of_others_in_the_hosts_file_are_told,
    a_low_limit_of_descriptors_is_told,
    the_doctor_of_inproxy_is_told_from_its_application,
];

/// Runs the doctor with whatever configuration is there.
fn command(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("inproxy"));
    command.arg("doctor").arg("--config").arg(config(world)).args(arguments).stdin(Stdio::null());
    command
}

fn examine(world: &World, arguments: &[&str]) -> Examination {
    let mut command = command(world, arguments);
    command.arg("--json");
    world.enclave.run(|| Examination::of(&mut command))
}

fn config(world: &World) -> PathBuf {
    world.directory().join("inproxy.toml")
}

fn configure(world: &World, text: &str) {
    fs::write(config(world), text).unwrap();
}

/// Blocks, an address, a name, and a raw forward.
fn forwards(world: &World) -> String {
    world.inproxy_config("")
        + "[[forward]]\nname = 'one'\naddresses = ['10.0.11.200']\nports = [2226]\n\
           [[forward]]\nname = 'named'\nhost = 'hsm.example'\nports = [2223]\n"
}

/// An upstream that says nothing, and goes when its client goes.
fn serve(address: SocketAddr) {
    let listener = listen(address);
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || stream.read_to_end(&mut Vec::new()));
        }
    });
}

fn inproxy_is_missed_before_it_runs(world: &World) {
    configure(world, &forwards(world));
    let hosts = || world.enclave.run(|| fs::read("/etc/hosts").unwrap());
    let before = hosts();
    let found = examine(world, &[]);
    assert_eq!(found.code, Some(1));
    assert_eq!(found.document["result"], "failed");
    found.assert("lo", "failed", Some("down"));
    for network in ["10.0.10.0/23", "10.0.11.200/32", "10.0.20.5/32", "fd00:10::/64"] {
        found.assert(&format!("route {network}"), "failed", Some("not-local"));
    }
    found.assert("name hsm.example", "failed", Some("no-hosts-line"));
    for port in ["0.0.0.0:2223", "0.0.0.0:2226", "[::]:2225"] {
        found.assert(&format!("port {port}"), "failed", Some("not-listening"));
    }
    found.assert("inproxy", "warning", Some("not-running"));
    found.assert(&world.leg.connect(0), "failed", Some("nobody-listens"));
    // Once is enough.
    found.assert("10.0.11.200:2226", "skipped", None);
    found.assert(&RAW.to_string(), "failed", Some("nobody-listens"));

    // It has changed nothing.
    assert_eq!(hosts(), before);
    examine(world, &[]).assert("lo", "failed", Some("down"));
}

fn all_is_well_while_both_proxies_run(world: &World) {
    let one: SocketAddr = "10.0.11.200:2226".parse().unwrap();
    for address in [HSM, RAW, one] {
        serve(address);
    }
    let allowed = world.outproxy_config(ALLOWED, "").replace("2225]", "2225, 2226]");
    let outproxy = world.outproxy(&allowed);
    let forwards = forwards(world).replace("hsm.example", "other.example");
    let _inproxy = world.inproxy(&forwards.replace("2223, 2224, 2225", "2223"));

    let found = examine(world, &["--address", "10.0.10.103"]);
    for subject in ["kernel", "entropy", "descriptors", "inproxy", "lo", "route 10.0.10.0/23"] {
        let finding = found.find(subject);
        assert_ne!(finding["result"], "failed", "{finding:#}");
    }
    if matches!(world.leg, Leg::Vsock(_)) {
        found.assert("vsock", "ok", None);
    } else {
        found.assert("vsock", "skipped", None);
    }
    found.assert("inproxy", "ok", None);
    found.assert("lo", "ok", None);
    for network in ["10.0.10.0/23", "10.0.11.200/32", "10.0.20.5/32", "fd00:10::/64"] {
        found.assert(&format!("route {network}"), "ok", None);
    }
    found.assert("name other.example", "ok", None);
    for port in ["0.0.0.0:2223", "0.0.0.0:2226", "[::]:2223"] {
        found.assert(&format!("port {port}"), "ok", None);
    }
    found.assert(&world.leg.connect(0), "ok", None);
    let tried = found.assert("10.0.10.103:2223", "ok", None);
    assert_eq!(
        (&tried["group"], &tried["name"], &tried["destination"], &tried["status"]),
        (&json!("forward"), &json!("hsm"), &json!("10.0.10.103:2223"), &Value::Null)
    );
    assert!(tried["milliseconds"].as_f64().unwrap() > 0.0, "{tried:#}");
    found.assert("10.0.11.200:2226", "ok", None);
    found.assert(&RAW.to_string(), "ok", None);
    found.assert("fd00:10::/64", "skipped", None);
    // Nothing but the name, which no rule lists.
    let denied = found.assert("other.example:2223", "failed", Some("denied"));
    assert!(denied["advice"].as_str().unwrap().contains("`other.example` and port 2223"));
    assert_eq!(found.code, Some(1));

    // Those tunnels ended well.
    outproxy.lines("their ends", 3, |line| line["outcome"] == "finished");
    let shown = world.enclave.run(|| command(world, &[]).output().unwrap());
    assert_eq!(shown.status.code(), Some(1));
    let shown = text(&shown);
    for words in ["\nnetwork\n", "\nforward hsm\n", "  skipped  10.0.10.0/23 ", "\n1 failed, "] {
        assert!(shown.contains(words), "`{words}` in {shown}");
    }
}

fn a_refusal_is_shown_with_what_to_do_on_the_host(world: &World) {
    let long =
        "[[forward]]\nname = 'more'\naddresses = ['10.0.10.7', '10.0.12.9']\nports = [2225]\n";
    let limits = "connect-timeout = '300ms'";
    let _outproxy = world.outproxy(&world.outproxy_config("'10.0.10.0/23'", limits));
    configure(world, &(forwards(world) + long));
    let found = examine(world, &["--address", "10.0.11.27", "--address", "192.0.2.1"]);
    assert_eq!(found.code, Some(1));
    let refused = found.assert("10.0.11.27:2224", "failed", Some("refused"));
    assert_eq!(
        (&refused["status"], &refused["error"]),
        (&json!(502), &json!("connection_refused"))
    );
    let unknown = found.assert("10.0.12.9:2225", "failed", Some("denied"));
    assert!(unknown["found"].as_str().unwrap().contains("no rule lists `10.0.12.9`"), "{unknown}");
    let wrong_port = found.assert("10.0.11.200:2226", "failed", Some("denied"));
    assert!(wrong_port["found"].as_str().unwrap().contains("but not port 2226"), "{wrong_port}");
    found.assert("192.0.2.1", "failed", Some("not-forwarded"));
    // The end of a raw tunnel says no more.
    found.assert(&RAW.to_string(), "failed", Some("closed"));
}

fn an_outproxy_that_is_missing_or_silent_is_told(world: &World) {
    let limits = "connect-timeout = '1s'\nheader-timeout = '200ms'";
    let forward = "[[forward]]\nname = 'hsm'\naddresses = ['10.0.10.103']\nports = [2223]\n";
    let outproxy = world.leg.connect(0);
    configure(world, &format!("outproxy = '{outproxy}'\n{forward}[limits]\n{limits}\n"));
    let found = examine(world, &[]);
    let missing = found.assert(&outproxy, "failed", Some("nobody-listens"));
    assert!(missing["advice"].as_str().unwrap().contains(&world.leg.listen(0)), "{missing:#}");
    found.assert("10.0.10.103:2223", "skipped", None);

    // Somebody else, who never says a word.
    let _listener = world.leg.bind(0).unwrap();
    let found = examine(world, &[]);
    found.assert(&outproxy, "ok", None);
    found.assert("10.0.10.103:2223", "failed", Some("no-answer"));
    assert_eq!(found.code, Some(1));
}

fn an_application_whose_inproxy_died_is_told(world: &World) {
    let mut inproxy = world.inproxy(&world.inproxy_config(""));
    inproxy.kill();
    let found = examine(world, &[]);
    // What it did to the network is still there, and serves nobody.
    found.assert("route 10.0.10.0/23", "ok", None);
    found.assert("port 0.0.0.0:2223", "failed", Some("not-listening"));
    found.assert("inproxy", "warning", Some("not-running"));
}

fn lines_of_others_in_the_hosts_file_are_told(world: &World) {
    let forwards = forwards(world);
    let rival = "10.9.9.9 hsm.example\n";
    world.enclave.run(|| fs::write("/etc/hosts", rival).unwrap());
    let _inproxy = world.inproxy(&forwards);
    let found = examine(world, &[]);
    let finding = found.assert("name hsm.example", "warning", Some("rival-hosts-line"));
    assert!(finding["found"].as_str().unwrap().contains("10.9.9.9"), "{finding:#}");
}

fn a_low_limit_of_descriptors_is_told(world: &World) {
    configure(world, &forwards(world));
    let script = "ulimit -n 64; exec \"$0\" \"$@\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(binary("inproxy")).args(["doctor", "--json", "--config"]);
    shell.arg(config(world));
    let found = world.enclave.run(|| Examination::of(&mut shell));
    let few = found.assert("descriptors", "warning", Some("too-few"));
    assert!(few["found"].as_str().unwrap().contains("may have 64"), "{few:#}");
}

fn the_doctor_of_inproxy_is_told_from_its_application(world: &World) {
    configure(world, "");
    let broken = world.enclave.run(|| command(world, &[]).output().unwrap());
    assert_eq!(broken.status.code(), Some(78), "{}", text(&broken));
    let wrong = world.enclave.run(|| command(world, &["--address", "hsm"]).output().unwrap());
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong));

    configure(world, &forwards(world));
    // The application's own name and arguments are not ours.
    let mut inproxy = Command::new(binary("inproxy"));
    inproxy.arg("--config").arg(config(world)).args(["--", "sh", "-c", "exit 7", "doctor"]);
    let status = world.enclave.run(|| inproxy.status().unwrap());
    assert_eq!(status.code(), Some(7));
}
