//! What the enclave's applications find, and what happens to them.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use nix::sys::signal::Signal;
use socket2::Socket;
use tests::dns::{Answer, NameServer};
use tests::leg::Leg;
use tests::peers::{
    accept, assert_connect_resets, assert_reset, bounded, connect, listen, ping, read_exactly,
    read_to_end,
};
use tests::process::has;
use tests::proxies::run_inproxy;
use tests::world::{ALLOWED, HSM, RAW, World};

use crate::say;

crate::scenarios![
    only_what_is_forwarded_is_there,
    a_name_is_found_in_the_hosts_file,
    inproxy_exits_as_its_command_does,
    what_the_command_wrote_last_arrives,
    a_signal_reaches_the_command,
    a_command_that_is_missing_is_an_error,
    a_restart_of_outproxy_is_not_noticed,
    an_outproxy_that_stays_away_is_a_reset,
    a_foreign_proxy_serves_as_well,
    a_refusal_that_is_not_closed_is_a_refusal,
    socat_may_stand_on_the_host,
    socat_may_stand_in_the_enclave,
];

fn only_what_is_forwarded_is_there(world: &World) {
    let kind = |address: &str| {
        let address: SocketAddr = address.parse().unwrap();
        world.enclave.run(|| TcpStream::connect(address).unwrap_err().kind())
    };
    assert_eq!(kind("127.0.0.1:1"), ErrorKind::NetworkUnreachable, "`lo` is up");
    let _tunnel = world.tunnel();
    for address in ["127.0.0.1:1", "10.0.10.103:22", "10.0.11.255:22", "[fd00:10::1]:22"] {
        assert_eq!(kind(address), ErrorKind::ConnectionRefused, "{address}");
    }
    for address in ["10.0.12.1:2223", "10.0.20.6:2223", "192.0.2.1:2223", "[fd00:11::1]:2223"] {
        assert_eq!(kind(address), ErrorKind::NetworkUnreachable, "{address}");
    }
    // Local, but another forward's.
    assert_connect_resets(&world.enclave, SocketAddr::new(RAW.ip(), 2224));
}

