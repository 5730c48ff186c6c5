//! What the machine runs out of: descriptors, memory, room on a disk, a reader of the log.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use rustix::process::{Pid as Target, Resource, Rlimit, getrlimit, prlimit};
use tests::patience::patience;
use tests::peers::{listen, reset};
use tests::process::Process;
use tests::proxies::{Outproxy, run_inproxy};
use tests::visits::Visits;
use tests::world::HSM;

use crate::Trial;
use crate::chain::{CLIENTS, Chain, MARGIN, VISITED, until, upstreams};
use crate::report::Report;

/// EMFILE, in a proxy that runs.
pub(crate) fn descriptors(trial: Trial<'_>) -> Report {
    let mut report = Report::default();
    let (upstreams, mut chain) = (upstreams(), Chain::start(trial.world, trial.seed, "", ""));
    chain.warm_up(VISITED, &mut report);
    let mut recoveries = Vec::new();
    let ledger = chain.visit_while(VISITED, CLIENTS, |chain, visits| {
        for round in 0..trial.pick(6, 100) {
            visits.await_service();
            let process = proxy(chain, round);
            // None is left for a connection, or for half of one.
            let few = process.descriptors() as u64 + round % 3;
            let before = limit(process, Resource::Nofile, few);
            visits.pause(Duration::from_millis(300));
            set_limit(process, Resource::Nofile, before);
            recoveries.push(await_service(visits));
            report.done("shortages", 1_u64);
        }
    });
    report.visits(&ledger, true);
    report.recoveries("served again", recoveries);
    report.upstreams(&upstreams);
    let failed = |process: &Process| {
        process.logged().iter().any(|line| line.to_string().contains("os error 24"))
    };
    let noticed = [&*chain.outproxy, &chain.inproxy].map(failed);
    report.hold(noticed == [true, true], || format!("EMFILE is in the logs: {noticed:?}"));
    chain.end(&mut report, MARGIN);
    report
}

/// ENOMEM: no more address space than it has.
pub(crate) fn memory(trial: Trial<'_>) -> Report {
    let mut report = Report::default();
    let (upstreams, mut chain) = (upstreams(), Chain::start(trial.world, trial.seed, "", ""));
    let crowd = SocketAddr::new(HSM.ip(), HSM.port() + 1);
    let crowded = listen(crowd);
    thread::spawn(move || crowded.incoming().for_each(drop));
    chain.warm_up(VISITED, &mut report);
    // As much as it will ever hold, when there is memory.
    let gathered = gather(trial, crowd);
    until(|| chain.status().connections.open >= CROWD);
    gathered.into_iter().for_each(reset);
    chain.settle(&mut report);
    // Those of the crowd are not all known.
    chain.connections = None;
    let (mut recoveries, mut died) = (Vec::new(), 0);
    let ledger = chain.visit_while(VISITED, CLIENTS, |chain, visits| {
        for round in 0..trial.pick(6, 100) {
            visits.await_service();
            let process = proxy(chain, round);
            let before = limit(process, Resource::As, process.address_space());
            let crowd = gather(trial, crowd);
            visits.pause(Duration::from_millis(100));
            crowd.into_iter().for_each(reset);
            let start = Instant::now();
            died += u64::from(relieve(chain, round, before));
            // Whoever has failed to get memory may take its time to end.
            while start.elapsed() < patience() && !visits.serve_within(Duration::from_secs(1)) {
                died += u64::from(relieve(chain, round, before));
            }
            visits.await_service();
            recoveries.push(start.elapsed().as_millis());
        }
    });
    report.done("shortages", recoveries.len());
    report.note(format!("a proxy ended by it, and was started again, {died} times"));
    report.visits(&ledger, true);
    report.recoveries("served again", recoveries);
    report.upstreams(&upstreams);
    // Whom the allocator refused a larger heap, it gives others beside it, once.
    chain.end(&mut report, 4 * MARGIN);
    report
}

/// Has many connect who say nothing.
fn gather(trial: Trial<'_>, to: SocketAddr) -> Vec<TcpStream> {
    let connect = |_| TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok();
    trial.world.enclave.run(|| (0..CROWD).filter_map(connect).collect())
}

