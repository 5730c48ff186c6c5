//! Following the HSMs of a cluster, as moto's API tells them, in a network of the test's own.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod moto;
#[path = "../../../inproxy/tests/namespaces/mod.rs"]
mod namespaces;
#[path = "../admin/process.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod process;

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tunnel::metrics::CATALOGUE;

use moto::{CLUSTER, Gate, Moto, hsm};
use process::{Outproxy, Place, connect, get};

const ONE: &str = "10.0.10.103";
const ONE_V6: &str = "fd00:10::103";
const TWO: &str = "10.0.11.27";

/// What runs here is alone in a network in which the VPC's addresses are local, and HSMs listen on
/// all of them.
const VPC: &[&str] = &["unshare", "-Urn", "env", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b"];

fn in_vpc(test: &str, body: impl FnOnce()) {
    namespaces::run_below(VPC, test, || {
        for arguments in [
            "link set lo up",
            "route add local 10.0.10.0/23 dev lo",
            "-6 route add local fd00:10::/64 dev lo",
        ] {
            let ip = Command::new("ip").args(arguments.split(' ')).status().unwrap();
            assert!(ip.success(), "ip {arguments}");
        }
        let listener = TcpListener::bind("[::]:2223").unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || io::copy(&mut stream.try_clone().unwrap(), &mut stream));
            }
        });
        body();
    });
}

fn present(address: &str) -> Value {
    hsm("ACTIVE", address, None)
}

fn configuration(port: u16) -> String {
    format!(
        "[[listen]]\non = 'unix:DIR/routed'\n[metrics]\nlisten = 'unix:DIR/admin'\n\
         [[allow]]\nname = 'hsm'\ncloudhsm-cluster = '{CLUSTER}'\nregion = 'ap-southeast-1'\n\
         poll-interval = '1s'\nendpoint-url = 'http://127.0.0.1:{port}'\n\
         [limits]\nshutdown-grace = '2s'\n"
    )
}

/// An outproxy that has had the first answer.
fn serve(place: &Place, moto: &Moto) -> Outproxy {
    place.configure(&configuration(moto.port));
    let outproxy = place.serve();
    outproxy.await_line("AWS tells the HSMs");
    outproxy
}

/// The status of the answer to a CONNECT, and all of its head.
fn ask(place: &Place, destination: &str) -> (u16, String) {
    let (_, head) = connect(place, destination);
    (head[9..12].parse().unwrap(), head)
}

fn assert_answers(place: &Place, answers: &[(&str, u16)]) {
    for (destination, code) in answers {
        let (found, head) = ask(place, destination);
        assert_eq!(found, *code, "{destination}: {head}");
    }
}

fn cluster(place: &Place) -> Value {
    let status: Value = serde_json::from_str(&get(place, "/status")).unwrap();
    status["clusters"][0].clone()
}

fn echoes(tunnel: &mut UnixStream) -> bool {
    let mut word = [0; 5];
    tunnel.write_all(b"hello").and_then(|()| tunnel.read_exact(&mut word)).is_ok()
        && word == *b"hello"
}

#[test]
fn hsms_are_allowed_and_refused_as_they_come_and_go() {
    in_vpc("hsms_are_allowed_and_refused_as_they_come_and_go", || {
        let one = || hsm("ACTIVE", ONE, Some(ONE_V6));
        let mut moto = Moto::start(&[one()]);
        let place = Place::new();
        let outproxy = serve(&place, &moto);
        let both = [("10.0.10.103:2223", 200), ("[fd00:10::103]:2223", 200)];
        assert_answers(&place, &both);
        // Nothing listens on the one, and the others nobody allows.
        let others =
            [("10.0.10.103:2224", 502), ("10.0.10.103:22", 403), ("10.0.10.104:2223", 403)];
        assert_answers(&place, &others);
        let (mut kept, _) = connect(&place, "10.0.10.103:2223");

        moto.set(&[one(), hsm("CREATE_IN_PROGRESS", TWO, None)]);
        await_next_answer(&place);
        assert_answers(&place, &[("10.0.11.27:2223", 403)]);
        moto.set(&[one(), present(TWO)]);
        await_answer(&place, "10.0.11.27:2223", 200);
        let (mut going, _) = connect(&place, "10.0.11.27:2223");
        assert!(echoes(&mut going));

        moto.set(&[one(), hsm("DELETE_IN_PROGRESS", TWO, None)]);
        let head = await_answer(&place, "10.0.11.27:2223", 403);
        assert!(head.contains("being deleted, or gone"), "{head}");
        outproxy.await_line("HSM drains");
        // Its connections have time as long as AWS lists it.
        await_next_answer(&place);
        await_next_answer(&place);
        assert_eq!(cluster(&place)["draining"], json!([TWO]));
        outproxy.hang_up();
        outproxy.await_line("reloaded disallowed=0");
        assert!(echoes(&mut going) && echoes(&mut kept));

        moto.set(&[one()]);
        let line = outproxy.await_line("HSM gone");
        assert!(line.contains(TWO), "{line}");
        let line = outproxy.await_line("outcome=\"disallowed\"");
        assert!(line.contains(TWO), "{line}");
        assert!(!echoes(&mut going));
        assert!(echoes(&mut kept));
        assert_answers(&place, &both);
    });
}

