//! A name server that says what it is told to.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// What it says to whoever asks for an IPv4 address. There is never another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// This one, for a second.
    Address(Ipv4Addr),
    /// SERVFAIL.
    Failure,
    /// One of these after the other, for a second each.
    Flip([Ipv4Addr; 2]),
    /// This one, so much later.
    Late(Ipv4Addr, Duration),
    /// This one, to a question that nobody has asked.
    Mismatch(Ipv4Addr),
    /// Nothing.
    Silence,
}

/// A name server in the host's namespace.
#[derive(Debug)]
pub struct NameServer {
    /// Where it is asked.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    answer: Answer,
    was_asked: bool,
}

impl NameServer {
    /// Starts one; it ends with the process.
    #[must_use]
    pub fn start(answer: Answer) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port for DNS");
        let address = socket.local_addr().expect("its address");
        let state = Arc::new(Mutex::new(State { answer, was_asked: false }));
        thread::spawn({
            let state = Arc::clone(&state);
            move || serve(&socket, &state)
        });
        Self { address, state }
    }

    /// Changes the answer.
    pub fn set(&self, answer: Answer) {
        *lock(&self.state) = State { answer, was_asked: false };
    }

    /// Whether anybody has asked since the answer was set.
    #[must_use]
    pub fn was_asked(&self) -> bool {
        lock(&self.state).was_asked
    }
}

#[expect(clippy::disallowed_methods, reason = "an answer that is late is no event")]
fn serve(socket: &UdpSocket, state: &Mutex<State>) {
    let mut query = [0; 512];
    while let Ok((length, client)) = socket.recv_from(&mut query) {
        let answer = {
            let mut state = lock(state);
            state.was_asked = true;
            state.answer
        };
        let query = &mut query[..length];
        let (reply, delay) = match answer {
            Answer::Silence => continue,
            Answer::Failure => (reply(query, None), Duration::ZERO),
            Answer::Address(address) => (reply(query, Some(address)), Duration::ZERO),
            Answer::Late(address, delay) => (reply(query, Some(address)), delay),
            Answer::Flip([first, second]) => {
                set(state, Answer::Flip([second, first]));
                (reply(query, Some(first)), Duration::ZERO)
            }
            Answer::Mismatch(address) => {
                query[0] = !query[0];
                (reply(query, Some(address)), Duration::ZERO)
            }
        };
        let socket = socket.try_clone().expect("a descriptor");
        let send = move || {
            thread::sleep(delay);
            // A client that has gone wants no answer.
            let _ = socket.send_to(&reply, client);
        };
        if delay.is_zero() {
            send();
        } else {
            thread::spawn(send);
        }
    }
}

fn set(state: &Mutex<State>, answer: Answer) {
    lock(state).answer = answer;
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// RFC 1035 section 4. The question is taken as it stands; what follows it, EDNS, is dropped.
/// Without an address it is a failure.
fn reply(query: &[u8], address: Option<Ipv4Addr>) -> Vec<u8> {
    const HEADER: usize = 12;
    let labels = query[HEADER..].iter().position(|length| *length == 0).expect("a name");
    let question = &query[HEADER..HEADER + labels + 5];
    let wants_ipv4 = question[labels + 1..labels + 3] == [0, 1];
    let (code, answers) = match address {
        None => (2, 0),
        Some(_) => (0, u8::from(wants_ipv4)),
    };
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
    reply.extend(question);
    if let (Some(address), 1) = (address, answers) {
        // The name of the question, an A record of the Internet, for a second, of four bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        reply.extend(address.octets());
    }
    reply
}
