//! HSMs that refuse, cannot be reached, say nothing, or go away.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tests::namespace::Enclave;
use tests::peers::{bounded, listen, read_to_end, reset};
use tests::world::{ALLOWED, HSM, HSM2, RAW};

use crate::Trial;
use crate::chain::{Chain, MARGIN, upstreams_at};
use crate::report::Report;

/// One fault after the other, beside visits of HSMs that are well.
pub(crate) fn upstreams(trial: Trial<'_>) -> Report {
    const VISITED: &[(SocketAddr, bool)] = &[(HSM2, true), (RAW, false)];
    let mut report = Report::default();
    let world = trial.world;
    let well = upstreams_at(VISITED);
    let limits = format!(
        "connect-timeout = '{CONNECT:?}'\nidle-timeout = '{IDLE:?}'\nhalf-close-timeout = '{IDLE:?}'"
    );
    let outproxy = world.outproxy_config(&format!("{ALLOWED}, '10.0.12.0/24'"), &limits);
    let inproxy = world.inproxy_config("").replace("'fd00:10::/64'", "'10.0.12.0/24'");
    let mut chain = Chain::start_with(world, trial.seed, &outproxy, inproxy);
    chain.warm_up(VISITED, &mut report);
    let hole = black_hole(BLACK_HOLE);
    let silent = listen(SILENT);
    let cutting = [(CUT, true), (FINISHED, false)].map(|(address, aborts)| {
        let listener = listen(address);
        thread::spawn(move || cut(&listener, aborts))
    });
    let rounds = trial.pick(2, 50);
    let mut tried = 0;
    let ledger = chain.visit_while(VISITED, 8, |_, _| {
        for _ in 0..rounds {
            for fault in FAULTS {
                let seen = ask_all(&world.enclave, fault.address);
                tried += seen.len() as u64;
                report.done(fault.name, seen.len());
                for (text, taken) in seen {
                    report.hold(text == fault.expected && taken <= fault.limit + SLACK, || {
                        format!("{}: {text}, after {taken:.1?}", fault.name)
                    });
                }
            }
        }
    });
    drop((hole, silent));
    chain.count(tried);
    report.visits(&ledger, false);
    let slowest = ledger.quantile(1000);
    report.note(format!("beside that no visit took more than {slowest:.1?}"));
    report.hold(slowest < CONNECT.max(SLACK), || format!("a neighbour waited {slowest:.1?}"));
    report.upstreams(&well);
    let unreachable = chain.status().connections.refused.get("unreachable").copied();
    let expected = rounds * 3 * ASKED as u64;
    report.hold(unreachable == Some(expected), || {
        format!("N6: {unreachable:?} are counted as unreachable, not {expected}")
    });
    drop(cutting);
    chain.end(&mut report, MARGIN);
    report
}

/// What is wrong, and what a client must then see, how soon.
struct Fault {
    name: &'static str,
    address: SocketAddr,
    expected: &'static str,
    limit: Duration,
}

const FAULTS: &[Fault] = &[
    Fault { name: "refused", address: REFUSED, expected: RESET, limit: Duration::ZERO },
    Fault { name: "unreachable", address: UNREACHABLE, expected: RESET, limit: Duration::ZERO },
    Fault { name: "black hole", address: BLACK_HOLE, expected: RESET, limit: CONNECT },
    Fault { name: "silent", address: SILENT, expected: RESET, limit: IDLE },
    Fault { name: "cut", address: CUT, expected: PART_AND_RESET, limit: Duration::ZERO },
    Fault { name: "finished", address: FINISHED, expected: PART_AND_END, limit: Duration::ZERO },
];

/// Many connect at once; what each of them sees, and how long that takes.
fn ask_all(enclave: &Enclave, address: SocketAddr) -> Vec<(String, Duration)> {
    let ask = || {
        let start = Instant::now();
        let text = match TcpStream::connect(address) {
            Ok(stream) => ask(&mut bounded(stream)),
            Err(error) => seen(0, Some(error.kind())),
        };
        (text, start.elapsed())
    };
    enclave.run(|| {
        thread::scope(|scope| {
            let asking: Vec<_> = (0..ASKED).map(|_| scope.spawn(ask)).collect();
            asking.into_iter().map(|asking| asking.join().unwrap()).collect()
        })
    })
}

fn ask(stream: &mut TcpStream) -> String {
    // It may be reset already; then it is this that tells.
    if let Err(error) = stream.write_all(QUESTION) {
        let is_broken = error.kind() == ErrorKind::BrokenPipe;
        return seen(0, Some(if is_broken { ErrorKind::ConnectionReset } else { error.kind() }));
    }
    let (bytes, error) = read_to_end(stream);
    if bytes.iter().any(|byte| *byte != 7) {
        "N1: other bytes".into()
    } else {
        seen(bytes.len(), error)
    }
}

fn seen(bytes: usize, error: Option<ErrorKind>) -> String {
    let end = error.map_or_else(|| "a clean end".to_owned(), |error| error.to_string());
    format!("{bytes} bytes and {end}")
}

/// Answers a part of what it should, and is lost, or says that this is all.
fn cut(listener: &TcpListener, aborts: bool) {
    for stream in listener.incoming() {
        let mut stream = bounded(stream.unwrap());
        // What it has not read would make an RST of its close.
        let mut question = [0; QUESTION.len()];
        if stream.read_exact(&mut question).is_err() || stream.write_all(&[7; PART]).is_err() {
            continue;
        }
        if aborts {
            // An RST makes TCP forget what is not delivered.
            thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(DELIVERY));
                let _ = stream.read(&mut question);
                reset(stream);
            });
        }
    }
}

/// A listener that accepts nobody, and whose queue is full: what connects is not answered.
fn black_hole(address: SocketAddr) -> (Socket, Vec<Socket>) {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let listener = socket();
    listener.bind(&address.into()).unwrap();
    listener.listen(0).unwrap();
    let queued = (0..3).map(|_| {
        let client = socket();
        client.set_nonblocking(true).unwrap();
        // The queue takes it, or it goes on trying.
        let _ = client.connect(&address.into());
        client
    });
    let queued = queued.collect();
    (listener, queued)
}

const REFUSED: SocketAddr = hsm([10, 0, 10, 103], 2224);
const UNREACHABLE: SocketAddr = hsm([10, 0, 12, 1], 2223);
const BLACK_HOLE: SocketAddr = hsm([10, 0, 10, 103], 2225);
const SILENT: SocketAddr = HSM;
const CUT: SocketAddr = hsm([10, 0, 11, 27], 2224);
const FINISHED: SocketAddr = hsm([10, 0, 11, 27], 2225);

const fn hsm(octets: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::from_octets(octets)), port)
}

const RESET: &str = "0 bytes and connection reset";
const PART_AND_RESET: &str = "5000 bytes and connection reset";
const PART_AND_END: &str = "5000 bytes and a clean end";
const PART: usize = 5000;
const QUESTION: &[u8] = &[1; 300];
/// How many ask at once.
const ASKED: usize = 20;
/// `connect-timeout`
const CONNECT: Duration = Duration::from_millis(300);
/// `idle-timeout`
const IDLE: Duration = Duration::from_secs(2);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(10);
/// In so much time a few packets cross the tunnel.
const DELIVERY: Duration = Duration::from_millis(500);
