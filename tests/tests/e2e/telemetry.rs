//! What the host learns from inside an enclave.

pub(crate) mod faults;
pub(crate) mod hostile;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Instant;

use outproxy::enclaves::{EnclaveStatus, LoggedLine};
use outproxy::status::Status;
use tests::leg::Leg;
use tests::patience::{is_emulated, patience};
use tests::peers::{accept, connect, listen, ping};
use tests::process::{Process, has};
use tests::proxies::{Outproxy, binary, run_inproxy};
use tests::world::{ALLOWED, HSM, World};

use crate::say;

crate::scenarios![
    the_last_words_of_an_application_arrive,
    all_that_is_told_is_shown_and_nothing_else,
    what_an_application_writes_is_its_own_unless_it_is_asked_for,
    what_an_application_writes_comes_out_of_inproxy_as_it_is,
    who_follows_sees_what_comes,
    the_journal_has_the_cid_as_a_field,
    a_client_that_is_no_enclave_tells_nothing,
];

/// An application that says something and ends at once is heard. So is why there is none.
fn the_last_words_of_an_application_arrive(world: &World) {
    let host = Host::start(world);
    let script = "echo first; printf 'last words' >&2; exit 7";
    for round in 1..=if is_emulated() { 3 } else { 10 } {
        let mut inproxy = run(world, &["sh", "-c", script]);
        assert_eq!(inproxy.wait().code(), Some(7));
        let lines = host.lines(&[]);
        let of = |source: &str, text: &str| {
            lines.iter().filter(|line| line.source == source && line.text == text).count()
        };
        assert_eq!((of("stdout", "first"), of("stderr", "last words")), (round, round));
        let application = host.enclave().application.unwrap();
        assert_eq!((application.state.as_str(), application.exit_code), ("exited", Some(7)));
    }
    let mut inproxy = run(world, &["/no/such/program"]);
    assert_eq!(inproxy.wait().code(), Some(127));
    let lines = host.lines(&["--lines", "5"]);
    let is_why = |line: &&LoggedLine| line.source == "inproxy" && line.text.contains("/no/such/");
    assert!(lines.iter().find(is_why).is_some_and(|line| line.level.word() == "error"));
    assert_eq!(host.enclave().application.unwrap().state, "not-started");

    // Not even its listeners are up.
    let config =
        world.inproxy_config("").replace("addresses = ['10.0.20.5']", "addresses = ['10.0.10.9']");
    let config = config.replace("ports = [2223]", "ports = [2226]");
    let _taken = world.enclave.run(|| listen(SocketAddr::new([0, 0, 0, 0].into(), 2226)));
    let mut inproxy = run_inproxy(&world.enclave, world.directory(), &config, &[]);
    assert_eq!(inproxy.wait().code(), Some(1));
    host.line("why it ended", |line| line.text.contains("failed to listen"));
}

