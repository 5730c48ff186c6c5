//! Names resolved by a real DNS server on a loopback address, and dialled.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::CNAME;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use outproxy::address::is_prohibited;
use outproxy::dial::{DialError, dial};
use outproxy::resolver::{Answer, DnsError, Family, Resolver};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tunnel::host::DnsName;

/// For queries that are not answered: short, so that the tests are.
const BUDGET: Duration = Duration::from_millis(600);
/// For dialling: more than any of the tests needs.
const LIMIT: Duration = Duration::from_secs(10);

/// What the server does with a query.
#[derive(Clone)]
enum Act {
    Answer(Vec<RData>),
    /// As a name server that is not the fastest.
    AnswerAfter(Duration, Vec<RData>),
    Fail(ResponseCode),
    Ignore,
}

/// A DNS server for as long as it lives.
struct DnsServer {
    addr: SocketAddr,
    acts: Arc<Mutex<HashMap<(String, RecordType), Act>>>,
    /// The names that were asked for, as they were asked for.
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl DnsServer {
    /// Starts a server that says of every name that it does not exist.
    async fn start() -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (Arc::new(udp), tcp);
            }
        };
        let mut server = Self {
            addr: udp.local_addr().unwrap(),
            acts: Arc::default(),
            asked: Arc::default(),
            _tasks: JoinSet::new(),
        };
        let answer = server.answer();
        server._tasks.spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok((len, peer)) = udp.recv_from(&mut buffer).await {
                let (answer, udp) = (answer(&buffer[..len]), Arc::clone(&udp));
                tokio::spawn(async move {
                    let Some((delay, mut message)) = answer else { return };
                    sleep(delay).await;
                    // What fits into a datagram of the size that resolvers ask for.
                    if message.to_vec().unwrap().len() > 1232 {
                        message = message.truncate();
                    }
                    udp.send_to(&message.to_vec().unwrap(), peer).await.unwrap();
                });
            }
        });
        let answer = server.answer();
        server._tasks.spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                while let Ok(len) = stream.read_u16().await {
                    let mut query = vec![0; len.into()];
                    stream.read_exact(&mut query).await.unwrap();
                    let Some((_, message)) = answer(&query) else { continue };
                    let message = message.to_vec().unwrap();
                    stream.write_u16(u16::try_from(message.len()).unwrap()).await.unwrap();
                    stream.write_all(&message).await.unwrap();
                }
            }
        });
        server
    }

    fn on(&self, name: &str, kind: RecordType, act: Act) -> &Self {
        self.acts.lock().unwrap().insert((format!("{name}."), kind), act);
        self
    }

    /// A name with IPv4 addresses and none in IPv6.
    fn on_v4(&self, name: &str, ips: &[&str]) -> &Self {
        let records = ips.iter().map(|ip| a(ip)).collect();
        self.on(name, RecordType::A, Act::Answer(records)).on(
            name,
            RecordType::AAAA,
            Act::Answer(Vec::new()),
        )
    }

    fn resolver(&self) -> Resolver {
        Resolver::with_budget(Some(vec![self.addr]), BUDGET)
    }

    fn answer(&self) -> impl Fn(&[u8]) -> Option<(Duration, Message)> + Send + 'static {
        let (acts, asked) = (Arc::clone(&self.acts), Arc::clone(&self.asked));
        move |bytes| {
            let request = Message::from_vec(bytes).unwrap();
            let query = request.queries.first().unwrap().clone();
            asked.lock().unwrap().push(query.name().to_string());
            let key = (query.name().to_lowercase().to_string(), query.query_type());
            let act = acts.lock().unwrap().get(&key).cloned();
            let mut message = Message::response(request.id, request.op_code);
            message.add_query(query.clone());
            message.metadata.recursion_available = true;
            let (delay, records) = match act.unwrap_or(Act::Fail(ResponseCode::NXDomain)) {
                Act::Answer(records) => (Duration::ZERO, records),
                Act::AnswerAfter(delay, records) => (delay, records),
                Act::Fail(code) => {
                    message.metadata.response_code = code;
                    (Duration::ZERO, Vec::new())
                }
                Act::Ignore => return None,
            };
            message.add_answers(in_chain(&query, records));
            Some((delay, message))
        }
    }
}

/// Records of the name that was asked for, and behind an alias of the name that it stands for.
fn in_chain(query: &Query, records: Vec<RData>) -> Vec<Record> {
    let mut owner = query.name().clone();
    let mut chained = Vec::new();
    for data in records {
        let record = Record::from_rdata(owner.clone(), 60, data);
        if let RData::CNAME(CNAME(target)) = &record.data {
            owner = target.clone();
        }
        chained.push(record);
    }
    chained
}

