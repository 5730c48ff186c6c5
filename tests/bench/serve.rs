//! The server behind the relays.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use tests::peers;

use crate::poller::{Interest, Poller, read_ready, write_ready};
use crate::wire::{CHUNK, HEAD, Wish};

/// Serves until it is killed; says `ready` on standard output once it listens.
///
/// One connection at a time is served by blocking calls, since nothing is quicker; more of them by
/// epoll.
pub(crate) fn run(address: SocketAddr, is_single: bool) -> io::Result<()> {
    let listener = peers::listen(address);
    writeln!(io::stdout(), "ready")?;
    if is_single { serve_one_by_one(&listener) } else { serve_all(&listener) }
}

fn serve_one_by_one(listener: &TcpListener) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let (mut stream, _) = listener.accept()?;
        let mut talk = Talk::default();
        // A connection that fails is its client's to report.
        while let Ok(Next::Read | Next::Write) = talk.go_on(&mut stream, &mut buffer) {}
    }
}

fn serve_all(listener: &TcpListener) -> io::Result<()> {
    let mut poller = Poller::new()?;
    let mut connections: Vec<Option<(Socket, Talk)>> = Vec::new();
    let mut free = Vec::new();
    let mut buffer = vec![0; CHUNK];
    poller.add(listener, LISTENER, Interest::Read)?;
    loop {
        let ready: Vec<_> = poller.wait(LONG)?.collect();
        for number in ready {
            if number == LISTENER {
                let (stream, _) = listener.accept()?;
                let number = free.pop().unwrap_or(connections.len());
                if number == connections.len() {
                    connections.push(None);
                }
                poller.add(&stream, number, Interest::Read)?;
                connections[number] = Some((Socket(stream), Talk::default()));
                continue;
            }
            let Some((socket, talk)) = &mut connections[number] else { continue };
            let reads = !talk.sends();
            match talk.go_on(socket, &mut buffer) {
                Ok(Next::Write) if reads => poller.change(&socket.0, number, Interest::Write)?,
                Ok(Next::Read | Next::Write) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(Next::End) | Err(_) => {
                    connections[number] = None;
                    free.push(number);
                }
            }
        }
    }
}

/// A stream of which no call waits, though the socket itself is one that blocks: that saves the
/// system call that would change it.
#[derive(Debug)]
struct Socket(TcpStream);

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_ready(&self.0, buffer)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_ready(&self.0, bytes)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One connection.
#[derive(Debug, Default)]
enum Talk {
    Download {
        until: Instant,
    },
    Echo {
        size: usize,
        missing: usize,
    },
    #[default]
    New,
    Upload {
        received: u64,
    },
}

/// What a connection waits for.
#[derive(Debug)]
enum Next {
    End,
    Read,
    Write,
}

impl Talk {
    fn sends(&self) -> bool {
        matches!(self, Self::Download { .. })
    }

    /// Reads once or writes once, and answers what is complete.
    fn go_on(&mut self, stream: &mut (impl Read + Write), buffer: &mut [u8]) -> io::Result<Next> {
        if let Self::Download { until } = self {
            if Instant::now() >= *until {
                return Ok(Next::End);
            }
            return stream.write(buffer).map(|_| Next::Write);
        }
        let n = stream.read(buffer)?;
        if n == 0 {
            if let Self::Upload { received } = self {
                stream.write_all(&received.to_be_bytes())?;
            }
            return Ok(Next::End);
        }
        match self {
            Self::Download { .. } => return Ok(Next::Write),
            Self::Echo { size, missing } => *missing = missing.checked_sub(n).unwrap_or(*size),
            Self::New => match Wish::parse(&buffer[..n])? {
                Wish::Download(limit) => {
                    *self = Self::Download { until: Instant::now() + limit };
                    return Ok(Next::Write);
                }
                Wish::Echo(size) => *self = Self::Echo { size, missing: size.saturating_sub(n) },
                Wish::Upload => *self = Self::Upload { received: n.saturating_sub(HEAD) as u64 },
            },
            Self::Upload { received } => *received += n as u64,
        }
        if let Self::Echo { size, missing } = self
            && *missing == 0
        {
            *missing = *size;
            stream.write_all(&buffer[..*size])?;
        }
        Ok(Next::Read)
    }
}

const LISTENER: usize = usize::MAX;
/// Of waits that end with the process.
const LONG: Duration = Duration::from_secs(3600);
