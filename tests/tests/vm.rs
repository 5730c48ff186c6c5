//! The scenarios of `e2e` once more, over real AF_VSOCK, in the virtual machine of tests/lab.
//!
//! Cargo builds `e2e` for `--tests`, not for `--test vm` alone, which runs what was built before.
//!
//! `LAB_KERNEL` names another kernel than the lab's first, `SCENARIOS` some of the scenarios.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::proxies::binary;

#[test]
fn all_scenarios_hold_over_real_vsock() {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/vm");
    if let Some(reason) = missing() {
        assert_ne!(env::var("CI").as_deref(), Ok("true"), "CI must run this: {reason}");
        return say(&format!("SKIPPED: {reason}"));
    }
    let mut command = Command::new(lab);
    command.args(["--timeout", "1500", "--memory", "4G"]);
    if let Ok(kernel) = env::var("LAB_KERNEL") {
        command.args(["--kernel", &kernel]);
    }
    for (program, name) in [
        (e2e(), "e2e"),
        (binary("inproxy"), "inproxy"),
        (binary("outproxy"), "outproxy"),
        (PathBuf::from("/usr/bin/socat"), "socat"),
    ] {
        let mut file = program.into_os_string();
        file.push(format!(":/usr/bin/{name}"));
        command.arg("--file").arg(file);
    }
    command.args(["--", "env", "TUNNEL_LEG=vsock", "BIN_DIR=/usr/bin"]);
    for name in ["SCRIPTS", "SCRIPT_SEED"] {
        command.args(env::var(name).map(|value| format!("{name}={value}")));
    }
    command.args(["e2e", "--test-threads", "2", "--color", "never"]).args(env::var("SCENARIOS"));
    let output = command.output().unwrap();
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|out| String::from_utf8_lossy(out));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    assert!(stdout.contains("test result: ok."), "nothing was run\n{stdout}\n{stderr}");
    say(&stdout);
}

/// The newest build of the program that lies beside this one.
fn e2e() -> PathBuf {
    let own = env::current_exe().unwrap();
    let is_e2e = |path: &PathBuf| {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        name.starts_with("e2e-") && path.extension().is_none()
    };
    let built = own.parent().unwrap().read_dir().unwrap().map(|entry| entry.unwrap().path());
    let modified = |path: &PathBuf| path.metadata().unwrap().modified().unwrap();
    built.filter(is_e2e).max_by_key(modified).unwrap()
}

/// What the lab needs and this machine has not.
fn missing() -> Option<String> {
    let cache = env::var_os("LAB_CACHE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/lab"), PathBuf::from);
    let qemu = Command::new("qemu-system-x86_64").arg("--version").output();
    if !qemu.is_ok_and(|output| output.status.success()) {
        Some("there is no QEMU; run tests/lab/setup".into())
    } else if !cache.join("bin/vhost-device-vsock").exists() {
        Some(format!("nothing to boot in `{}`; run tests/lab/setup", cache.display()))
    } else {
        None
    }
}

#[expect(clippy::print_stderr, reason = "whoever runs it is to know")]
fn say(text: &str) {
    eprintln!("{text}");
}
