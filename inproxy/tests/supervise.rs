//! A supervised command, seen from the shell that started the supervisor.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{self, ChildStderr, Command, ExitStatus, Stdio};

use inproxy::supervise::{Child, Signals};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Not a test: the program that the tests supervise with, when they run this file again.
#[test]
#[ignore = "run by the other tests"]
#[expect(clippy::exit, reason = "the status of a process is what the tests look at")]
fn supervisor() {
    let Some(script) = env::var_os(SCRIPT) else {
        return;
    };
    if env::var_os(SUBREAPER).is_some() {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let code = runtime.block_on(async {
        let signals = Signals::install().unwrap();
        let (program, args) = match script.to_str().and_then(|script| script.strip_prefix("exec:"))
        {
            Some(program) => (OsString::from(program), Vec::new()),
            None => ("sh".into(), vec!["-c".into(), script]),
        };
        match Child::spawn(signals, &program, &args) {
            Ok(child) => child.wait().await.unwrap(),
            Err(error) => error.exit_code(),
        }
    });
    process::exit(code.into());
}

#[test]
fn the_status_of_the_command_passes() {
    for code in [0, 1, 7, 255] {
        assert_eq!(supervise(&format!("exit {code}")).finish().code(), Some(code));
    }
}

#[test]
fn death_by_a_signal_is_128_and_its_number() {
    for (signal, code) in [("KILL", 137), ("USR1", 138), ("TERM", 143)] {
        let status = supervise(&format!("kill -{signal} $$")).finish();
        assert_eq!(status.code(), Some(code), "{signal}");
    }
}

#[test]
fn death_by_a_real_time_signal_is_no_exception() {
    assert_eq!(supervise("kill -40 $$").finish().code(), Some(168));
}

#[test]
fn a_command_that_cannot_run_gives_the_codes_of_a_shell() {
    for (program, code) in
        [("/nonexistent", 127), ("no-such-command", 127), ("/", 126), ("/etc/passwd", 126)]
    {
        let status = supervise(&format!("exec:{program}")).finish();
        assert_eq!(status.code(), Some(code), "{program}");
    }
}

#[test]
fn a_command_that_ends_at_once_is_not_missed() {
    for _ in 0..200 {
        assert_eq!(supervise("exec:true").finish().code(), Some(0));
    }
}

#[test]
fn a_parent_that_ignores_sigchld_costs_no_status() {
    // While SIGCHLD is ignored, the kernel reaps children itself; see wait(2).
    let mut env = Command::new("env");
    env.arg("--ignore-signal=CHLD");
    assert_eq!(supervise_below(env, "exit 7").finish().code(), Some(7));
}

#[test]
fn sigterm_reaches_the_whole_job() {
    // The outer shell dies of it, and would leave the inner one behind.
    let mut supervisor = supervise(&format!("({}); true", trap(&["TERM"])));
    supervisor.expect(&["ready"]);
    supervisor.send(Signal::SIGTERM);
    supervisor.expect(&["TERM"]);
    assert_eq!(supervisor.finish().code(), Some(143));
}

#[test]
fn signals_in_quick_succession_all_arrive() {
    let all = [
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGINT, "INT"),
        (Signal::SIGPWR, "PWR"),
        (Signal::SIGQUIT, "QUIT"),
        (Signal::SIGTERM, "TERM"),
        (Signal::SIGUSR1, "USR1"),
        (Signal::SIGUSR2, "USR2"),
        (Signal::SIGWINCH, "WINCH"),
    ];
    let names = all.map(|(_, name)| name);
    let mut supervisor = supervise(&trap(&names));
    supervisor.expect(&["ready"]);
    for (signal, _) in all {
        supervisor.send(signal);
    }
    supervisor.expect(&names);
    assert_eq!(supervisor.finish().code(), Some(0));
}

#[test]
fn sigusr1_spares_the_helpers_of_the_command() {
    // The first `wait` ends early if the signal interrupts it.
    let mut supervisor = supervise(
        "exec 3<&0; trap 'echo USR1 >&2' USR1; \
         sh -c 'echo ready >&2; read line; echo alive >&2' <&3 & \
         wait $! || wait $!",
    );
    supervisor.expect(&["ready"]);
    supervisor.send(Signal::SIGUSR1);
    supervisor.expect(&["USR1"]);
    drop(supervisor.process.stdin.take());
    supervisor.expect(&["alive"]);
    assert_eq!(supervisor.finish().code(), Some(0));
}