fn a_name_is_found_in_the_hosts_file(world: &World) {
    let server = NameServer::start(Answer::Address(Ipv4Addr::new(10, 0, 10, 103)));
    let config = world.outproxy_config("'hsm.example', 'other.example'", "");
    let outproxy = world.outproxy(&format!("{config}[dns]\nservers = ['{}']\n", server.address));
    let forwards = ["hsm", "other"].map(|name| {
        format!("[[forward]]\nname = '{name}'\nhost = '{name}.example'\nports = [2223]\n")
    });
    let config = world.inproxy_config("") + &forwards.concat().replace("'hsm'", "'named'");
    let _inproxy = world.inproxy(&config);

    let hosts = world.enclave.run(|| fs::read_to_string("/etc/hosts").unwrap());
    let find = |name: &str| -> IpAddr {
        let line = hosts.lines().find(|line| line.contains(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    assert!(hosts.lines().any(|line| line == "127.0.0.1 localhost"), "{hosts}");
    let [hsm, other] = ["hsm.example", "other.example"].map(find);
    assert!(hsm.is_loopback() && other.is_loopback() && hsm != other, "{hosts}");

    let upstream = listen(HSM);
    for (address, name) in [(hsm, "hsm.example"), (other, "other.example")] {
        let mut client = connect(&world.enclave, SocketAddr::new(address, 2223));
        ping(&mut client, &mut accept(&upstream));
        drop(client);
        outproxy.line("its end", has("destination", &format!("{name}:2223")));
    }
    let refused = world.enclave.run(|| TcpStream::connect((hsm, 443)).unwrap_err().kind());
    assert_eq!(refused, ErrorKind::ConnectionRefused);
}

fn inproxy_exits_as_its_command_does(world: &World) {
    let config = world.inproxy_config("");
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill $$", 143)] {
        let command = ["sh", "-c", script];
        let mut inproxy = run_inproxy(&world.enclave, world.directory(), &config, &command);
        assert_eq!(inproxy.wait().code(), Some(code), "{script}");
    }
}

fn what_the_command_wrote_last_arrives(world: &World) {
    if Command::new("socat").arg("-V").stdout(Stdio::null()).status().is_err() {
        return say("SKIPPED: there is no socat");
    }
    let outproxy = world.outproxy_config(ALLOWED, "");
    let _outproxy = world.outproxy(&outproxy);
    let listener = listen(HSM);
    let script = format!("head -c 1000000 /dev/zero | socat -u - TCP:{HSM}; exit 3");
    let config = world.inproxy_config("");
    let command = ["sh", "-c", &script];
    let mut inproxy = run_inproxy(&world.enclave, world.directory(), &config, &command);
    let mut upstream = accept(&listener);
    let (bytes, error) = read_to_end(&mut upstream);
    assert_eq!((bytes.len(), error), (1_000_000, None));
    drop(upstream);
    assert_eq!(inproxy.wait().code(), Some(3));
}

fn a_signal_reaches_the_command(world: &World) {
    let script = "trap 'echo terminated; exit 3' TERM; echo ready; while :; do read -r line; done";
    let config = world.inproxy_config("");
    let command = ["sh", "-c", script];
    let mut inproxy = run_inproxy(&world.enclave, world.directory(), &config, &command);
    let mut lines = BufReader::new(inproxy.child().stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    inproxy.signal(Signal::SIGTERM);
    assert_eq!(lines.next().unwrap().unwrap(), "terminated");
    assert_eq!(inproxy.wait().code(), Some(3));
}

fn a_command_that_is_missing_is_an_error(world: &World) {
    let config = world.inproxy_config("");
    let mut inproxy =
        run_inproxy(&world.enclave, world.directory(), &config, &["/no/such/program"]);
    assert_eq!(inproxy.wait().code(), Some(127));
    inproxy.line("the error", |line| line.to_string().contains("/no/such/program"));
}

fn a_restart_of_outproxy_is_not_noticed(world: &World) {
    let config = world.outproxy_config(ALLOWED, "");
    let mut outproxy = world.outproxy(&config);
    let _inproxy = world.inproxy(&world.inproxy_config("outproxy-retry = '60s'"));
    let upstreams = [HSM, RAW].map(listen);
    for (address, upstream) in [HSM, RAW].iter().zip(&upstreams) {
        ping(&mut connect(&world.enclave, *address), &mut accept(upstream));
    }
    // Until it has ended, the kernel takes connections for it that nobody will serve.
    outproxy.kill();
    let mut clients = [HSM, RAW].map(|address| connect(&world.enclave, address));
    let _outproxy = world.outproxy(&config);
    for (client, upstream) in clients.iter_mut().zip(&upstreams) {
        ping(client, &mut accept(upstream));
    }
}

fn an_outproxy_that_stays_away_is_a_reset(world: &World) {
    let inproxy = world.inproxy(&world.inproxy_config("outproxy-retry = '50ms'"));
    for address in [HSM, RAW] {
        assert_connect_resets(&world.enclave, address);
    }
    inproxy.lines("the failures", 2, has("outcome", "unreachable"));
}

fn a_foreign_proxy_serves_as_well(world: &World) {
    let listener = world.leg.bind(0).unwrap();
    let upstream = listen(HSM);
    let proxy = thread::spawn(move || {
        for _ in 0..2 {
            let (mut tunnel, request) = accept_request(&listener);
            assert_eq!(request.lines().next(), Some("CONNECT 10.0.10.103:2223 HTTP/1.1"));
            let mut upstream = bounded(TcpStream::connect(HSM).unwrap());
            tunnel.write_all(b"HTTP/1.1 200 Connection established\r\nVia: it\r\n\r\n").unwrap();
            let request = read_exactly(&mut tunnel, 5);
            upstream.write_all(&request).unwrap();
            let (reply, _) = read_to_end(&mut upstream);
            tunnel.write_all(&reply).unwrap();
            tunnel.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(read_to_end(&mut tunnel), (vec![], None));
        }
    });
    for waits in [false, true] {
        let config = format!("await-answer = {waits}\n{}", world.inproxy_config(""));
        let _inproxy = world.inproxy(&config);
        let mut client = connect(&world.enclave, HSM);
        client.write_all(b"hello").unwrap();
        let mut upstream = accept(&upstream);
        assert_eq!(read_exactly(&mut upstream, 5), b"hello");
        upstream.write_all(b"reply").unwrap();
        drop(upstream);
        assert_eq!(read_to_end(&mut client), (b"reply".to_vec(), None));
        client.shutdown(std::net::Shutdown::Write).unwrap();
        // The proxy has to see the end before inproxy is gone.
        _inproxy.line("its end", has("outcome", "finished"));
    }
    proxy.join().unwrap();
}

fn a_refusal_that_is_not_closed_is_a_refusal(world: &World) {
    let listener = world.leg.bind(0).unwrap();
    let (written, is_written) = mpsc::channel();
    let proxy = thread::spawn(move || {
        let (mut tunnel, _) = accept_request(&listener);
        is_written.recv().unwrap();
        tunnel.write_all(b"HTTP/1.1 407 Who are you?\r\nContent-Length: 0\r\n\r\n").unwrap();
        read_to_end(&mut tunnel)
    });
    let inproxy = world.inproxy(&format!("await-answer = true\n{}", world.inproxy_config("")));
    let mut client = connect(&world.enclave, HSM);
    client.write_all(b"hello").unwrap();
    written.send(()).unwrap();
    assert_reset(&mut client);
    let line = inproxy.line("the refusal", has("outcome", "refused"));
    assert!(line["reason"].as_str().unwrap().contains("407"), "{line}");
    // The client's bytes were not for it.
    assert_eq!(proxy.join().unwrap().0, b"");
}

fn socat_may_stand_on_the_host(world: &World) {
    let from = match &world.leg {
        Leg::Unix(_) => format!("UNIX-LISTEN:{},fork", &world.leg.listen(1)["unix:".len()..]),
        Leg::Vsock(first) => format!("VSOCK-LISTEN:{},fork", first + 1),
    };
    let Some(_socat) = Socat::start(&from, &format!("TCP:{RAW}"), Command::spawn) else {
        return;
    };
    let _inproxy = world.inproxy(&world.inproxy_config("outproxy-retry = '20s'"));
    converse(world);
}

fn socat_may_stand_in_the_enclave(world: &World) {
    let _outproxy = world.outproxy(&world.outproxy_config(ALLOWED, ""));
    // It makes the address local, which socat does not.
    let config = world.inproxy_config("").replace("via =", "#").replace(", 'fd00:10::/64'", "");
    let config = config.replace("ports = [2223]", "ports = [2224]");
    let _inproxy = world.inproxy(&config);
    let to = match &world.leg {
        Leg::Unix(_) => format!("UNIX-CONNECT:{}", &world.leg.connect(1)["unix:".len()..]),
        Leg::Vsock(first) => format!("VSOCK-CONNECT:3:{}", first + 1),
    };
    let from = "TCP-LISTEN:2222,fork,reuseaddr";
    let Some(_socat) = Socat::start(from, &to, |command| world.enclave.run(|| command.spawn()))
    else {
        return;
    };
    let upstream = listen(RAW);
    let address = SocketAddr::new(RAW.ip(), 2222);
    ping(&mut connect(&world.enclave, address), &mut accept(&upstream));
}

fn converse(world: &World) {
    let upstream = listen(RAW);
    let mut client = connect(&world.enclave, RAW);
    let mut upstream = accept(&upstream);
    ping(&mut client, &mut upstream);
    upstream.write_all(&[7; 100_000]).unwrap();
    drop(upstream);
    assert!(read_to_end(&mut client) == (vec![7; 100_000], None));
}

/// The next request for a tunnel. A proxy of another kind knows no other.
fn accept_request(listener: &Socket) -> (Socket, String) {
    loop {
        let (mut tunnel, _) = listener.accept().unwrap();
        tunnel.set_read_timeout(Some(tests::patience::patience())).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tunnel.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        if !head.starts_with(b"GET ") {
            return (tunnel, String::from_utf8(head).unwrap());
        }
        tunnel.write_all(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n").unwrap();
    }
}

/// A running socat.
struct Socat(Child);

impl Socat {
    /// Starts one and waits until it listens; `None`, said aloud, where there is none.
    fn start(
        from: &str,
        to: &str,
        spawn: impl FnOnce(&mut Command) -> std::io::Result<Child>,
    ) -> Option<Self> {
        let mut command = Command::new("socat");
        match spawn(command.args(["-d", "-d", from, to]).stderr(Stdio::piped())) {
            Ok(mut child) => {
                let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
                let listens = lines.by_ref().any(|line| line.unwrap().contains("listening on"));
                assert!(listens, "socat does not listen on {from}");
                // It goes on writing there.
                thread::spawn(move || lines.for_each(drop));
                Some(Self(child))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                say("SKIPPED: there is no socat");
                None
            }
            Err(error) => panic!("socat: {error}"),
        }
    }
}

impl Drop for Socat {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