fn a(ip: &str) -> RData {
    RData::A(ip.parse::<Ipv4Addr>().unwrap().into())
}

fn aaaa(ip: &str) -> RData {
    RData::AAAA(ip.parse::<Ipv6Addr>().unwrap().into())
}

async fn resolve(resolver: &Resolver, name: &str) -> HashMap<Family, Answer> {
    let mut lookup = resolver.lookup(&name.parse::<DnsName>().unwrap());
    let mut answers = HashMap::new();
    while let Some((family, answer)) = lookup.next().await {
        answers.insert(family, answer);
    }
    answers
}

async fn v4(resolver: &Resolver, name: &str) -> Answer {
    resolve(resolver, name).await.remove(&Family::V4).unwrap()
}

async fn dial_name(
    resolver: &Resolver,
    name: &str,
    port: u16,
    permitted: impl Fn(IpAddr) -> bool,
) -> Result<SocketAddr, DialError> {
    let destination = format!("{name}:{port}").parse().unwrap();
    dial(&destination, resolver, LIMIT, permitted).await.map(|(_, addr)| addr)
}

/// A listener on a loopback address, and its port.
async fn listener(ip: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn a_name_is_resolved_as_it_stands_and_asked_for_once() {
    let server = DnsServer::start().await;
    let resolver = server.on_v4("_hsm._tcp.a.test", &["10.0.10.103", "10.0.11.27"]).resolver();
    for _ in 0..3 {
        let ips = v4(&resolver, "_HSM._tcp.a.test").await.unwrap();
        assert_eq!(
            ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.0.10.103", "10.0.11.27"]
        );
    }
    assert_eq!(*server.asked.lock().unwrap(), ["_hsm._tcp.a.test."; 2]);
}

#[tokio::test]
async fn a_server_that_drops_aaaa_does_not_delay_a_connection() {
    let server = DnsServer::start().await;
    server.on("a.test", RecordType::A, Act::Answer(vec![a("127.0.0.1")])).on(
        "a.test",
        RecordType::AAAA,
        Act::Ignore,
    );
    let (_listener, port) = listener("127.0.0.1").await;
    let begin = Instant::now();
    dial_name(&server.resolver(), "a.test", port, |_| true).await.unwrap();
    assert!(begin.elapsed() < BUDGET, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_slow_answer_is_awaited() {
    let server = DnsServer::start().await;
    let slow = Act::AnswerAfter(BUDGET / 4, vec![a("127.0.0.1")]);
    server.on("a.test", RecordType::A, slow);
    let (_listener, port) = listener("127.0.0.1").await;
    let begin = Instant::now();
    dial_name(&server.resolver(), "a.test", port, |_| true).await.unwrap();
    assert!(begin.elapsed() >= BUDGET / 4);
}

#[tokio::test]
async fn the_last_good_answer_is_used_when_its_refresh_fails_after_a_reload() {
    let server = DnsServer::start().await;
    let resolver = server.on_v4("a.test", &["10.0.10.103"]).resolver();
    v4(&resolver, "a.test").await.unwrap();

    for act in [Act::Fail(ResponseCode::ServFail), Act::Fail(ResponseCode::Refused), Act::Ignore] {
        let resolver = resolver.reloaded(Some(vec![server.addr]));
        server.on("a.test", RecordType::A, act);
        let asked = server.asked.lock().unwrap().len();
        let ips = v4(&resolver, "a.test").await.unwrap();
        assert_eq!(*ips, [IpAddr::from([10, 0, 10, 103])]);
        assert!(server.asked.lock().unwrap().len() > asked, "the server was asked anew");
    }
}

#[tokio::test]
async fn a_failure_tells_its_rcode() {
    let server = DnsServer::start().await;
    server
        .on_v4("empty.test", &[])
        .on("servfail.test", RecordType::A, Act::Fail(ResponseCode::ServFail))
        .on("refused.test", RecordType::A, Act::Fail(ResponseCode::Refused));
    let resolver = server.resolver();
    for (name, rcode) in [
        ("missing.test", "NXDOMAIN"),
        ("empty.test", "NOERROR"),
        ("servfail.test", "SERVFAIL"),
        ("refused.test", "REFUSED"),
    ] {
        let error = v4(&resolver, name).await.unwrap_err();
        assert_eq!(error.rcode(), Some(rcode), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let error = dial_name(&resolver, "missing.test", 1, |_| true).await.unwrap_err();
    assert!(matches!(error, DialError::Dns(DnsError::NotFound(_))), "{error:?}");
}

#[tokio::test]
async fn a_black_hole_costs_no_more_than_the_budget() {
    let hole = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let resolver = Resolver::with_budget(Some(vec![hole.local_addr().unwrap()]), BUDGET);
    let begin = Instant::now();
    let error = dial_name(&resolver, "a.test", 1, |_| true).await.unwrap_err();
    let took = begin.elapsed();
    assert!(matches!(error, DialError::Dns(DnsError::TimedOut { .. })), "{error:?}");
    assert!(took < 2 * BUDGET, "{took:?}");
}

#[tokio::test]
async fn a_black_hole_beside_a_name_server_costs_little() {
    let holes = [
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(),
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(),
    ];
    let server = DnsServer::start().await;
    server.on_v4("a.test", &["10.0.10.103"]);
    let mut servers: Vec<_> = holes.iter().map(|hole| hole.local_addr().unwrap()).collect();
    servers.push(server.addr);
    v4(&Resolver::with_budget(Some(servers), BUDGET), "a.test").await.unwrap();
}

#[tokio::test]
async fn aliases_are_followed() {
    let server = DnsServer::start().await;
    let alias = |name: &str| RData::CNAME(CNAME(Name::from_ascii(name).unwrap()));
    server
        .on("a.test", RecordType::A, Act::Answer(vec![alias("b.test."), a("10.0.10.103")]))
        .on("b.test", RecordType::A, Act::Answer(vec![a("10.0.10.103")]))
        .on("far.test", RecordType::A, Act::Answer(vec![alias("a.test.")]));
    let resolver = server.resolver();
    for name in ["a.test", "far.test"] {
        assert_eq!(*v4(&resolver, name).await.unwrap(), [IpAddr::from([10, 0, 10, 103])]);
    }
}

#[tokio::test]
async fn every_address_of_a_name_is_tried() {
    let server = DnsServer::start().await;
    let ips: Vec<_> = (1..=20).map(|i| format!("127.0.4.{i}")).collect();
    let (_listener, port) = listener("127.0.4.20").await;
    server.on_v4("a.test", &ips.iter().map(String::as_str).collect::<Vec<_>>());
    let addr = dial_name(&server.resolver(), "a.test", port, |_| true).await.unwrap();
    assert_eq!(addr.ip().to_string(), "127.0.4.20");
}

#[tokio::test]
async fn more_addresses_than_a_datagram_holds_come_over_tcp_and_are_bounded() {
    let server = DnsServer::start().await;
    let ips: Vec<_> = (0..=255).map(|i| format!("10.0.0.{i}")).collect();
    server.on_v4("a.test", &ips.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(v4(&server.resolver(), "a.test").await.unwrap().len(), 64);
}

#[tokio::test]
async fn a_name_does_not_lead_to_the_metadata_service() {
    let server = DnsServer::start().await;
    server.on("a.test", RecordType::A, Act::Answer(vec![a("169.254.169.254"), a("127.0.0.1")])).on(
        "a.test",
        RecordType::AAAA,
        Act::Answer(vec![aaaa("::ffff:169.254.169.254"), aaaa("fd00:ec2::254")]),
    );
    let resolver = server.resolver();
    let (_listener, port) = listener("127.0.0.1").await;
    let error = dial_name(&resolver, "a.test", port, |ip| !is_prohibited(ip)).await.unwrap_err();
    let DialError::Prohibited { ip } = &error else { panic!("{error:?}") };
    assert!(is_prohibited(*ip), "{ip}");

    let listed: IpAddr = [127, 0, 0, 1].into();
    let permitted = |ip| ip == listed || !is_prohibited(ip);
    let addr = dial_name(&resolver, "a.test", port, permitted).await.unwrap();
    assert_eq!(addr.ip(), listed);
}

#[tokio::test]
async fn two_hundred_connections_at_once_ask_once() {
    let server = DnsServer::start().await;
    let (listener, port) = listener("127.0.0.1").await;
    let _accepting = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let resolver = server.on_v4("a.test", &["127.0.0.1"]).resolver();
    let mut dials = JoinSet::new();
    for _ in 0..200 {
        let resolver = resolver.clone();
        dials.spawn(async move { dial_name(&resolver, "a.test", port, |_| true).await });
    }
    while let Some(result) = dials.join_next().await {
        result.unwrap().unwrap();
    }
    assert_eq!(server.asked.lock().unwrap().len(), 2);
}
