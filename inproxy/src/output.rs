//! What the application writes to its standard output and error: copied to our own as it comes, and
//! line by line to the host.
//!
//! The application never waits for either. Each stream has a thread, which reads whatever comes: an
//! application that floods it takes time of another processor than the tunnels'.

mod lines;

use std::io::{self, PipeReader, PipeWriter, Read, pipe};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tunnel::lossy_writer::{LossyWriter, PATIENCE};
use tunnel::records::{Level, Source};

use self::lines::Lines;
use crate::outbox::{MOST_LINES, Outbox};

/// The threads that read what the application writes.
#[derive(Debug)]
pub struct Output {
    ended: Vec<oneshot::Receiver<()>>,
    /// They end with it.
    _running: PipeWriter,
}

/// Both streams of an application that is not started yet.
#[derive(Debug)]
pub struct Streams {
    stdout: PipeWriter,
    stderr: PipeWriter,
}

impl Streams {
    /// Has a command write to them.
    pub fn give_to(self, command: &mut Command) {
        command.stdout(self.stdout).stderr(self.stderr);
    }
}

impl Output {
    /// Reads from now on, and puts lines into `outbox`.
    ///
    /// # Errors
    ///
    /// There are no descriptors or threads for it.
    pub fn capture(outbox: &Arc<Outbox>) -> io::Result<(Self, Streams)> {
        let (running, _running) = pipe()?;
        let running = Arc::new(running);
        let mut ended = Vec::new();
        let mut start = |source, own: io::Result<OwnedFd>| {
            let (from, writer) = pipe()?;
            let (end, is_ended) = oneshot::channel::<()>();
            let copier = Copier {
                from,
                running: Arc::clone(&running),
                to: Console::new(own?),
                lines: Lines::default(),
                ended: Vec::new(),
                source,
                outbox: Arc::clone(outbox),
            };
            thread::Builder::new().name(Source::word(source).into()).stack_size(STACK).spawn(
                move || {
                    copier.run();
                    drop(end);
                },
            )?;
            ended.push(is_ended);
            io::Result::Ok(writer)
        };
        let stdout = start(Source::Stdout, io::stdout().as_fd().try_clone_to_owned())?;
        let stderr = start(Source::Stderr, io::stderr().as_fd().try_clone_to_owned())?;
        Ok((Self { ended, _running }, Streams { stdout, stderr }))
    }

    /// Takes what was written so far; the application has ended. Who else writes to the same pipes
    /// is not waited for.
    pub async fn finish(self) {
        let Self { ended, _running } = self;
        drop(_running);
        let all = async {
            for end in ended {
                let _ = end.await;
            }
        };
        let _ = timeout(LAST_WORDS, all).await;
    }
}

/// Copies one stream.
struct Copier {
    from: PipeReader,
    running: Arc<PipeReader>,
    to: Console,
    lines: Lines,
    /// Empty but while it is used.
    ended: Vec<String>,
    source: Source,
    outbox: Arc<Outbox>,
}

/// What a stream waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Event {
    Data,
    End,
    Quiet,
}

impl Copier {
    fn run(mut self) {
        let mut chunk = vec![0; CHUNK];
        loop {
            match self.next() {
                Event::Data => match self.from.read(&mut chunk) {
                    Ok(0) => break,
                    Ok(count) => {
                        self.to.write(&chunk[..count]);
                        self.tell(&chunk[..count]);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                },
                Event::Quiet => self.flush(),
                Event::End => break,
            }
        }
        self.flush();
    }

    /// Waits for what comes next: data first, as long as there is some.
    fn next(&self) -> Event {
        // A line that is not finished tells perhaps what the application waits for.
        let patience = if self.lines.is_empty() {
            PollTimeout::NONE
        } else {
            PollTimeout::try_from(UNFINISHED).unwrap_or(PollTimeout::NONE)
        };
        let watch = |pipe| PollFd::new(pipe, PollFlags::POLLIN);
        let mut pipes = [watch(self.from.as_fd()), watch(self.running.as_fd())];
        loop {
            match poll(&mut pipes, patience) {
                Ok(0) => return Event::Quiet,
                Ok(_) if pipes[0].any().unwrap_or_default() => return Event::Data,
                Ok(_) | Err(Errno::EBADF | Errno::EFAULT | Errno::EINVAL) => return Event::End,
                Err(_) => {}
            }
        }
    }

    fn tell(&mut self, chunk: &[u8]) {
        // Of a flood most lines would be dropped as soon as they were made.
        let skipped = self.lines.feed(chunk, MOST_LINES, &mut self.ended);
        if !self.ended.is_empty() {
            self.outbox.push_all(self.source, Level::Info, skipped, self.ended.drain(..));
        }
    }

    fn flush(&mut self) {
        if let Some(line) = self.lines.flush() {
            self.outbox.push(self.source, Level::Info, line);
        }
    }
}

/// Our own standard output or error, which perhaps nobody reads.
struct Console {
    to: LossyWriter<OwnedFd>,
    /// When it last took too long. A reader that is always late would make the application wait
    /// again and again.
    late: Option<Instant>,
    /// Whether what comes next is the rest of a line that is missing.
    within_missing: bool,
}

impl Console {
    const fn new(to: OwnedFd) -> Self {
        Self { to: LossyWriter::new(to), late: None, within_missing: false }
    }

    fn write(&mut self, chunk: &[u8]) {
        let lines = || chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
        if self.to.missing() == 0 {
            let is_late = self.late.is_some_and(|late| late.elapsed() < GRUDGE);
            if !self.to.put(chunk, if is_late { Duration::ZERO } else { PATIENCE }) {
                self.late = Some(Instant::now());
                self.to.miss(lines().max(1));
                self.within_missing = !chunk.ends_with(b"\n");
            }
            return;
        }
        // What is told of lines stands between lines.
        let start = if self.within_missing {
            chunk.iter().position(|byte| *byte == b'\n').map_or(chunk.len(), |end| end + 1)
        } else {
            0
        };
        let notice = format!("inproxy: {MISSING} lines={}\n", self.to.missing());
        if start < chunk.len() && self.to.put(notice.as_bytes(), Duration::ZERO) {
            self.to.found();
            self.within_missing = false;
            self.write(&chunk[start..]);
        } else {
            self.to.miss(lines());
            self.within_missing = !chunk.ends_with(b"\n");
        }
    }
}

const MISSING: &str = "lines of the application are missing here, since nobody took them";
/// For how long a reader that was late is not waited for.
const GRUDGE: Duration = Duration::from_secs(60);
/// How much is read at once, in bytes: all that a pipe holds.
const CHUNK: usize = 64 << 10;
const STACK: usize = 256 << 10;
/// How long the rest of a line may take before its beginning is told alone.
const UNFINISHED: Duration = Duration::from_secs(1);
/// How long it may take to read what the application has written last, if others go on to write.
const LAST_WORDS: Duration = Duration::from_secs(1);
