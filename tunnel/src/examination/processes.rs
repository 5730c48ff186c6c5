//! The proxies that run on this machine, as /proc tells of them; see proc(5).

use std::fs;
use std::path::{Path, PathBuf};

/// A proxy that serves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Serving {
    /// Its process.
    pub pid: u32,
}

impl Serving {
    /// Finds the process that runs the program `name` to serve with the configuration at `config`.
    ///
    /// There is none where processes of others are hidden from this one.
    #[must_use]
    pub fn find(name: &str, config: &Path, default_config: &Path) -> Option<Self> {
        let processes = fs::read_dir(PROC).ok()?.filter_map(Result::ok);
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let wanted = absolute(config, Path::new("."));
        pids.map(|pid| Self { pid }).find(|process| {
            let theirs = process.config(name, default_config);
            theirs.is_some_and(|theirs| theirs == wanted)
        })
    }

    /// How many descriptors it may have, if it asks.
    #[must_use]
    pub fn descriptors(&self) -> Option<u64> {
        let limits = fs::read_to_string(self.path("limits")).ok()?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        match line.split_whitespace().nth(1)? {
            "unlimited" => Some(u64::MAX),
            hard => hard.parse().ok(),
        }
    }

    /// Its effective capabilities; see capabilities(7).
    #[must_use]
    pub fn capabilities(&self) -> Option<u64> {
        capabilities(&self.path("status"))
    }

    /// Who it runs as.
    #[must_use]
    pub fn user(&self) -> Option<u32> {
        // Not the owner of the files, which is root where a process must not be looked into.
        let uids = field_of(&self.path("status"), "Uid:")?;
        // Real, effective, saved, and that of the file system.
        uids.split_whitespace().nth(1)?.parse().ok()
    }

    /// What it is configured by, if it is a `name` that serves.
    fn config(&self, name: &str, default: &Path) -> Option<PathBuf> {
        let command_line = fs::read(self.path("cmdline")).ok()?;
        let words: Vec<_> = command_line
            .strip_suffix(b"\0")?
            .split(|byte| *byte == 0)
            .map(String::from_utf8_lossy)
            .collect();
        let [program, arguments @ ..] = &words[..] else { return None };
        if Path::new(&**program).file_name()? != name {
            return None;
        }
        let config = config_of(arguments)?.map_or_else(|| default.into(), PathBuf::from);
        let directory = fs::read_link(self.path("cwd")).unwrap_or_else(|_| "/".into());
        Some(absolute(&config, &directory))
    }

    fn path(&self, file: &str) -> PathBuf {
        Path::new(PROC).join(self.pid.to_string()).join(file)
    }
}

/// The effective capabilities of this process.
#[must_use]
pub fn own_capabilities() -> Option<u64> {
    capabilities(&Path::new(PROC).join("self/status"))
}

fn capabilities(status: &Path) -> Option<u64> {
    u64::from_str_radix(&field_of(status, "CapEff:")?, 16).ok()
}

fn field_of(status: &Path, name: &str) -> Option<String> {
    let status = fs::read_to_string(status).ok()?;
    let field = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(field.trim().to_owned())
}

/// The value of `--config`, `Some(None)` without it. `None` if the command does not serve.
fn config_of<S: AsRef<str>>(arguments: &[S]) -> Option<Option<&str>> {
    let mut config = None;
    let mut words = arguments.iter().map(AsRef::as_ref);
    while let Some(word) = words.next() {
        match word {
            "--" => break,
            "--config" => config = Some(words.next()?),
            _ => config = Some(word.strip_prefix("--config=")?),
        }
    }
    Some(config)
}

/// The path without links, as far as it exists.
fn absolute(path: &Path, directory: &Path) -> PathBuf {
    let path = directory.join(path);
    path.canonicalize().unwrap_or(path)
}

const PROC: &str = "/proc";

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn who_serves_is_told_from_who_only_asks() {
        for (words, expected) in [
            ("", Some(None)),
            ("--config a.toml", Some(Some("a.toml"))),
            ("--config=a.toml", Some(Some("a.toml"))),
            ("--config a.toml -- sh -c doctor", Some(Some("a.toml"))),
            ("--config a.toml doctor", None),
            ("doctor --json", None),
            ("--check", None),
            ("--config", None),
        ] {
            let arguments: Vec<_> = words.split_whitespace().collect();
            assert_eq!(config_of(&arguments), expected, "{words}");
        }
    }

    #[test]
    fn this_process_has_limits_and_capabilities() {
        let this = Serving { pid: std::process::id() };
        assert_eq!(this.descriptors(), super::super::machine::own_descriptors().ok());
        let own_file = tempfile::tempfile().unwrap();
        assert_eq!(this.user(), Some(own_file.metadata().unwrap().uid()));
        assert!(this.capabilities().is_some());
        assert_eq!(this.capabilities(), own_capabilities());
    }
}
