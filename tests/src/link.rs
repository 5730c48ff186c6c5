//! The enclave's end of the links to the HSMs, as CloudHSM's client SDK is: TLS to the first HSM
//! that answers, and to another when that one is lost. Such fail-over is the SDK's own work; here
//! it stands before p11-kit's client, which knows one Unix socket.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixListener};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::namespace::Enclave;
use crate::patience::is_emulated;
use crate::process::Process;
use crate::tls;

/// A running link: a process of its own, which can be killed.
#[derive(Debug)]
pub struct Link {
    process: Process,
    /// Where p11-kit's client finds it.
    pub socket: PathBuf,
}

impl Link {
    /// Starts one in the enclave. This program must call [`serve_if_asked`] first of all.
    #[must_use]
    pub fn start(enclave: &Enclave, directory: &Path, ca: &Path, hsms: &[SocketAddr]) -> Self {
        let socket = directory.join("link");
        // That of a link which was killed.
        let _ = fs::remove_file(&socket);
        let hsms = hsms.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let mut command = Command::new(env::current_exe().expect("the path of this program"));
        command.env(SOCKET, &socket).env(CA, ca).env(HSMS, hsms);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let child = enclave.run(|| command.spawn()).expect("this program");
        let process = Process::new("link", child);
        process.line("its start", |line| line == READY);
        Self { process, socket }
    }

    /// What leads a PKCS#11 application there, in its environment.
    #[must_use]
    pub fn variable(&self) -> (&'static str, String) {
        ("P11_KIT_SERVER_ADDRESS", format!("unix:path={}", self.socket.display()))
    }

    /// Kills it as SIGKILL does.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// The PKCS#11 module whose HSM is at the other end of a link.
#[must_use]
pub fn module() -> String {
    format!("/usr/lib/{}-linux-gnu/pkcs11/p11-kit-client.so", env::consts::ARCH)
}

/// Is a link, for ever, if this process was started by [`Link::start`].
pub fn serve_if_asked() {
    let (Some(socket), Some(ca), Ok(hsms)) = (env::var_os(SOCKET), env::var_os(CA), env::var(HSMS))
    else {
        return;
    };
    let hsms = hsms.split(' ').map(|hsm| hsm.parse().expect("an address")).collect();
    let tls = TlsConnector::from(Arc::new(tls::client(Path::new(&ca))));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(serve(Path::new(&socket), hsms, tls));
}

#[expect(clippy::print_stderr, reason = "whoever started it waits for this")]
async fn serve(socket: &Path, hsms: Arc<[SocketAddr]>, tls: TlsConnector) {
    let listener = UnixListener::bind(socket).expect("a socket for PKCS#11");
    eprintln!("{READY}");
    loop {
        let (mut client, _) = listener.accept().await.expect("a connection");
        let (hsms, tls) = (Arc::clone(&hsms), tls.clone());
        tokio::spawn(async move {
            // With no HSM left the client is sent away.
            if let Some(mut hsm) = first(&hsms, &tls).await {
                // However it ends, both ends learn of it.
                let _ = copy_bidirectional(&mut client, &mut hsm).await;
            }
        });
    }
}

/// The first HSM that completes a TLS handshake: inproxy accepts every connection, so a mere TCP
/// connection proves nothing.
async fn first(hsms: &[SocketAddr], tls: &TlsConnector) -> Option<TlsStream<TcpStream>> {
    for hsm in hsms {
        let handshake = async {
            let stream = TcpStream::connect(hsm).await?;
            stream.set_nodelay(true)?;
            tls.connect(hsm.ip().into(), stream).await
        };
        if let Ok(Ok(stream)) = timeout(limit(), handshake).await {
            return Some(stream);
        }
    }
    None
}

/// How long an HSM may take to answer.
fn limit() -> Duration {
    Duration::from_secs(if is_emulated() { 10 } else { 1 })
}

const CA: &str = "LINK_CA";
const HSMS: &str = "LINK_HSMS";
const READY: &str = "the link listens";
const SOCKET: &str = "LINK_SOCKET";
