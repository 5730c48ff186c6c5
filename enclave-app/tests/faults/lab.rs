//! A token of SoftHSM's behind the shim.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use enclave_app::hsm::{Hsm, HsmConfig, Program};
use enclave_app::wire::Open;
use tempfile::TempDir;

/// A token with its files; one for each test.
#[derive(Debug)]
pub(crate) struct Lab {
    dir: TempDir,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let lab = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(lab.path("tokens")).unwrap();
        let conf = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            lab.path("tokens").display()
        );
        fs::write(lab.path("softhsm2.conf"), conf).unwrap();
        fs::write(lab.path("log"), "").unwrap();
        lab.tool(
            "softhsm2-util",
            &["--init-token", "--free", "--label", TOKEN, "--so-pin", "so-pin", "--pin", PIN],
        );
        lab
    }

    /// The HSM through the shim. Calls may take longer than they ever do on a busy machine, and a
    /// hang is over soon.
    pub(crate) fn hsm(&self) -> Hsm {
        self.patient_hsm(Duration::from_secs(3))
    }

    pub(crate) fn patient_hsm(&self, call_timeout: Duration) -> Hsm {
        let variable = |name: &str, value: &Path| (name.into(), value.into());
        let program = Program {
            path: std::env::current_exe().unwrap(),
            // The second argument tells this test's worker from others.
            arguments: vec!["worker".into(), self.dir.path().into()],
            environment: vec![
                variable("SOFTHSM2_CONF", &self.path("softhsm2.conf")),
                variable("SHIM_MODULE", Path::new(SOFTHSM)),
                variable("SHIM_LOG", &self.path("log")),
                variable("SHIM_FAULTS", &self.path("faults")),
            ],
        };
        let open = Open { module: shim().to_owned(), token: Some(TOKEN.into()), sessions: 4 };
        let request_timeout = call_timeout + Duration::from_secs(1);
        Hsm::new(HsmConfig { open, call_timeout, request_timeout, program })
    }

    /// Tells the shim what to do, in lines as in `shim.c`.
    pub(crate) fn inject(&self, faults: &str) {
        // In one step: it is read at any time.
        fs::write(self.path("next"), format!("{faults}\n")).unwrap();
        fs::rename(self.path("next"), self.path("faults")).unwrap();
    }

    pub(crate) fn heal(&self) {
        self.inject("");
    }

    /// The faults that have not happened yet.
    pub(crate) fn faults(&self) -> String {
        fs::read_to_string(self.path("faults")).unwrap()
    }

    /// The names of the functions that were called.
    pub(crate) fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.path("log")).unwrap().lines().map(str::to_owned).collect()
    }

    pub(crate) fn count(&self, function: &str) -> usize {
        self.calls().iter().filter(|call| *call == function).count()
    }

    /// The process id of the worker, if there is one.
    pub(crate) fn worker(&self) -> Option<i32> {
        let wanted = self.dir.path().as_os_str().as_encoded_bytes();
        fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let arguments = fs::read(entry.path().join("cmdline")).ok()?;
            arguments.split(|byte| *byte == 0).any(|argument| argument == wanted).then_some(pid)
        })
    }

    /// How many keys bear a label, as SoftHSM itself says.
    pub(crate) fn keys(&self, label: &str) -> usize {
        self.labels().iter().filter(|found| *found == label).count()
    }

    /// The labels of all keys, with that of a pair once.
    pub(crate) fn labels(&self) -> Vec<String> {
        ["secrkey", "privkey"]
            .iter()
            .flat_map(|class| {
                let output = self.tool(
                    "pkcs11-tool",
                    &[
                        "--module",
                        SOFTHSM,
                        "--login",
                        "--pin",
                        PIN,
                        "--list-objects",
                        "--type",
                        class,
                    ],
                );
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let label =
                    |line: &str| Some(line.trim().strip_prefix("label:")?.trim().to_owned());
                text.lines().filter_map(label).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Gives the user another password.
    pub(crate) fn change_pin(&self, from: &str, to: &str) {
        self.tool(
            "pkcs11-tool",
            &["--module", SOFTHSM, "--login", "--pin", from, "--change-pin", "--new-pin", to],
        );
    }

    fn tool(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).env("SOFTHSM2_CONF", self.path("softhsm2.conf"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
        output
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Waits until something is so. What is asked about is in the files and the state of other
/// processes, which tell nobody when they change: so it is looked at again and again.
pub(crate) async fn until(so: impl Fn() -> bool) {
    while !so() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The shim, compiled once.
fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shim/shim.c");
        let ours = dir.join(format!("shim-{}.so", std::process::id()));
        let mut cc = Command::new("cc");
        cc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]);
        let status = cc.args([&ours, &source]).arg("-ldl").status().unwrap();
        assert!(status.success(), "the shim does not compile");
        let shim = dir.join("shim.so");
        // Other processes of this test may do the same.
        fs::rename(ours, &shim).unwrap();
        shim
    })
}

pub(crate) const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub(crate) const HEADER: &str = "/usr/include/p11-kit-1/p11-kit/pkcs11.h";
pub(crate) const PIN: &str = "user:password";
const TOKEN: &str = "faults";
