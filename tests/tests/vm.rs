//! The scenarios of `e2e` once more, over real AF_VSOCK, in the virtual machine of tests/lab; and
//! its facts of AF_VSOCK, on both of the lab's kernels.
//!
//! Cargo builds `e2e` for `--tests`, not for `--test vm` alone, which runs what was built before.
//!
//! `LAB_KERNEL` names another kernel than the lab's first, `SCENARIOS` some of the scenarios.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::link::module;
use tests::proxies::binary;
use tests::secrets_manager::cache;

#[test]
fn all_scenarios_hold_over_real_vsock() {
    if is_to_be_skipped() {
        return;
    }
    let mut command = lab("1500");
    if let Ok(kernel) = env::var("LAB_KERNEL") {
        command.args(["--kernel", &kernel]);
    }
    for name in ["inproxy", "outproxy", "enclave-app", "host-client"] {
        bring(&mut command, &binary(name), &Path::new("/usr/bin").join(name));
    }
    for path in third_parties() {
        bring(&mut command, &path, &path);
    }
    let lab_cache = cache().canonicalize().unwrap();
    let mut variable = OsString::from("LAB_CACHE=");
    variable.push(lab_cache);
    command.args(IN_GUEST).arg(variable);
    for name in ["KILLS", "KILL_SEED", "SCRIPTS", "SCRIPT_SEED"] {
        command.args(env::var(name).map(|value| format!("{name}={value}")));
    }
    command.args(["e2e", "--test-threads", "2", "--color", "never", "--skip", "facts::"]);
    run(command.args(env::var("SCENARIOS")));
}

#[test]
fn the_facts_of_vsock_hold_on_linux_6_1() {
    check_facts("6.1");
}

/// It has a bug that the older one has not.
#[test]
fn the_facts_of_vsock_hold_on_linux_6_12() {
    check_facts("6.12");
}

/// Nothing runs beside them in the guest, since some of them measure.
fn check_facts(kernel: &str) {
    if is_to_be_skipped() {
        return;
    }
    let mut command = lab("900");
    command.args(["--kernel", kernel]);
    for name in ["inproxy", "outproxy"] {
        bring(&mut command, &binary(name), &Path::new("/usr/bin").join(name));
    }
    command.args(IN_GUEST);
    run(command.args(["e2e", "--test-threads", "1", "--color", "never", "facts::"]));
}

/// A guest, in which `e2e` may run for so many seconds.
fn lab(timeout: &str) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/vm"));
    command.args(["--timeout", timeout, "--memory", "4G"]);
    bring(&mut command, &e2e(), Path::new("/usr/bin/e2e"));
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|out| String::from_utf8_lossy(out));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    assert!(stdout.contains("test result: ok."), "nothing was run\n{stdout}\n{stderr}");
    say(&stdout);
}

fn is_to_be_skipped() -> bool {
    let Some(reason) = missing() else {
        return false;
    };
    assert_ne!(env::var("CI").as_deref(), Ok("true"), "CI must run this: {reason}");
    say(&format!("SKIPPED: {reason}"));
    true
}

fn bring(command: &mut Command, host: &Path, guest: &Path) {
    let mut file = host.as_os_str().to_owned();
    file.push(":");
    file.push(guest);
    command.arg("--file").arg(file);
}

/// What is at the same place in the guest: what HSMs and Secrets Manager are made of.
fn third_parties() -> Vec<PathBuf> {
    let libraries = PathBuf::from(format!("/usr/lib/{}-linux-gnu", env::consts::ARCH));
    let python = Path::new("/usr/bin/python3").canonicalize().unwrap();
    let modules = Path::new("/usr/lib").join(python.file_name().unwrap());
    let programs = ["openssl", "p11-kit", "pkcs11-tool", "socat", "softhsm2-util"];
    programs
        .into_iter()
        .map(|name| Path::new("/usr/bin").join(name))
        .chain([
            libraries.join("softhsm"),
            "/usr/lib/softhsm".into(),
            "/usr/libexec/p11-kit".into(),
            module().into(),
            cache().canonicalize().unwrap().join("moto"),
            modules,
        ])
        .collect()
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
    let cache = cache();
    let qemu = Command::new("qemu-system-x86_64").arg("--version").output();
    if !qemu.is_ok_and(|output| output.status.success()) {
        Some("there is no QEMU; run tests/lab/setup".into())
    } else if !cache.join("bin/vhost-device-vsock").exists() || !cache.join("moto").exists() {
        Some(format!("`{}` is not complete; run tests/lab/setup", cache.display()))
    } else {
        None
    }
}

#[expect(clippy::print_stderr, reason = "whoever runs it is to know")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Begins the command for a guest.
const IN_GUEST: [&str; 4] = ["--", "env", "TUNNEL_LEG=vsock", "BIN_DIR=/usr/bin"];
