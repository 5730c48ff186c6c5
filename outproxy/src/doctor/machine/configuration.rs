//! Whether the service may read its configuration, now and when it is reloaded.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tunnel::examination::Finding;
use tunnel::examination::processes::Serving;

pub(super) fn examine(path: &Path, serving: Option<&Serving>) -> Finding {
    let found = fs::canonicalize(path).and_then(|path| Ok((fs::metadata(&path)?, path)));
    let (metadata, path) = match found {
        Ok((metadata, path)) if metadata.is_file() => (metadata, path),
        _ => return Finding::skipped(SUBJECT, format!("`{}` is no file", path.display())),
    };
    let owner = serving.and_then(Serving::user);
    if owner.is_some_and(|user| user == 0 || user == metadata.uid()) {
        return Finding::ok(SUBJECT, format!("`{}` can be read by outproxy", path.display()));
    }
    match closed(&path, &metadata) {
        None => Finding::ok(SUBJECT, format!("`{}` can be read by everybody", path.display())),
        Some((closed, mode)) => Finding::warning(
            SUBJECT,
            "not-readable",
            format!(
                "`{}` cannot be read by everybody, for the mode of `{}`; the unit of outproxy runs \
                 as a user of its own",
                path.display(),
                closed.display()
            ),
            format!(
                "`chmod {mode} {}`, or `chmod o+rX` if others must not write",
                closed.display()
            ),
        ),
    }
}

/// What keeps strangers from reading the file, and the mode that would not.
fn closed(path: &Path, metadata: &Metadata) -> Option<(PathBuf, &'static str)> {
    let lacks = |metadata: &Metadata, bit| metadata.permissions().mode() & bit == 0;
    let is_closed =
        |directory: &Path| fs::metadata(directory).is_ok_and(|metadata| lacks(&metadata, 0o001));
    let directories: Vec<_> = path.ancestors().skip(1).collect();
    let closed = directories.into_iter().rev().find(|directory| is_closed(directory));
    closed
        .map(|directory| (directory.to_owned(), "0755"))
        .or_else(|| lacks(metadata, 0o004).then(|| (path.to_owned(), "0644")))
}

const SUBJECT: &str = "configuration";

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use tunnel::examination::Verdict;

    #[test]
    fn a_file_that_strangers_cannot_read_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("outproxy.toml");
        fs::write(&path, "").unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
        for (directory_mode, mode, advice) in [
            (0o755, 0o644, None),
            (0o755, 0o640, Some("chmod 0644")),
            (0o700, 0o644, Some("chmod 0755")),
        ] {
            set(directory.path(), directory_mode).unwrap();
            set(&path, mode).unwrap();
            let finding = examine(&path, None);
            assert_eq!(finding.problem.is_some(), advice.is_some(), "{finding:?}");
            assert!(finding.advice.unwrap_or_default().contains(advice.unwrap_or_default()));
            // Its owner can.
            let this = Serving { pid: std::process::id() };
            assert_eq!(examine(&path, Some(&this)).result, Verdict::Ok);
        }
        assert_eq!(examine(Path::new("/dev/null"), None).result, Verdict::Skipped);
    }
}
