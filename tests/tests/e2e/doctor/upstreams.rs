//! What answers on the host's side, and which certificate it shows.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};
use socket2::{Domain, SockRef, Socket, Type};
use tests::ca::{Authority, Certificate};
use tests::dns::{Answer, NameServer};
use tests::peers::listen;
use tests::world::World;

use super::{Examination, outproxy};

crate::scenarios![
    the_certificates_of_hsms_are_held_against_their_authority,
    a_server_that_wants_a_certificate_shows_its_own,
    what_speaks_no_tls_is_wrong_only_where_there_must_be_some,
    a_key_that_is_not_the_certificates_is_told,
    a_certificate_for_another_name_is_told,
    every_address_of_a_name_is_tried,
    a_name_without_address_is_told,
    a_hundred_black_holes_take_no_longer_than_one,
    few_descriptors_only_make_it_slower,
];

/// A rule for this destination alone.
fn rule(name: &str, host: &str, port: u16) -> String {
    format!("[[allow]]\nname = '{name}'\nhosts = ['{host}']\nports = [{port}]\n")
}

fn config(world: &World, rest: &str) -> String {
    format!("[[listen]]\non = 'unix:{}/routed'\n{rest}", world.directory().display())
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// openssl, as a server that takes one client after the other.
struct TlsServer {
    child: Child,
    // Its end would be the server's.
    _stdin: ChildStdin,
}

impl TlsServer {
    fn start(address: &str, certificate: &Certificate, more: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        command
            .args(["s_server", "-accept", address, "-cert"])
            .arg(&certificate.certificate)
            .arg("-key")
            .arg(&certificate.key)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "ACCEPT"), "{command:?}");
        // It says something of each connection.
        thread::spawn(move || lines.for_each(drop));
        let stdin = child.stdin.take().unwrap();
        Self { child, _stdin: stdin }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn the_certificates_of_hsms_are_held_against_their_authority(world: &World) {
    let cluster = Authority::new(world.directory(), "customerCA");
    let other = Authority::new(world.directory(), "other");
    let middle = cluster.certify_authority("middle");
    let below = middle.certify_for("IP:10.0.10.5", 300);
    let ca = path(cluster.certificate());
    let chain = path(middle.certificate());
    let with_chain = ["-cert_chain", chain];
    let servers = [
        ("10.0.10.1:2223", cluster.certify_hsm("hsm"), &[][..]),
        ("10.0.10.2:2223", other.certify_hsm("impostor"), &[]),
        ("10.0.10.3:2223", cluster.certify_for("IP:10.0.10.3", -1), &[]),
        ("10.0.10.4:2223", cluster.certify_for("IP:10.0.10.4", 5), &[]),
        ("10.0.10.5:2223", below.clone(), &with_chain),
        ("10.0.10.6:2223", below, &[]),
    ];
    let _servers = servers.map(|(on, certificate, more)| TlsServer::start(on, &certificate, more));
    let hosts = ["1", "2", "3", "4", "5", "6"].map(|n| format!("'10.0.10.{n}'")).join(", ");
    let rule = format!("[[allow]]\nname = 'hsm'\nhosts = [{hosts}]\nports = [2223]\n");
    let config = config(world, &rule);

    let found = Examination::of(outproxy(world, &config).args(["--ca", ca]));
    assert_eq!(found.code, Some(1));
    let good = found.assert("10.0.10.1:2223", "ok", None);
    let tls = &good["tls"];
    assert_eq!(
        (&tls["issued_by_ca"], &tls["version"], &tls["wants_client_certificate"]),
        (&json!(true), &json!("TLS 1.3"), &json!(false))
    );
    let certificate = &tls["certificates"][0];
    assert_eq!(
        (&certificate["subject"], &certificate["issuer"]),
        (&json!("CN=hsm"), &json!("CN=customerCA"))
    );
    // The last day begins once a second has passed since it was made.
    assert!(matches!(certificate["days_left"].as_i64(), Some(3651 | 3652)), "{certificate}");
    assert!(certificate["not_after"].as_str().unwrap().ends_with('Z'), "{certificate}");
    for time in [&tls["milliseconds"], &good["milliseconds"]] {
        assert!(time.as_f64().unwrap() > 0.0, "{good:#}");
    }
    let wrong = found.assert("10.0.10.2:2223", "failed", Some("wrong-issuer"));
    assert_eq!(wrong["tls"]["issued_by_ca"], false);
    found.assert("10.0.10.3:2223", "failed", Some("expired"));
    let soon = found.assert("10.0.10.4:2223", "warning", Some("expires-soon"));
    let expires = |days| soon["found"].as_str().unwrap().contains(days);
    assert!(["in less than 5 days", "in less than 6 days"].into_iter().any(expires), "{soon:#}");
    let long = found.assert("10.0.10.5:2223", "ok", None);
    assert_eq!(long["tls"]["certificates"].as_array().unwrap().len(), 2);
    found.assert("10.0.10.6:2223", "failed", Some("wrong-issuer"));

    // Without an authority only the dates matter.
    let found = Examination::of(&mut outproxy(world, &config));
    let nobody_asked = found.assert("10.0.10.2:2223", "ok", None);
    assert_eq!(nobody_asked["tls"]["issued_by_ca"], Value::Null);
    found.assert("10.0.10.3:2223", "failed", Some("expired"));
}

fn a_server_that_wants_a_certificate_shows_its_own(world: &World) {
    let cluster = Authority::new(world.directory(), "customerCA");
    let hsm = cluster.certify_hsm("hsm");
    let ca = path(cluster.certificate());
    let mutual = ["-Verify", "1", "-verify_return_error", "-CAfile", ca];
    let tls12 = [&mutual[..], &["-tls1_2"]].concat();
    let _servers = [
        TlsServer::start("10.0.10.1:2223", &hsm, &mutual),
        TlsServer::start("10.0.10.2:2223", &hsm, &tls12),
    ];
    let rules = rule("new", "10.0.10.1", 2223) + &rule("old", "10.0.10.2", 2223);
    let mut command = outproxy(world, &config(world, &rules));
    let found = Examination::of(command.args(["--ca", ca]));
    for (destination, version) in [("10.0.10.1:2223", "TLS 1.3"), ("10.0.10.2:2223", "TLS 1.2")] {
        let finding = found.assert(destination, "ok", None);
        let tls = &finding["tls"];
        assert_eq!(
            (&tls["wants_client_certificate"], &tls["issued_by_ca"], &tls["version"]),
            (&json!(true), &json!(true), &json!(version)),
            "{finding:#}"
        );
    }
    assert_eq!(found.code, Some(0), "{:#}", found.document);
}

/// Does this with each connection.
fn serve(address: &str, each: impl Fn(TcpStream) + Copy + Send + 'static) {
    let listener = listen(address.parse().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || each(stream));
        }
    });
}