#[test]
fn pid_1_reaps_orphans() {
    let mut unshare = Command::new("unshare");
    unshare.args(["-Urpf", "--mount-proc"]);
    let script = format!("[ $PPID = 1 ] || exit 1; {ORPHANS}");
    assert_eq!(supervise_below(unshare, &script).finish().code(), Some(7));
}

#[test]
fn a_subreaper_reaps_orphans() {
    let mut env = Command::new("env");
    env.arg(format!("{SUBREAPER}=1"));
    assert_eq!(supervise_below(env, ORPHANS).finish().code(), Some(7));
}

#[test]
fn the_command_starts_with_no_signal_blocked_caught_or_ignored_by_us() {
    let mut supervisor = supervise("exec cat /proc/self/status >&2");
    let mut status = String::new();
    supervisor.stderr.read_to_string(&mut status).unwrap();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
    };
    assert_eq!(mask("SigBlk:"), 0);
    assert_eq!(mask("SigCgt:"), 0);
    assert_eq!(mask("SigIgn:") & 1 << (Signal::SIGPIPE as u32 - 1), 0);
    assert_eq!(supervisor.finish().code(), Some(0));
}

#[test]
fn the_command_reads_the_terminal_and_the_script_around_us_does_afterwards() {
    let program = env::current_exe().unwrap();
    let supervisor = format!("'{}' {}", program.display(), SUPERVISOR.join(" "));
    // Who reads from the background is stopped.
    let mut terminal = Command::new("timeout")
        .args(["20", "script", "--quiet", "--return", "--flush", "--command"])
        .arg(format!("{supervisor}; read line; echo \"then <$line>\""))
        .arg("/dev/null")
        .env("SHELL", "/bin/sh")
        .env(SCRIPT, "read line; echo \"first <$line>\"")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keyboard = terminal.stdin.take().unwrap();
    let mut screen = BufReader::new(terminal.stdout.take().unwrap());
    keyboard.write_all(b"one\n").unwrap();
    expect(&mut screen, &["first <one>"]);
    keyboard.write_all(b"two\n").unwrap();
    expect(&mut screen, &["then <two>"]);
    assert!(terminal.wait().unwrap().success());
}

/// Leaves eight processes behind, and exits with 7 once they have all been reaped.
const ORPHANS: &str = r#"
    set -- $(for i in 1 2 3 4 5 6 7 8; do sh -c 'sh -c "echo \$\$; exit 3" &'; done)
    [ $# = 8 ] || exit 1
    for i in $(seq 1000); do
        kill -0 "$1" || shift
        [ $# != 0 ] || exit 7
        sleep 0.01
    done
    exit 2
"#;

/// A script that says `ready` and then the name of each signal that it gets, until it has them all.
fn trap(signals: &[&str]) -> String {
    let traps: String = signals
        .iter()
        .map(|name| format!("trap 'echo {name} >&2; n=$((n + 1))' {name}; "))
        .collect();
    let count = signals.len();
    format!("n=0; {traps} echo ready >&2; while [ $n -lt {count} ]; do sleep 0.01; done; exit 0")
}

fn supervise(script: &str) -> Supervisor {
    supervise_below(Command::new("env"), script)
}

/// Runs a script supervised, and the supervisor by another command.
fn supervise_below(mut command: Command, script: &str) -> Supervisor {
    let mut process = command
        .arg(env::current_exe().unwrap())
        .args(SUPERVISOR)
        .env(SCRIPT, script)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(process.stderr.take().unwrap());
    Supervisor { process, stderr }
}

struct Supervisor {
    process: process::Child,
    /// What the script has to say: standard output is the test harness's.
    stderr: BufReader<ChildStderr>,
}

impl Supervisor {
    fn send(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).unwrap();
    }

    fn expect(&mut self, lines: &[&str]) {
        expect(&mut self.stderr, lines);
    }

    fn finish(mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }
}

/// Reads until each of the lines has come, in any order.
fn expect(output: &mut impl BufRead, lines: &[&str]) {
    let mut missing = lines.to_vec();
    let mut seen = String::new();
    while !missing.is_empty() {
        let start = seen.len();
        let length = output.read_line(&mut seen).unwrap();
        assert_ne!(length, 0, "{missing:?} did not come, only {seen:?}");
        missing.retain(|line| *line != seen[start..].trim_end());
    }
}

/// How to run this file as the supervisor.
const SUPERVISOR: [&str; 4] = ["--exact", "supervisor", "--ignored", "--nocapture"];

/// What the supervisor runs: a shell script, or a program after `exec:`.
const SCRIPT: &str = "INPROXY_TEST_SCRIPT";

/// Whether orphans become children of the supervisor, as those of PID 1 do.
const SUBREAPER: &str = "INPROXY_TEST_SUBREAPER";