/// Gives a proxy its memory back; one that has not survived is started again.
fn relieve(chain: &mut Chain<'_>, round: u64, before: Rlimit) -> bool {
    if round.is_multiple_of(2) {
        let has_ended = chain.outproxy.has_ended();
        if has_ended {
            chain.restart_outproxy();
        } else {
            set_limit(&chain.outproxy, Resource::As, before);
        }
        return has_ended;
    }
    let has_ended = chain.inproxy.has_ended();
    if has_ended {
        chain.restart_inproxy();
    } else {
        set_limit(&chain.inproxy, Resource::As, before);
    }
    has_ended
}

/// ENFILE and others, which a machine has for all its processes: strace answers in its place.
pub(crate) fn system_tables(trial: Trial<'_>) -> Report {
    let mut report = Report::default();
    let is_there = Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok();
    if !is_there {
        report.note("SKIPPED: there is no strace");
        return report;
    }
    let (upstreams, mut chain) = (upstreams(), Chain::start(trial.world, trial.seed, "", ""));
    chain.warm_up(VISITED, &mut report);
    let mut recoveries = Vec::new();
    let ledger = chain.visit_while(VISITED, CLIENTS, |chain, visits| {
        for round in 0..trial.pick(1, 20) {
            for (number, injection) in INJECTIONS.iter().enumerate() {
                visits.await_service();
                let process = proxy(chain, round + number as u64);
                let injected = inject(chain.world.directory(), process, injection, visits);
                report.done("failed calls", injected);
                report.hold(injected > 0, || format!("nobody noticed `{injection}`"));
                recoveries.push(await_service(visits));
            }
        }
    });
    report.visits(&ledger, true);
    report.recoveries("served again", recoveries);
    report.upstreams(&upstreams);
    chain.end(&mut report, MARGIN);
    report
}

/// Has system calls fail for a moment; how many did.
fn inject(directory: &Path, process: &Process, injection: &str, visits: &Visits) -> usize {
    let log = directory.join("strace");
    // What the injection before has left would be counted until this one begins its own.
    let _ = fs::remove_file(&log);
    let call = injection.split(':').next().unwrap_or_default();
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-qq",
        "-e",
        &format!("trace={call}"),
        "-e",
        &format!("inject={injection}"),
    ]);
    command.args(["-p", &process.id().to_string(), "-o"]).arg(&log).stdin(Stdio::null());
    let mut strace = Stopped(command.stderr(Stdio::null()).spawn().unwrap());
    let count = || {
        let log = fs::read_to_string(&log).unwrap_or_default();
        log.lines().filter(|line| line.ends_with("(INJECTED)")).count()
    };
    // However long it takes until it has attached itself.
    until(|| count() > 0);
    visits.pause(Duration::from_millis(300));
    strace.stop();
    count()
}

/// A strace, which leaves its process alone in the end.
struct Stopped(Child);

impl Stopped {
    fn stop(&mut self) {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGINT);
        let _ = self.0.wait();
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.stop();
    }
}

/// ENOSPC where the hosts file is.
pub(crate) fn full_disk(trial: Trial<'_>) -> Report {
    let mut report = Report::default();
    let world = trial.world;
    let forward = "[[forward]]\nname = 'named'\nhost = 'hsm.example'\nports = [2223]\n";
    let config = world.inproxy_config("") + forward;
    // A page full of lines, and no second page.
    let lines = "192.0.2.1 of-somebody-else\n".repeat(150);
    let lines = format!("127.0.0.1 localhost\n{}", &lines[..27 * 150]);
    let hosts = || world.enclave.run(|| fs::read_to_string("/etc/hosts")).unwrap();
    for _ in 0..trial.pick(5, 100) {
        for in_place in [false, true] {
            world.enclave.run(|| prepare_disk(in_place, &lines));
            let mut inproxy = run_inproxy(&world.enclave, world.directory(), &config, &[]);
            let code = inproxy.wait().code();
            let told = inproxy.logged().iter().any(|line| line.to_string().contains("/etc/hosts"));
            report.hold(code == Some(1) && told, || format!("it ended with {code:?}: {told}"));
            let left = hosts();
            report.hold(left == lines, || {
                format!("{} of {} bytes of others' are left", left.len(), lines.len())
            });

            world.enclave.run(|| remount("size=1m"));
            let inproxy = world.inproxy(&config);
            report.hold(hosts().contains("hsm.example") && hosts().ends_with(&lines), || {
                "the hosts file is not what it should be once there is room".into()
            });
            drop(inproxy);
            report.done("full disks", 1_u64);
        }
    }
    report
}