fn hear_out(mut stream: TcpStream) {
    // Until the client has gone.
    let _ = stream.read_to_end(&mut Vec::new());
}

fn what_speaks_no_tls_is_wrong_only_where_there_must_be_some(world: &World) {
    for port in [2223, 443] {
        serve(&format!("10.0.10.1:{port}"), hear_out);
        serve(&format!("10.0.10.2:{port}"), |mut stream| {
            let _ = stream.write_all(b"220 mail.example ESMTP\x1b[2J\r\n");
            hear_out(stream);
        });
        serve(&format!("10.0.10.3:{port}"), |mut stream| {
            let _ = stream.read(&mut [0; 16]);
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        });
        serve(&format!("10.0.10.4:{port}"), drop);
        serve(&format!("10.0.10.5:{port}"), |mut stream| {
            let _ = std::io::copy(&mut stream.try_clone().unwrap(), &mut stream);
        });
        // A handshake, as far as it goes.
        serve(&format!("10.0.10.6:{port}"), |mut stream| {
            let _ = stream.write_all(&[22, 3, 3, 0, 100, 2]);
            hear_out(stream);
        });
        // An alert: no common version.
        serve(&format!("10.0.10.7:{port}"), |mut stream| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, 70]);
            hear_out(stream);
        });
    }
    let authority = Authority::new(world.directory(), "customerCA");
    let hosts = (1..=7).map(|n| format!("'10.0.10.{n}'")).collect::<Vec<_>>().join(", ");
    let rules = format!(
        "[[allow]]\nname = 'any'\nhosts = [{hosts}]\nports = [443, 2223]\n\
         [limits]\nconnect-timeout = '1s'\n"
    );
    let config = config(world, &rules);
    let found = Examination::of(&mut outproxy(world, &config));
    for (n, words) in [
        (1, "no TLS: it is silent"),
        (2, "no TLS: it says `220 mail.example ESMTP\\u{1b}[2J`"),
        (3, "no TLS: it closes the connection"),
        (4, "no TLS: it closes the connection"),
        (5, "no TLS: it says `"),
    ] {
        let plain = found.assert(&format!("10.0.10.{n}:2223"), "ok", None);
        assert!(plain["found"].as_str().unwrap().contains(words), "{plain:#}");
        assert_eq!(plain["tls"], Value::Null);
        found.assert(&format!("10.0.10.{n}:443"), "failed", Some("no-tls"));
    }
    for n in [6, 7] {
        found.assert(&format!("10.0.10.{n}:2223"), "warning", Some("tls-failed"));
        found.assert(&format!("10.0.10.{n}:443"), "failed", Some("tls-failed"));
    }
    let ca = path(authority.certificate());
    let found = Examination::of(outproxy(world, &config).args(["--ca", ca]));
    for n in 1..=5 {
        found.assert(&format!("10.0.10.{n}:2223"), "failed", Some("no-tls"));
    }
    found.assert("10.0.10.6:2223", "failed", Some("tls-failed"));
}