#[test]
fn what_is_known_outlives_the_api_and_reloads_but_no_restart() {
    in_vpc("what_is_known_outlives_the_api_and_reloads_but_no_restart", || {
        let moto = Moto::start(&[present(ONE)]);
        let place = Place::new();
        let outproxy = serve(&place, &moto);
        let now = cluster(&place);
        assert_eq!((&now["state"], &now["allowed"]), (&json!("answering"), &json!([ONE])));
        assert_eq!((&now["last_error"], &now["skipped"]), (&Value::Null, &json!([])));
        drop(moto);
        let line = outproxy.await_line("failed to ask AWS");
        assert!(line.contains(CLUSTER) && line.contains("cannot reach AWS"), "{line}");
        outproxy.hang_up();
        outproxy.await_line("reloaded");
        assert_answers(&place, &[("10.0.10.103:2223", 200), ("10.0.10.104:2223", 403)]);
        assert_eq!(cluster(&place)["state"], "failing");
        let metrics = get(&place, "/metrics");
        for metric in CATALOGUE.iter().filter(|metric| metric.name.contains("_cluster_")) {
            assert!(metrics.contains(&format!("\n{}{{cluster=\"{CLUSTER}\"", metric.name)));
        }
        let shown = place.run(&["status"]);
        let shown = String::from_utf8(shown.stdout).unwrap();
        let row = shown.lines().find(|line| line.starts_with(CLUSTER)).unwrap();
        assert!(row.contains("failing") && row.contains(ONE), "{shown}");
        // It is logged once.
        let lines = outproxy.finish();
        assert!(!lines.iter().any(|line| line.contains("failed to ask AWS")), "{lines:?}");

        // Until it is known that there is nobody at port 1, the SDK asks twice, up to 1 s apart.
        place.configure(&(configuration(1) + "header-timeout = '3s'\n"));
        let outproxy = place.serve();
        let started = Instant::now();
        let (code, head) = ask(&place, "10.0.10.103:2223");
        assert!(code == 503 && head.contains("not known yet which HSMs"), "{head}");
        assert!(head.contains("cannot reach AWS"), "{head}");
        assert!((3.0..5.0).contains(&started.elapsed().as_secs_f64()));
        // Of these AWS would not tell anything.
        assert_answers(&place, &[("10.0.10.103:22", 403), ("hsm.example:2223", 403)]);
        assert!(started.elapsed() < Duration::from_secs(5));
        outproxy.await_line("failed to ask AWS");
    });
}

#[test]
fn who_comes_before_the_first_answer_waits_for_it() {
    in_vpc("who_comes_before_the_first_answer_waits_for_it", || {
        let bad = hsm("ACTIVE", "169.254.169.254", Some("::1"));
        let moto = Moto::start(&[present(ONE), bad]);
        let (gate, place) = (Gate::new(), Place::new());
        place.configure(&configuration(gate.port()));
        let outproxy = place.serve();
        let question = gate.await_question();
        thread::scope(|scope| {
            let place = &place;
            let ask = |destination| scope.spawn(move || ask(place, destination));
            let asking = [(ONE, 200), ("10.0.10.104", 403), ("169.254.169.254", 403)]
                .map(|(ip, code)| (ask(format!("{ip}:2223").leak()), code));
            await_open(place, 3);
            // Nor does a reload mean anything to them.
            outproxy.hang_up();
            outproxy.await_line("reloaded disallowed=0");
            gate.open(question, &moto);
            for (asking, expected) in asking {
                let (code, head) = asking.join().unwrap();
                assert_eq!(code, expected, "{head}");
            }
        });
        assert_eq!(cluster(&place)["skipped"], json!(["169.254.169.254", "::1"]));
    });
}

/// Waits until this is what is answered to a CONNECT, and returns the head of that answer.
fn await_answer(place: &Place, destination: &str, code: u16) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (found, head) = ask(place, destination);
        if found == code {
            return head;
        }
        assert!(Instant::now() < deadline, "{destination}: {head}");
    }
}

/// Waits until what AWS says now is in force: until the question after the next one is answered.
fn await_next_answer(place: &Place) {
    let series =
        format!("outproxy_cluster_questions_total{{cluster=\"{CLUSTER}\",result=\"ok\"}} ");
    let answers = || -> u64 {
        let metrics = get(place, "/metrics");
        let found = metrics.lines().find_map(|line| line.strip_prefix(&series));
        found.unwrap().parse().unwrap()
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    let enough = answers() + 2;
    while answers() < enough {
        assert!(Instant::now() < deadline, "AWS is not asked any more");
    }
}

/// Waits until so many connections are being made.
fn await_open(place: &Place, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let status: Value = serde_json::from_str(&get(place, "/status")).unwrap();
        if status["connections"]["open"] == count {
            return;
        }
        assert!(Instant::now() < deadline, "{status}");
    }
}

#[test]
fn a_doctor_asks_for_the_hsms_and_tries_each() {
    in_vpc("a_doctor_asks_for_the_hsms_and_tries_each", || {
        let moto = Moto::start(&[present(ONE), hsm("DELETE_IN_PROGRESS", TWO, None)]);
        let place = Place::new();
        let examine = |configuration: &str| {
            place.configure(configuration);
            let output = place.run(&["doctor"]);
            (output.status.code(), String::from_utf8(output.stdout).unwrap())
        };
        let good = configuration(moto.port);
        let (code, shown) = examine(&good);
        for words in [
            "  ok       cluster-teeultuftgy ",
            "has 10.0.10.103 in ",
            "  ok       10.0.10.103:2223 ",
            "  warning  10.0.10.103:2224 ",
            "  skipped  10.0.11.27 ",
        ] {
            assert!(shown.contains(words), "`{words}` in {shown}");
        }
        assert_eq!(code, Some(0), "{shown}");
        let (code, shown) = examine(&good.replace(CLUSTER, "cluster-abcdefghijk"));
        assert!(
            code == Some(1) && shown.contains("mend `cloudhsm-cluster` or `region`"),
            "{shown}"
        );
        let (code, shown) = examine(&configuration(1));
        assert!(code == Some(1) && shown.contains("cannot reach AWS"), "{shown}");
    });
}