/// An /etc without room for more; the hosts file in it can be replaced, or not.
fn prepare_disk(in_place: bool, lines: &str) {
    const NONE: Option<&str> = None;
    // Two pages: the directory's own is not counted, but that of a link's target is.
    mount(NONE, "/etc", Some("tmpfs"), MsFlags::empty(), Some("size=8k")).unwrap();
    fs::write("/etc/full", vec![0; 4096]).unwrap();
    fs::write("/etc/hosts", lines).unwrap();
    if in_place {
        mount(Some("/etc/hosts"), "/etc/hosts", NONE, MsFlags::MS_BIND, NONE).unwrap();
    }
}

fn remount(size: &str) {
    const NONE: Option<&str> = None;
    mount(NONE, "/etc", NONE, MsFlags::MS_REMOUNT, Some(size)).unwrap();
}

/// Nobody reads the log, or there is none, or no room for it.
pub(crate) fn log(trial: Trial<'_>) -> Report {
    let mut report = Report::default();
    let upstreams = upstreams();
    let mut chain = Chain::start(trial.world, trial.seed, "", "");
    chain.warm_up(VISITED, &mut report);
    let count = trial.pick(2000, 20_000);
    let pipe = trial.world.directory().join("log");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    // Whoever opens it for writing is not kept waiting, and nobody reads.
    let open = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&pipe).unwrap()
    };
    let mut held = Some(open());
    for (what, to) in [
        ("with a log that nobody reads", pipe.to_str().unwrap()),
        ("with a full disk", "/dev/full"),
        ("without a log", "&-"),
    ] {
        let script = format!("exec \"$0\" \"$@\" 2>{to}");
        let config = chain.outproxy_config().to_owned();
        chain.outproxy.kill();
        chain.outproxy = Outproxy::start(trial.world.directory(), &config, &["sh", "-c", &script]);
        let ledger = chain.visit(VISITED, CLIENTS, count);
        report.done(what, ledger.served);
        report.visits(&ledger, false);
        if let Some(mut pipe) = held.take() {
            // As much as there is: then there is room again.
            let mut lines = String::new();
            let end = pipe.read_to_string(&mut lines);
            let is_empty = end.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
            report.hold(is_empty && lines.contains("connection ended"), || {
                "nothing is in the log".into()
            });
            let ledger = chain.visit(VISITED, CLIENTS, 10);
            report.visits(&ledger, false);
            let mut later = String::new();
            let _ = pipe.read_to_string(&mut later);
            report.hold(later.contains("not logged"), || {
                "N6: nothing tells how many lines are missing".into()
            });
            drop(pipe);
            // From here on nobody ever will.
            let ledger = chain.visit(VISITED, CLIENTS, count);
            report.done("with a log whose reader has gone", ledger.served);
            report.visits(&ledger, false);
        }
    }
    chain.outproxy.kill();
    chain.restart_outproxy();
    report.upstreams(&upstreams);
    chain.end(&mut report, MARGIN);
    report
}

/// One proxy, then the other.
fn proxy<'a>(chain: &'a Chain<'_>, round: u64) -> &'a Process {
    if round.is_multiple_of(2) { &chain.outproxy } else { &chain.inproxy }
}

/// Lets a process have no more than `most`, and returns what it might have.
fn limit(process: &Process, resource: Resource, most: u64) -> Rlimit {
    // The hard one is everybody's here.
    let maximum = getrlimit(resource).maximum;
    let target = Target::from_raw(process.id().cast_signed());
    prlimit(target, resource, Rlimit { current: Some(most), maximum }).unwrap()
}

fn set_limit(process: &Process, resource: Resource, limit: Rlimit) {
    prlimit(Target::from_raw(process.id().cast_signed()), resource, limit).unwrap();
}

/// How long it takes until somebody is served, in milliseconds.
fn await_service(visits: &Visits) -> u128 {
    let start = Instant::now();
    visits.await_service();
    start.elapsed().as_millis()
}

/// Calls, how they fail, and which of them: all, or every second one.
const INJECTIONS: &[&str] = &[
    "accept4:error=ENFILE",
    "accept4:error=ENFILE",
    "accept4:error=ENOMEM:when=1+2",
    "accept4:error=ENOBUFS:when=1+2",
    "socket:error=ENFILE",
    "socket:error=ENFILE",
    "socket:error=ENOBUFS:when=1+2",
    "connect:error=ENOMEM:when=1+2",
];
/// How many connect when there is no memory for them.
const CROWD: usize = 300;
