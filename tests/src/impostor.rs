//! A TLS server that pretends to be another, answers nothing, and keeps what it is told.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::ca::Certificate;
use crate::peers::{bounded, listen};
use crate::tls;

/// It, in the host's namespace. It ends with the process.
#[derive(Clone, Debug)]
pub struct Impostor(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    tls: Arc<ServerConfig>,
    connections: usize,
    received: Vec<u8>,
}

impl Impostor {
    /// Starts one that shows this certificate.
    #[must_use]
    pub fn start(address: SocketAddr, certificate: &Certificate) -> Self {
        let tls = Arc::new(tls::server(certificate));
        let impostor =
            Self(Arc::new(Mutex::new(State { tls, connections: 0, received: Vec::new() })));
        let listener = listen(address);
        thread::spawn({
            let impostor = impostor.clone();
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let impostor = impostor.clone();
                    thread::spawn(move || impostor.hear(stream));
                }
            }
        });
        impostor
    }

    /// Has it show another certificate.
    pub fn show(&self, certificate: &Certificate) {
        self.lock().tls = Arc::new(tls::server(certificate));
    }

    /// How many have connected.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.lock().connections
    }

    /// What they have said, of what TLS hides.
    #[must_use]
    pub fn received(&self) -> String {
        String::from_utf8_lossy(&self.lock().received).into_owned()
    }

    fn hear(&self, stream: TcpStream) {
        let tls = {
            let mut state = self.lock();
            state.connections += 1;
            Arc::clone(&state.tls)
        };
        // Most end as the client likes; what they said till then is kept.
        let _ = self.take_down(stream, tls);
    }

    fn take_down(&self, stream: TcpStream, tls: Arc<ServerConfig>) -> io::Result<()> {
        let tls = ServerConnection::new(tls).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(tls, bounded(stream));
        let mut chunk = [0; 1024];
        loop {
            match stream.read(&mut chunk)? {
                0 => return Ok(()),
                count => self.lock().received.extend(&chunk[..count]),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
