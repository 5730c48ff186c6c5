//! A real outproxy, and those who talk to it.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Long enough for any machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A place for a configuration and the sockets that it names.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes the configuration, in which `DIR` stands for this place.
    pub(crate) fn configure(&self, text: &str) {
        let text = text.replace("DIR", self.0.path().to_str().unwrap());
        fs::write(self.path("outproxy.toml"), text).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outproxy"));
        // As if no journal was there, which adds the time by itself.
        command.env_remove("JOURNAL_STREAM");
        command.arg("--config").arg(self.path("outproxy.toml")).args(args);
        command
    }

    /// Runs outproxy to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Starts to serve, and returns once outproxy is ready.
    pub(crate) fn serve(&self) -> Outproxy {
        let mut child = self.command(&[]).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let outproxy = Outproxy { child, lines };
        outproxy.await_line("ready");
        outproxy
    }

    /// Waits until so many reloads have succeeded, of which nothing may be logged.
    pub(crate) fn await_reloads(&self, count: usize) {
        let line = format!("tunnel_reloads_total{{result=\"ok\"}} {count}");
        let deadline = Instant::now() + PATIENCE;
        while !get(self, "/metrics").lines().any(|found| found == line) {
            assert!(Instant::now() < deadline, "waited in vain for `{line}`");
        }
    }
}

/// A serving outproxy, which ends with this value.
pub(crate) struct Outproxy {
    child: Child,
    lines: Receiver<String>,
}

impl Outproxy {
    /// Waits until a line with `words` is logged.
    pub(crate) fn await_line(&self, words: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(words) => return line,
                Ok(_) => {}
                Err(error) => panic!("no line with `{words}`: {error}"),
            }
        }
    }

    /// Stops it, and returns all that it has logged and nobody has read.
    pub(crate) fn finish(self) -> Vec<String> {
        self.signal(Signal::SIGTERM);
        self.lines.iter().collect()
    }

    pub(crate) fn hang_up(&self) {
        self.signal(Signal::SIGHUP);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, signal).unwrap();
    }
}

impl Drop for Outproxy {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A service that says what it hears; ends with the test's process.
pub(crate) fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || io::copy(&mut stream.try_clone().unwrap(), &mut stream));
        }
    });
    port
}

/// A port that refuses connections as long as the socket is held.
pub(crate) fn refusing() -> (socket2::Socket, u16) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

/// Asks for a tunnel to `destination`; returns it, and the head of the answer.
pub(crate) fn connect(place: &Place, destination: &str) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(place.path("routed")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "CONNECT {destination} HTTP/1.1\r\nHost: {destination}\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    (stream, String::from_utf8(head).unwrap())
}

/// What is answered to `request` by whoever listens on the socket `admin`.
pub(crate) fn ask(place: &Place, request: &str) -> String {
    read_answer(UnixStream::connect(place.path("admin")).unwrap(), request).unwrap()
}

/// As [`ask`], over TCP.
pub(crate) fn ask_tcp(port: u16, request: &str) -> io::Result<String> {
    read_answer(TcpStream::connect((Ipv4Addr::LOCALHOST, port))?, request)
}

fn read_answer(mut stream: impl Read + Write, request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The body of a page.
pub(crate) fn get(place: &Place, path: &str) -> String {
    let answer = ask(place, &format!("GET {path} HTTP/1.1\r\nHost: outproxy\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.into()
}
