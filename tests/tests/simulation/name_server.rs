//! The name server that outproxy asks.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::net::Net;
use super::plan::{NAMES, NameServer, Zone};
use super::record::Recorder;

/// What it says, as it is told to.
#[derive(Clone, Debug)]
pub(crate) struct State(Arc<Mutex<(NameServer, Vec<Zone>)>>);

impl State {
    pub(crate) fn new() -> Self {
        let zones = vec![Zone { sites: Vec::new(), ttl: 0 }; NAMES];
        Self(Arc::new(Mutex::new((NameServer::Good, zones))))
    }

    pub(crate) fn set(&self, mode: NameServer) {
        self.0.lock().unwrap().0 = mode;
    }

    pub(crate) fn set_zone(&self, name: usize, zone: Zone) {
        self.0.lock().unwrap().1[name] = zone;
    }
}

/// The name of a number.
pub(crate) fn name(number: usize) -> String {
    format!("n{number}.test")
}

/// Answers for ever.
pub(crate) async fn serve(net: Net, state: State, recorder: Recorder) {
    let socket = Arc::new(UdpSocket::bind(net.name_server()).await.unwrap());
    let mut replies = JoinSet::new();
    let mut bytes = [0; 512];
    loop {
        let (n, client) = socket.recv_from(&mut bytes).await.unwrap();
        while replies.try_join_next().is_some() {}
        let query = bytes[..n].to_vec();
        let number = usize::from(query[HEADER + 2] - b'0');
        let wants_v4 = question(&query).ends_with(&[0, 1, 0, 1]);
        if wants_v4 {
            let now = recorder.now();
            recorder.lock().questions.push((now, number));
        }
        let (mode, zone) = {
            let state = state.0.lock().unwrap();
            (state.0, state.1[number].clone())
        };
        let delay = match mode {
            NameServer::Silent => continue,
            NameServer::Slow(delay) => delay,
            NameServer::Failing | NameServer::Good => 0,
        };
        let (socket, recorder) = (Arc::clone(&socket), recorder.clone());
        replies.spawn(async move {
            if delay > 0 {
                tokio::time::sleep(Duration::from_millis(delay)).await;
            }
            let reply = reply(net, &query, (mode != NameServer::Failing).then_some(&zone));
            if wants_v4 && mode != NameServer::Failing {
                let now = recorder.now();
                recorder.lock().replies.push((now, number, zone, delay));
            }
            // A client that has given up does not listen any more.
            let _ = socket.send_to(&reply, client).await;
        });
    }
}

/// RFC 1035 section 4. Without a zone, SERVFAIL. What follows the question, EDNS, is dropped.
fn reply(net: Net, query: &[u8], zone: Option<&Zone>) -> Vec<u8> {
    let question = question(query);
    let wants_v4 = question.ends_with(&[0, 1, 0, 1]);
    let code = match zone {
        None => 2,
        Some(zone) if zone.sites.is_empty() => 3,
        Some(_) => 0,
    };
    let sites = zone.filter(|_| wants_v4).map_or(&[][..], |zone| &zone.sites);
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(sites.len()).unwrap(), 0, 0, 0, 0]);
    reply.extend(question);
    for site in sites {
        let IpAddr::V4(ip) = net.site(*site).ip() else { unreachable!("sites have IPv4") };
        // The name of the question, an A record of the Internet.
        reply.extend([0xc0, 12, 0, 1, 0, 1]);
        reply.extend(zone.map_or(0, |zone| zone.ttl).to_be_bytes());
        reply.extend([0, 4]);
        reply.extend(ip.octets());
    }
    reply
}

fn question(query: &[u8]) -> &[u8] {
    let labels = query[HEADER..].iter().position(|length| *length == 0).unwrap();
    &query[HEADER..HEADER + labels + 5]
}

const HEADER: usize = 12;
