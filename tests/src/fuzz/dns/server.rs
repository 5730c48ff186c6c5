//! A name server that says what bytes say.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::fuzz::cursor::Cursor;

/// What is answered. The number of the question is always right, or nobody would look further.
#[derive(Clone, Debug)]
pub(super) struct Script {
    /// Whether the rest of the header and the question come from the bytes, too.
    raw: bool,
    /// Whether answers over UDP tell to ask over TCP.
    truncated: bool,
    v4: Arc<[u8]>,
    v6: Arc<[u8]>,
}

impl Script {
    pub(super) fn new(data: &[u8]) -> Self {
        let mut choices = Cursor::new(data);
        let mode = choices.byte();
        let [raw, truncated, same] = [1, 2, 4].map(|bit| mode & bit == 0);
        let (v4, v6) = if same {
            let both = choices.rest();
            (both, both)
        } else {
            let length = choices.below(1 << 16);
            (choices.bytes(length), choices.rest())
        };
        Self { raw: !raw, truncated: !truncated, v4: v4.into(), v6: v6.into() }
    }

    /// Whether an address is anywhere in the answers.
    pub(super) fn holds(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.v4.windows(4).any(|bytes| bytes == ip.octets()),
            IpAddr::V6(ip) => self.v6.windows(16).any(|bytes| bytes == ip.octets()),
        }
    }

    /// RFC 1035 section 4.
    fn reply(&self, query: &[u8], over_tcp: bool) -> Vec<u8> {
        let labels = query[HEADER..].iter().position(|length| *length == 0).expect("a name");
        let question = &query[HEADER..HEADER + labels + 5];
        let wants_v4 = question[labels + 1..labels + 3] == [0, 1];
        let mut bytes = Cursor::new(if wants_v4 { &self.v4 } else { &self.v6 });
        let mut reply = query[..2].to_vec();
        if !self.raw {
            let [code, answers, authorities, additionals] = bytes.array();
            let flags = 0x81 | if self.truncated && !over_tcp { 2 } else { 0 };
            reply.extend([flags, 0x80 | code, 0, 1]);
            reply.extend([0, answers, 0, authorities, 0, additionals]);
            reply.extend(question);
        }
        reply.extend(bytes.rest());
        reply
    }
}

/// It listens on one port of UDP and TCP.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Server {
    pub(super) async fn bind() -> Self {
        loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = tcp.local_addr().expect("an address");
            // Somebody else may have the port of UDP.
            if let Ok(udp) = UdpSocket::bind(address).await {
                return Self { address, udp, tcp };
            }
        }
    }

    /// Answers until it is dropped.
    pub(super) async fn serve(&self, script: Script) {
        let mut query = [0; 512];
        loop {
            tokio::select! {
                received = self.udp.recv_from(&mut query) => {
                    // A client that has gone wants no answer.
                    let Ok((length, client)) = received else { continue };
                    let _ = self.udp.send_to(&script.reply(&query[..length], false), client).await;
                }
                accepted = self.tcp.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    tokio::spawn(serve_tcp(stream, script.clone()));
                }
            }
        }
    }
}

/// RFC 1035 section 4.2.2.
async fn serve_tcp(mut stream: TcpStream, script: Script) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; length.into()];
        if stream.read_exact(&mut query).await.is_err() {
            return;
        }
        let reply = script.reply(&query, true);
        let length = u16::try_from(reply.len()).unwrap_or(u16::MAX);
        let reply = [&length.to_be_bytes(), &reply[..length.into()]].concat();
        if stream.write_all(&reply).await.is_err() {
            return;
        }
    }
}

const HEADER: usize = 12;
