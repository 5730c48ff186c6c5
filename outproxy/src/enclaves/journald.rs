//! The native protocol of systemd's journal: a datagram an entry, a line a field; see
//! <https://systemd.io/JOURNAL_NATIVE_PROTOCOL>.

use std::fmt::Write;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use tunnel::records::Level;

use super::lines::LoggedLine;

/// The journal of this machine. It is never waited for.
#[derive(Debug)]
pub struct Journald {
    path: PathBuf,
    /// Nothing while it restarts.
    socket: Option<UnixDatagram>,
}

impl Journald {
    /// The one that listens on this socket, if one does.
    #[must_use]
    pub fn connect(path: PathBuf) -> Option<Self> {
        let socket = connect(&path).ok()?;
        Some(Self { path, socket: Some(socket) })
    }

    /// Whether it took an entry.
    pub(super) fn send(&mut self, line: &LoggedLine) -> bool {
        let entry = entry(line);
        if self.try_send(&entry) {
            return true;
        }
        if self.socket.is_none() {
            self.socket = connect(&self.path).ok();
            return self.try_send(&entry);
        }
        false
    }

    fn try_send(&mut self, entry: &str) -> bool {
        let Some(socket) = &self.socket else { return false };
        match socket.send(entry.as_bytes()) {
            Ok(_) => true,
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    // It has another socket by now, or soon.
                    self.socket = None;
                }
                false
            }
        }
    }
}

fn connect(path: &PathBuf) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    Ok(socket)
}

/// None of the values has an end of line in it: texts are printable, the others are ours.
fn entry(line: &LoggedLine) -> String {
    let LoggedLine { time, cid, source, level, text, missing } = line;
    let priority = priority(*level);
    let mut entry = format!(
        "MESSAGE={text}\nPRIORITY={priority}\nSYSLOG_IDENTIFIER=enclave\nENCLAVE_CID={cid}\n\
         ENCLAVE_SOURCE={source}\nENCLAVE_TIME={time}\n"
    );
    if let Some(missing) = missing {
        // A string takes all.
        let _ = writeln!(entry, "ENCLAVE_LINES_MISSING={missing}");
    }
    entry
}

/// As in syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> LoggedLine {
        LoggedLine {
            time: "2026-07-31T12:00:00.000Z".into(),
            cid: "16".into(),
            source: "stdout".into(),
            level: Level::Warn,
            text: text.into(),
            missing: Some(7),
        }
    }

    #[test]
    fn an_entry_has_the_cid_as_a_field() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        assert!(Journald::connect(path.clone()).is_none());
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journald::connect(path).unwrap();
        assert!(journal.send(&line("a=b")));
        let mut entry = [0; 1000];
        let length = socket.recv(&mut entry).unwrap();
        assert_eq!(
            std::str::from_utf8(&entry[..length]).unwrap(),
            "MESSAGE=a=b\nPRIORITY=4\nSYSLOG_IDENTIFIER=enclave\nENCLAVE_CID=16\n\
             ENCLAVE_SOURCE=stdout\nENCLAVE_TIME=2026-07-31T12:00:00.000Z\n\
             ENCLAVE_LINES_MISSING=7\n"
        );
    }

    #[test]
    fn a_journal_that_takes_nothing_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journald::connect(path.clone()).unwrap();
        let taken = (0..100_000).take_while(|_| journal.send(&line("x"))).count();
        assert!(taken < 100_000 && !journal.send(&line("x")));
        // It is there again as soon as it reads, and also after a restart.
        socket.recv(&mut [0; 1000]).unwrap();
        assert!(journal.send(&line("x")));
        drop(socket);
        std::fs::remove_file(&path).unwrap();
        assert!(!journal.send(&line("x")) && !journal.send(&line("x")));
        let socket = UnixDatagram::bind(&path).unwrap();
        assert!(journal.send(&line("back")));
        let mut entry = [0; 1000];
        let length = socket.recv(&mut entry).unwrap();
        assert!(entry[..length].starts_with(b"MESSAGE=back\n"));
    }
}
