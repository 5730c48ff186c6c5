//! AWS, as moto plays it.

use std::env;
use std::io::{self, BufRead, BufReader, Lines, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

use serde_json::{Value, json};

pub(crate) const CLUSTER: &str = "cluster-teeultuftgy";

/// The API of CloudHSM on loopback, with one cluster. It ends with its value.
pub(crate) struct Moto {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    pub(crate) port: u16,
}

impl Moto {
    pub(crate) fn start(hsms: &[Value]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/server.py");
        let python = python();
        let mut process = Command::new(&python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; see tests/lab/setup", python.display()));
        let input = process.stdin.take().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = output.next().expect("moto starts").unwrap().parse().unwrap();
        let mut moto = Self { process, input, output, port };
        moto.set(hsms);
        moto
    }

    /// The cluster has these HSMs from now on.
    pub(crate) fn set(&mut self, hsms: &[Value]) {
        writeln!(self.input, "{}", json!({ "cluster": CLUSTER, "hsms": hsms })).unwrap();
        assert_eq!(self.output.next().unwrap().unwrap(), "done");
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// An HSM as DescribeClusters answers it.
pub(crate) fn hsm(state: &str, v4: &str, v6: Option<&str>) -> Value {
    json!({
        "HsmId": "hsm-abcdefghijk",
        "ClusterId": CLUSTER,
        "EniIp": v4,
        "EniIpV6": v6,
        "State": state,
    })
}

/// Where outproxy finds AWS: nobody is there until the gate is opened.
pub(crate) struct Gate(TcpListener);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// Waits until somebody asks.
    pub(crate) fn await_question(&self) -> TcpStream {
        self.0.accept().unwrap().0
    }

    /// Leads that question to moto, and all that follow.
    pub(crate) fn open(self, first: TcpStream, moto: &Moto) {
        let port = moto.port;
        thread::spawn(move || {
            lead(&first, port);
            self.0.incoming().for_each(|stream| lead(&stream.unwrap(), port));
        });
    }
}

fn lead(client: &TcpStream, port: u16) {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let pairs = [(client, &server), (&server, client)];
    for (from, to) in pairs.map(|(from, to)| (from.try_clone().unwrap(), to.try_clone().unwrap())) {
        thread::spawn(move || {
            let (mut from, mut to) = (from, to);
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}

/// That which has moto: beside `MOTO_SERVER`, or what tests/lab/setup has installed.
fn python() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/lab");
    let lab = || env::var_os("LAB_CACHE").map_or(own, PathBuf::from).join("moto/bin/moto_server");
    env::var_os("MOTO_SERVER").map_or_else(lab, PathBuf::from).with_file_name("python")
}