fn a_key_that_is_not_the_certificates_is_told(world: &World) {
    let authority = Authority::new(world.directory(), "ca");
    let [one, other] = ["IP:10.0.10.1", "IP:10.0.10.2"].map(|name| authority.certify(name));
    let mixed = Certificate { certificate: one.certificate, key: other.key };
    // openssl would not start with these.
    tests::tls::serve_with_wrong_key(address("10.0.10.1:443"), &mixed);
    let found =
        Examination::of(&mut outproxy(world, &config(world, &rule("web", "10.0.10.1", 443))));
    found.assert("10.0.10.1:443", "failed", Some("wrong-key"));
}

/// Puts lines into the host's hosts file, which is nobody else's.
fn set_hosts(world: &World, lines: &str) {
    let file = world.directory().join("hosts");
    fs::write(&file, lines).unwrap();
    // A mount needs a file to cover, and the guest of the lab has none.
    File::options().append(true).create(true).open("/etc/hosts").unwrap();
    mount(Some(&file), "/etc/hosts", None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

fn a_certificate_for_another_name_is_told(world: &World) {
    set_hosts(world, "10.0.10.1 right.example wrong.example\n");
    let authority = Authority::new(world.directory(), "web");
    let server = authority.certify_for("DNS:right.example", 300);
    let _server = TlsServer::start("10.0.10.1:443", &server, &[]);
    let rules = rule("right", "right.example", 443) + &rule("wrong", "wrong.example", 443);
    // That of the HSMs is none of the web's.
    let cluster = Authority::new(world.directory(), "customerCA");
    let mut command = outproxy(world, &config(world, &rules));
    let found = Examination::of(command.arg("--ca").arg(cluster.certificate()));
    found.assert("right.example:443 at 10.0.10.1", "ok", None);
    found.assert("wrong.example:443 at 10.0.10.1", "warning", Some("wrong-name"));
    assert_eq!(found.code, Some(0), "{:#}", found.document);
}

fn every_address_of_a_name_is_tried(world: &World) {
    set_hosts(
        world,
        "10.0.10.1 hsm.example\n10.0.10.2 hsm.example\nfd00:10::5 hsm.example\n\
         2001:db8::1 hsm.example\n169.254.169.254 hsm.example\n",
    );
    let _up = ["10.0.10.1:2223", "[fd00:10::5]:2223"].map(|on| listen(address(on)));
    let rules = rule("hsm", "hsm.example", 2223) + "[limits]\nconnect-timeout = '500ms'\n";
    let found = Examination::of(&mut outproxy(world, &config(world, &rules)));
    let name = found.assert("hsm.example", "ok", None);
    for ip in ["10.0.10.1", "10.0.10.2", "fd00:10::5", "2001:db8::1", "169.254.169.254"] {
        assert!(name["found"].as_str().unwrap().contains(ip), "{name:#}");
    }
    let up = found.assert("hsm.example:2223 at 10.0.10.1", "ok", None);
    assert_eq!(
        (&up["destination"], &up["address"], &up["name"]),
        (&json!("hsm.example:2223"), &json!("10.0.10.1:2223"), &json!("hsm"))
    );
    found.assert("hsm.example:2223 at fd00:10::5", "ok", None);
    found.assert("hsm.example:2223 at 10.0.10.2", "failed", Some("refused"));
    // This machine has no IPv6 beyond itself, and clients will take another address.
    found.assert("hsm.example:2223 at 2001:db8::1", "skipped", None);
    found.assert("hsm.example:2223 at 169.254.169.254", "failed", Some("prohibited"));
    assert_eq!(found.code, Some(1));
}

fn a_name_without_address_is_told(world: &World) {
    let server = NameServer::start(Answer::Failure);
    let rules =
        format!("{}[dns]\nservers = ['{}']\n", rule("hsm", "no.example", 2223), server.address);
    let found = Examination::of(&mut outproxy(world, &config(world, &rules)));
    found.assert("no.example", "failed", Some("dns-failed"));
    assert!(server.was_asked());
    assert_eq!(found.findings().iter().filter(|finding| finding["group"] == "rule").count(), 1);
}

/// A port whose backlog is full: it is silent on all addresses.
fn black_hole(port: u16) -> (Socket, Vec<TcpStream>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&address(&format!("0.0.0.0:{port}")).into()).unwrap();
    socket.listen(0).unwrap();
    let to = address(&format!("127.0.0.1:{port}"));
    let connect = |_| TcpStream::connect_timeout(&to, Duration::from_millis(500));
    let filling = (0..4).map_while(|n| connect(n).ok()).collect();
    (socket, filling)
}

fn a_hundred_black_holes_take_no_longer_than_one(world: &World) {
    let _hole = black_hole(2223);
    let hosts = (1..=100).map(|n| format!("'10.0.10.{n}'")).collect::<Vec<_>>().join(", ");
    let rules = format!(
        "[[allow]]\nname = 'hsm'\nhosts = [{hosts}]\nports = [2223]\n\
         [limits]\nconnect-timeout = '2s'\n"
    );
    let started = Instant::now();
    let found = Examination::of(&mut outproxy(world, &config(world, &rules)));
    // One after the other it would be 200 s.
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    for n in 1..=100 {
        found.assert(&format!("10.0.10.{n}:2223"), "failed", Some("timed-out"));
    }
}

fn few_descriptors_only_make_it_slower(world: &World) {
    let up = TcpListener::bind("0.0.0.0:2223").unwrap();
    thread::spawn(move || up.incoming().map_while(Result::ok).for_each(drop));
    let hosts = (1..=100).map(|n| format!("'10.0.10.{n}'")).collect::<Vec<_>>().join(", ");
    let rules = format!("[[allow]]\nname = 'hsm'\nhosts = [{hosts}]\nports = [2223]\n");
    let command = outproxy(world, &config(world, &rules));
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 40; exec \"$0\" \"$@\""]).arg(command.get_program());
    shell.args(command.get_args()).env("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1");
    let found = Examination::of(&mut shell);
    for n in 1..=100 {
        found.assert(&format!("10.0.10.{n}:2223"), "ok", None);
    }
    found.assert("descriptors", "warning", Some("too-few"));
    assert_eq!(found.code, Some(0));
}