fn all_that_is_told_is_shown_and_nothing_else(world: &World) {
    let host = Host::start(world);
    let _inproxy = run(world, READY);
    let upstream = listen(HSM);
    let mut client = connect(&world.enclave, HSM);
    let mut served = accept(&upstream);
    client.write_all(PAYLOAD.as_bytes()).unwrap();
    ping_after(PAYLOAD, &mut client, &mut served);
    let open = connect(&world.enclave, HSM);
    ping(&mut open.try_clone().unwrap(), &mut accept(&upstream));
    drop((client, served));

    let line = host.line("its end", |line| line.text.contains("outcome=\"finished\""));
    assert_eq!((line.source.as_str(), line.cid.as_str()), ("inproxy", host.cid));
    assert!(line.text.starts_with("connection ended client="), "{}", line.text);
    let enclave = host.await_enclave("both connections", |enclave| {
        enclave.open == 1 && enclave.ended.get("finished") == Some(&1)
    });
    assert!(enclave.connected && enclave.connected_since.is_some());
    assert_eq!(enclave.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!((enclave.sent, enclave.received), (PAYLOAD.len() as u64 + 1, 1));
    assert_eq!(enclave.application.unwrap().state, "running");

    let text = host.run(&["status"]);
    let row = text.lines().skip_while(|line| !line.starts_with("ENCLAVE")).nth(1).unwrap();
    assert!(row.starts_with(host.cid) && row.contains("running, pid "), "{text}");
    let metrics = host.metrics();
    let labels = format!("{{side=\"enclave\",cid=\"{}\"", host.cid);
    for series in [
        format!("inproxy_connected{labels}}} 1"),
        format!("inproxy_connections_open{labels}}} 1"),
        format!("inproxy_connections_total{labels},outcome=\"finished\"}} 1"),
        format!("inproxy_bytes_total{labels},direction=\"received\"}} 1"),
        format!("inproxy_application_running{labels}}} 1"),
    ] {
        assert!(metrics.lines().any(|line| line == series), "{series} in {metrics}");
    }
    let mut types: Vec<_> = metrics.lines().filter(|line| line.starts_with("# TYPE")).collect();
    let all = types.len();
    types.sort_unstable();
    types.dedup();
    assert_eq!(types.len(), all, "{metrics}");

    let shown = host.run(&["logs", "--cid", host.cid, "-n", "3"]);
    let first: Vec<_> = shown.lines().next().unwrap().splitn(5, ' ').collect();
    assert!(first[0].ends_with('Z') && first[1] == host.cid, "{shown}");
    assert_eq!(shown.lines().count(), 3);
    let own = host.outproxy.line("the line in its own log", |line| {
        line["message"] == "from an enclave" && line["text"].to_string().contains("finished")
    });
    assert_eq!((&own["cid"], &own["source"]), (&host.cid.into(), &"inproxy".into()));
    // Neither in what is told, nor in what is made of it.
    for text in [host.run(&["logs"]), metrics, host.run(&["status", "--json"])] {
        assert!(!text.contains(PAYLOAD), "{text}");
    }
}

/// Its words are for the enclave, and may be secrets.
fn what_an_application_writes_is_its_own_unless_it_is_asked_for(world: &World) {
    let host = Host::start(world);
    let script = ["sh", "-c", "echo secret; [ -p /dev/stdout ] || exit 3"];
    let mut inproxy =
        run_inproxy(&world.enclave, world.directory(), &world.inproxy_config(""), &script);
    assert_eq!(inproxy.wait().code(), Some(0));
    assert!(host.lines(&[]).iter().all(|line| !line.text.contains("secret")));
    assert_eq!(host.enclave().application.unwrap().exit_code, Some(0));

    let config = world.inproxy_config("") + "[telemetry]\nenabled = false\n";
    let before = host.lines(&[]).len();
    let mut inproxy = run_inproxy(&world.enclave, world.directory(), &config, &["true"]);
    assert_eq!(inproxy.wait().code(), Some(0));
    assert_eq!(host.lines(&[]).len(), before);
}

/// The host gets lines of text; our own standard output and error get all bytes, as they are.
fn what_an_application_writes_comes_out_of_inproxy_as_it_is(world: &World) {
    let host = Host::start(world);
    let directory = world.directory();
    // More than pipes hold, every byte, lines without end, and no end of a line at the end.
    let stdout: Vec<_> = (0..=u8::MAX).cycle().take(300_001).collect();
    let stderr: Vec<_> = stdout.iter().rev().map(|byte| byte ^ 0xaa).collect();
    for (name, bytes) in [("stdout", &stdout), ("stderr", &stderr)] {
        fs::write(directory.join(name), bytes).unwrap();
    }
    let config = world.inproxy_config("").replace("format = 'json'", "level = 'error'");
    let path = directory.join("inproxy.toml");
    fs::write(&path, config + "[telemetry]\napplication-output = true\n").unwrap();
    let mut command = Command::new(binary("inproxy"));
    command.arg("--config").arg(path).current_dir(directory).args(["--", "sh", "-c"]);
    command.arg("cat stderr >&2 & cat stdout; wait; echo whole lines, too; echo >&2; exit 3");
    let output = world.enclave.run(|| command.output().unwrap());
    assert_eq!(output.status.code(), Some(3));
    // Not by `assert_eq`, which would show all of it.
    assert!(output.stdout == [&stdout[..], b"whole lines, too\n"].concat(), "standard output");
    assert!(output.stderr == [&stderr[..], b"\n"].concat(), "standard error");
    host.line("the last line", |line| line.text.ends_with("whole lines, too"));
}

fn who_follows_sees_what_comes(world: &World) {
    let host = Host::start(world);
    let mut followers = [
        Follower::start(&host, &["--follow", "--cid", host.cid]),
        Follower::start(&host, &["-f", "--json", "--lines", "0"]),
    ];
    let mut inproxy = run(world, &["sh", "-c", "while read -r line; do echo \"<$line>\"; done"]);
    for word in ["one", "two"] {
        writeln!(inproxy.child().stdin.as_mut().unwrap(), "{word}").unwrap();
        for follower in &mut followers {
            follower.await_line(&format!("<{word}>"));
        }
    }
    drop(inproxy.child().stdin.take());
    assert_eq!(inproxy.wait().code(), Some(0));
    // Whoever follows learns that there is nothing to follow any more.
    let Host { outproxy, .. } = host;
    drop(outproxy);
    for follower in followers {
        assert_eq!(follower.ended(), Some(1));
    }
}

fn the_journal_has_the_cid_as_a_field(world: &World) {
    let path = world.directory().join("journal");
    let journal = UnixDatagram::bind(&path).unwrap();
    journal.set_read_timeout(Some(patience())).unwrap();
    let socket = format!("OUTPROXY_JOURNAL={}", path.display());
    let host = Host::start_below(world, &["env", "JOURNAL_STREAM=1:1", &socket]);
    let mut inproxy = run(world, &["sh", "-c", "echo to the journal"]);
    assert_eq!(inproxy.wait().code(), Some(0));
    let cid = format!("ENCLAVE_CID={}", host.cid);
    loop {
        let mut entry = [0; 16384];
        let length = journal.recv(&mut entry).unwrap();
        let entry = std::str::from_utf8(&entry[..length]).unwrap();
        let fields: Vec<_> = entry.lines().collect();
        assert!(fields.contains(&cid.as_str()), "{entry}");
        assert!(fields.contains(&"SYSLOG_IDENTIFIER=enclave"), "{entry}");
        if fields.contains(&"MESSAGE=to the journal") {
            assert!(fields.contains(&"ENCLAVE_SOURCE=stdout"), "{entry}");
            assert!(fields.contains(&"PRIORITY=6"), "{entry}");
            break;
        }
    }
    assert!(host.outproxy.logged().iter().all(|line| line["message"] != "from an enclave"));
}

/// Only the kernel's word tells an enclave from a process of this machine.
fn a_client_that_is_no_enclave_tells_nothing(world: &World) {
    let Leg::Vsock(_) = world.leg else { return };
    let config = config(world).replace("cids = [1]", "cids = [16]");
    let outproxy = Outproxy::start(world.directory(), &config, &[]);
    let host = Host { outproxy, world, cid: "1" };
    let _inproxy = run(world, READY);
    host.outproxy.line("the refusal", has("outcome", "denied"));
    assert!(host.status().enclaves.is_empty());
    say("refused, as a tunnel would be");
}

/// An outproxy that can be asked.
pub(crate) struct Host<'a> {
    pub(crate) outproxy: Outproxy,
    world: &'a World,
    /// What everybody is here: over vsock a process of the same machine.
    pub(crate) cid: &'static str,
}

