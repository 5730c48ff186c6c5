//! What the sources of all programs must keep to, where no compiler sees to it.

use std::fs;
use std::path::{Path, PathBuf};

/// A timer of [`tokio::time`] would panic when it is reached: the runtime of the proxies has none.
#[test]
fn nobody_makes_a_timer_but_by_those_that_have_a_thread() {
    let mut seen = 0;
    for package in ["tunnel", "inproxy", "outproxy"] {
        for (file, source) in sources(package) {
            if file.ends_with("tests.rs") || file.ends_with("timers.rs") {
                continue;
            }
            for line in source.lines().filter(|line| line.contains("tokio::time")) {
                seen += 1;
                let names = line.strip_prefix("use tokio::time::").and_then(|names| {
                    let names = names.strip_suffix(';')?;
                    Some(names.trim_matches(['{', '}']).split(", "))
                });
                let is_harmless =
                    |name: &str| ["Instant", "MissedTickBehavior", "Sleep"].contains(&name);
                assert!(
                    names.is_some_and(|mut names| names.all(is_harmless)),
                    "{}: `{line}`: those of `tunnel::timers` take its place",
                    file.display()
                );
            }
        }
    }
    assert!(seen > 0);
}

/// The files of a package, without the tests in them.
pub(crate) fn sources(package: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(package).join("src");
    let without_tests = |file: PathBuf| {
        let mut source = fs::read_to_string(&file).unwrap();
        source.truncate(source.find("#[cfg(test)]\nmod tests").unwrap_or(source.len()));
        (file, source)
    };
    files(&root).into_iter().map(without_tests).collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let (directories, found): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    directories.iter().flat_map(|directory| files(directory)).chain(found).collect()
}
