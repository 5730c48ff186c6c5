//! The lines of inproxy in /etc/hosts; see hosts(5).

use std::fs::{self, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use thiserror::Error;
use tunnel::host::DnsName;

/// Makes the file map each name to its address, and keeps the lines of others byte for byte.
///
/// Readers find the old file or the new one, never a part of it, except where the file cannot be
/// replaced: a bind mount, as Docker's is, or a directory that cannot be written. There it is
/// rewritten in place. A file that is as it should be is not touched.
///
/// # Errors
///
/// The file cannot be read or written. Its old lines are still there.
pub fn install(path: &Path, entries: &[(IpAddr, DnsName)]) -> Result<(), HostsError> {
    // A link stays a link: what it leads to is what changes.
    let path = follow_links(path);
    let old = Old::read(&path).map_err(|source| HostsError::Read { path: path.clone(), source })?;
    let content = old.as_ref().map_or(DEFAULT, |old| &old.content);
    for (address, name) in rivals(content, entries) {
        tracing::warn!(path = %path.display(), %name, address, "another line maps this name, too");
    }
    let new = edit(content, entries);
    if new == content {
        return Ok(());
    }
    write(&path, old.as_ref(), &new).map_err(|source| match source.kind() {
        ErrorKind::ReadOnlyFilesystem => HostsError::ReadOnly { path, source },
        _ => HostsError::Write { path, source },
    })
}

/// What the file lacks: entries that no line of it has, and what else it says about their names.
///
/// # Errors
///
/// The file cannot be read.
pub fn inspect(path: &Path, entries: &[(IpAddr, DnsName)]) -> Result<Inspection, HostsError> {
    let path = follow_links(path);
    let old = Old::read(&path).map_err(|source| HostsError::Read { path, source })?;
    let content = old.map_or_else(Vec::new, |old| old.content);
    let text = String::from_utf8_lossy(&content);
    let has = |ip: IpAddr, name: &DnsName| {
        text.lines().filter_map(words).any(|(address, mut words)| {
            address.parse() == Ok(ip) && words.any(|word| is_name(word, name))
        })
    };
    let missing = entries.iter().filter(|(ip, name)| !has(*ip, name));
    let rivals = rivals(&content, entries);
    Ok(Inspection {
        missing: missing.cloned().collect(),
        rivals: rivals.into_iter().map(|(address, name)| (address, name.clone())).collect(),
    })
}

/// How a hosts file is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Inspection {
    /// What no line of it has.
    pub missing: Vec<(IpAddr, DnsName)>,
    /// Other addresses that it gives the names, as they are written there.
    pub rivals: Vec<(String, DnsName)>,
}

/// The file with our lines as they should be, and those of others as they are.
///
/// Each of our lines carries a mark, so that no line of others is taken for ours, whatever somebody
/// has cut, moved or left half-written; a block with a beginning and an end could lose its end.
#[must_use]
pub fn edit(old: &[u8], entries: &[(IpAddr, DnsName)]) -> Vec<u8> {
    // First in the file, since a resolver may stop at the first line with the name.
    let mut new: Vec<u8> =
        entries.iter().flat_map(|(ip, name)| format!("{ip} {name}{MARK}\n").into_bytes()).collect();
    new.extend(others(old).flatten());
    new
}

/// The lines of others, each with its end.
fn others(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split_inclusive(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii_end().ends_with(MARK.as_bytes()))
}

/// What the lines of others say about our names: addresses that are not ours.
///
/// getaddrinfo(3) of glibc and of musl returns those beside ours.
fn rivals<'a>(file: &[u8], entries: &'a [(IpAddr, DnsName)]) -> Vec<(String, &'a DnsName)> {
    let mut rivals = Vec::new();
    for line in others(file) {
        let line = String::from_utf8_lossy(line);
        let Some((address, words)) = words(&line) else {
            continue;
        };
        for word in words {
            rivals.extend(
                entries
                    .iter()
                    .filter(|(ip, name)| is_name(word, name) && address.parse() != Ok(*ip))
                    .map(|(_, name)| (address.to_owned(), name)),
            );
        }
    }
    rivals
}

/// The address of a line, and its names.
fn words(line: &str) -> Option<(&str, impl Iterator<Item = &str>)> {
    let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
    Some((words.next()?, words))
}

fn is_name(word: &str, name: &DnsName) -> bool {
    name.as_str().eq_ignore_ascii_case(word.strip_suffix('.').unwrap_or(word))
}

/// The file at the end of the links, which need not exist.
fn follow_links(path: &Path) -> PathBuf {
    let mut path = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(target) => {
                path.pop();
                path.push(target);
            }
            Err(_) => break,
        }
    }
    path
}

/// The file as it was.
struct Old {
    content: Vec<u8>,
    metadata: Metadata,
}

impl Old {
    fn read(path: &Path) -> io::Result<Option<Self>> {
        let metadata = match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            metadata => metadata?,
        };
        if !metadata.is_file() {
            // A link to /dev/null must not end with /dev/null replaced.
            return Err(io::Error::other("not a regular file"));
        }
        let content = fs::read(path)?;
        Ok(Some(Self { content, metadata }))
    }
}

fn write(path: &Path, old: Option<&Old>, new: &[u8]) -> io::Result<()> {
    match (replace(path, old, new), old) {
        (Err(error), Some(old)) if is_about_the_directory(&error) => {
            tracing::debug!(path = %path.display(), %error, "rewriting in place");
            overwrite(path, old, new)
        }
        (result, _) => result,
    }
}

/// Whether the file itself may be writable all the same.
///
/// A full disk is not among these: in place, that costs lines.
fn is_about_the_directory(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        // rename(2) onto a mount point.
        ErrorKind::CrossesDevices | ErrorKind::ResourceBusy
        // No new file beside the old one.
        | ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
        // fchown(2): the owner has no number in this user namespace.
        | ErrorKind::InvalidInput
    )
}

fn replace(path: &Path, old: Option<&Old>, new: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(path);
    if old.is_none() {
        fs::create_dir_all(directory)?;
    }
    let mut temporary = tempfile::Builder::new().prefix(".hosts-").tempfile_in(directory)?;
    let mode = match old.map(|old| &old.metadata) {
        Some(metadata) => {
            fchown(temporary.as_file(), Some(metadata.uid()), Some(metadata.gid()))?;
            metadata.permissions()
        }
        None => Permissions::from_mode(0o644),
    };
    temporary.as_file().set_permissions(mode)?;
    temporary.write_all(new)?;
    // A crash after the rename must not leave an empty file.
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    Ok(())
}

fn overwrite(path: &Path, old: &Old, new: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let write = |content: &[u8]| {
        file.write_all_at(content, 0)?;
        file.set_len(content.len() as u64)?;
        file.sync_all()
    };
    // The old lines still have their room, even if the disk is full: nothing was cut off before.
    write(new).inspect_err(|_| drop(write(&old.content)))
}

/// Why names are not in /etc/hosts.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HostsError {
    /// It is there, but cannot be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nothing can be written where it is.
    #[error("failed to write `{}`; mount a writable file there", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It cannot be written for another reason.
    #[error("failed to write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Where resolvers look.
pub const PATH: &str = "/etc/hosts";

/// The end of each of our lines.
const MARK: &str = " # added by inproxy";

/// What a file that does not exist would say.
const DEFAULT: &[u8] = b"127.0.0.1 localhost\n";

/// As many as the kernel follows; see path_resolution(7).
const MAX_LINKS: usize = 40;

#[cfg(test)]
mod tests;