impl<'a> Host<'a> {
    pub(crate) fn start(world: &'a World) -> Self {
        Self::start_below(world, &[])
    }

    fn start_below(world: &'a World, below: &[&str]) -> Self {
        let outproxy = Outproxy::start(world.directory(), &config(world), below);
        let cid = match world.leg {
            Leg::Unix(_) => "-",
            Leg::Vsock(_) => "1",
        };
        Self { outproxy, world, cid }
    }

    /// Starts it again, as systemd does.
    pub(crate) fn restart(&mut self) {
        self.outproxy = Outproxy::start(self.world.directory(), &config(self.world), &[]);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("outproxy"));
        let path = self.world.directory().join("outproxy.toml");
        command.arg("--config").arg(path).args(arguments);
        command
    }

    /// What a command of outproxy prints.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    pub(crate) fn status(&self) -> Status {
        serde_json::from_str(&self.run(&["status", "--json"])).unwrap()
    }

    /// The only one that has told something.
    pub(crate) fn enclave(&self) -> EnclaveStatus {
        let [enclave] = <[_; 1]>::try_from(self.status().enclaves).unwrap();
        assert_eq!(enclave.cid, self.cid);
        enclave
    }

    pub(crate) fn await_enclave(
        &self,
        what: &str,
        wanted: impl Fn(&EnclaveStatus) -> bool,
    ) -> EnclaveStatus {
        let deadline = Instant::now() + patience();
        loop {
            let mut enclaves = self.status().enclaves;
            match enclaves.pop().filter(&wanted) {
                Some(enclave) => return enclave,
                None => assert!(Instant::now() < deadline, "waited in vain for {what}"),
            }
        }
    }

    /// What `outproxy logs` has.
    pub(crate) fn lines(&self, arguments: &[&str]) -> Vec<LoggedLine> {
        let text = self.run(&[&["logs", "--json"], arguments].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits for a line.
    pub(crate) fn line(&self, what: &str, wanted: impl Fn(&LoggedLine) -> bool) -> LoggedLine {
        let deadline = Instant::now() + patience();
        loop {
            match self.lines(&[]).into_iter().find(&wanted) {
                Some(line) => return line,
                None => assert!(Instant::now() < deadline, "waited in vain for {what}"),
            }
        }
    }

    pub(crate) fn metrics(&self) -> String {
        let endpoint = admin(self.world).parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(outproxy::admin::fetch(&endpoint, "/metrics")).unwrap()
    }
}

/// An `outproxy logs` that goes on.
struct Follower {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Follower {
    fn start(host: &Host<'_>, arguments: &[&str]) -> Self {
        let mut command = host.command(&[&["logs"], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn await_line(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "{words} did not come");
        }
    }

    fn ended(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

fn admin(world: &World) -> String {
    format!("unix:{}/admin", world.directory().display())
}

fn config(world: &World) -> String {
    format!("{}[metrics]\nlisten = '{}'\n", world.outproxy_config(ALLOWED, ""), admin(world))
}

/// Runs an application whose output the host is told.
pub(crate) fn run(world: &World, application: &[&str]) -> Process {
    let config = world.inproxy_config("") + "[telemetry]\napplication-output = true\n";
    let inproxy = run_inproxy(&world.enclave, world.directory(), &config, application);
    inproxy.line("its listeners", has("message", "ready"));
    inproxy
}

fn ping_after(sent: &str, client: &mut std::net::TcpStream, upstream: &mut std::net::TcpStream) {
    assert_eq!(tests::peers::read_exactly(upstream, sent.len()), sent.as_bytes());
    ping(client, upstream);
}

const PAYLOAD: &str = "the payload that nobody may see";
/// Runs until its input ends.
pub(crate) const READY: &[&str] = &["sh", "-c", "echo ready; exec cat"];
