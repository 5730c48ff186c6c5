//! Timers, on a runtime that has none.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::{self, Instant};
use tunnel::timers;

const MOMENT: Duration = Duration::from_millis(30);

#[test]
fn timers_end_on_a_runtime_that_has_none() {
    timers::start().unwrap();
    Builder::new_current_thread().build().unwrap().block_on(async {
        let begun = Instant::now();
        timers::sleep(MOMENT).await;
        timers::sleep_until(begun + 2 * MOMENT).await;
        timers::timeout(MOMENT, pending::<()>()).await.unwrap_err();
        timers::timeout_at(begun + 4 * MOMENT, pending::<()>()).await.unwrap_err();
        timers::until(begun + 5 * MOMENT).await;
        let mut ticks = timers::interval(MOMENT);
        ticks.tick().await;
        ticks.tick().await;
        timers::interval_at(Instant::now() + MOMENT, MOMENT).tick().await;
        assert!(begun.elapsed() >= 7 * MOMENT);
        // A library knows nothing of all this.
        timers::runtime().spawn(async { time::sleep(MOMENT).await }).await.unwrap();
    });
}

/// It would panic when it is reached.
#[test]
fn nobody_makes_a_timer_on_the_runtime_that_has_none() {
    let mut seen = 0;
    for package in ["tunnel", "inproxy", "outproxy"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(package).join("src");
        for file in sources(&root) {
            if file.ends_with("tests.rs") || file.ends_with("timers.rs") {
                continue;
            }
            let source = fs::read_to_string(&file).unwrap();
            let code = source.split("#[cfg(test)]\nmod tests").next().unwrap();
            for line in code.lines().filter(|line| line.contains("tokio::time")) {
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

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let (directories, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    directories.iter().flat_map(|directory| sources(directory)).chain(files).collect()
}
