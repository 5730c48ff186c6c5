//! What the fuzzers keep, once more: `make fuzz` looks for more of it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tests::fuzz;

/// A test for each target, of its name, and a list of the names.
macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        const TARGETS: &[&str] = &["enclave_app_config", $(stringify!($name)),*];

        $(
            #[test]
            fn $name() {
                replay(stringify!($name), fuzz::$name);
            }
        )*
    };
}

targets![
    allowlist,
    dns,
    endpoint,
    frame,
    head,
    hosts_file,
    inproxy_config,
    inproxy_import,
    outproxy_config,
    outproxy_import,
    records,
    relay,
    request,
    seed,
];

#[cfg(target_env = "gnu")]
#[test]
fn enclave_app_config() {
    replay("enclave_app_config", fuzz::enclave_app_config);
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let known = TARGETS.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let names = |directory: &str| {
        let files = files(&fuzz_directory().join(directory));
        let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        files.into_iter().map(stem).collect::<BTreeSet<_>>()
    };
    assert_eq!(names("fuzz_targets"), known);
    assert_eq!(names("corpus"), known);
}

fn replay(name: &str, target: fn(&[u8])) {
    let files = files(&fuzz_directory().join("corpus").join(name));
    assert!(files.len() >= FEWEST, "{name} has only {} files", files.len());
    for file in files {
        let data = fs::read(&file).unwrap();
        // The last one named is the one that fails.
        say(&file);
        target(&data);
    }
}

#[expect(clippy::print_stderr, reason = "whoever sees the test fail is to know the file")]
fn say(file: &Path) {
    eprintln!("{}", file.display());
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn fuzz_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// Fewer are no corpus.
const FEWEST: usize = 10;
