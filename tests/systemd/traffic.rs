//! Clients and an upstream for tests that other programs drive. Every byte is checked, and how
//! every stream ends, and nobody who was not served goes uncounted.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use fastrand::Rng;
use nix::sys::signal::SigSet;
use tests::patience::patience;
use tests::peers::bounded;
use tests::visits::{Failure, Upstream, Visit};
use tests::vsock;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tunnel::destination::Destination;
use tunnel::head::{parse_answer, request};

/// Exits with 1 if somebody was not served.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve visits, until it is killed.
    Serve { addresses: Vec<SocketAddr> },
    /// Stay on one connection and exchange a byte ten times a second, until SIGTERM; then finish.
    Stay { to: SocketAddr },
    /// Make visits, each on a connection of its own, until SIGTERM.
    Visit {
        to: SocketAddr,
        /// Without inproxy, which would try again: by a CONNECT request to this vsock port.
        #[arg(long)]
        port: Option<u32>,
        /// So many in a second, whether or not those before have ended.
        #[arg(long, default_value_t = 100)]
        rate: u64,
        /// No more than so many.
        #[arg(long, default_value_t = u64::MAX)]
        count: u64,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<ExitCode> {
    match Cli::parse().command {
        Command::Serve { addresses } => serve(&addresses).await,
        Command::Stay { to } => stay(to).await,
        Command::Visit { to, port, rate, count } => visit(Way { to, port }, rate, count).await,
    }
}

async fn serve(addresses: &[SocketAddr]) -> io::Result<ExitCode> {
    let upstreams: Vec<_> =
        addresses.iter().map(|address| Upstream::start(*address, THREADS)).collect();
    say("serving")?;
    signal(SignalKind::terminate())?.recv().await;
    let broken: Vec<_> = upstreams.iter().flat_map(Upstream::broken).collect();
    say(&format!("broken={} {}", broken.len(), broken.join("; ")))?;
    Ok(ExitCode::from(u8::from(!broken.is_empty())))
}

async fn stay(to: SocketAddr) -> io::Result<ExitCode> {
    let over = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&over);
    let staying = tokio::task::spawn_blocking(move || {
        _ = SigSet::all().thread_block();
        let stream = TcpStream::connect_timeout(&to, patience()).map_err(Failure::of_connect)?;
        let visit = Visit { seed: 0, size: LONGEST_STAY, ends_early: false };
        visit.stay_on(&mut bounded(stream), pause, || is_over.load(Ordering::Relaxed))
    });
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::pin!(staying);
    let result = tokio::select! {
        result = &mut staying => result?,
        _ = terminate.recv() => {
            over.store(true, Ordering::Relaxed);
            staying.await?
        }
    };
    say(&format!("stayed {result:?}"))?;
    Ok(ExitCode::from(u8::from(result.is_err())))
}

#[expect(clippy::disallowed_methods, reason = "it is what it does")]
fn pause() {
    thread::sleep(PAUSE);
}

/// How visitors get there.
#[derive(Clone, Copy, Debug)]
struct Way {
    to: SocketAddr,
    port: Option<u32>,
}

async fn visit(way: Way, rate: u64, count: u64) -> io::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(rate).unwrap_or(u32::MAX));
    // Late ones are made up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut rng = Rng::new();
    let (sender, results) = mpsc::channel();
    let start = Instant::now();
    let mut begun = 0;
    while begun < count {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = ticks.tick() => {}
        }
        begun += 1;
        let size = rng.u32(1..HSM_MESSAGE);
        let visit = Visit { seed: rng.u32(..), size, ends_early: begun % 2 == 0 };
        let sender = sender.clone();
        thread::Builder::new().stack_size(STACK).spawn(move || {
            // SIGTERM is for the others, and must not interrupt a visit.
            _ = SigSet::all().thread_block();
            let start = Instant::now();
            // Whoever counts has gone only if the whole process has.
            _ = sender.send((way.make(visit), start.elapsed()));
        })?;
    }
    let seconds = start.elapsed().as_secs_f64();
    drop(sender);
    let mut ledger = Ledger::default();
    results.iter().for_each(|(result, taken)| ledger.enter(&result, taken));
    let Ledger { served, refused, aborted, broken, slowest, first } = ledger;
    say(&format!(
        "begun={begun} served={served} refused={refused} aborted={aborted} broken={broken} \
         slowest_ms={} seconds={seconds:.1} {first}",
        slowest.as_millis()
    ))?;
    Ok(ExitCode::from(u8::from(served != begun)))
}

#[derive(Debug, Default)]
struct Ledger {
    served: u64,
    refused: u64,
    aborted: u64,
    broken: u64,
    slowest: Duration,
    /// What the first who was not served has seen.
    first: String,
}

impl Ledger {
    fn enter(&mut self, result: &Result<(), Failure>, taken: Duration) {
        if self.first.is_empty()
            && let Err(failure) = result
        {
            self.first = format!("{failure:?}");
        }
        match result {
            Ok(()) => {
                self.served += 1;
                self.slowest = self.slowest.max(taken);
            }
            Err(Failure::Aborted(_)) => self.aborted += 1,
            Err(Failure::Broken(_)) => self.broken += 1,
            Err(Failure::Refused(_)) => self.refused += 1,
        }
    }
}

impl Way {
    fn make(self, visit: Visit) -> Result<(), Failure> {
        match self.port {
            None => visit.make(self.to),
            Some(port) => {
                let socket = vsock::connect(vsock::OWN, port).map_err(refused)?;
                let mut stream = socket.into();
                self.ask(&mut stream)?;
                visit.make_on(&mut stream)
            }
        }
    }

    /// Has outproxy make the tunnel.
    fn ask(self, stream: &mut TcpStream) -> Result<(), Failure> {
        let to: Destination =
            self.to.to_string().parse().map_err(|error| Failure::Broken(format!("{error}")))?;
        stream.write_all(request(&to, None).as_bytes()).map_err(Failure::of_stream)?;
        // Nothing follows the answer, since the upstream has not been asked anything yet.
        let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
        loop {
            match stream.read(&mut chunk).map_err(Failure::of_stream)? {
                0 => return Err(Failure::Aborted(ErrorKind::UnexpectedEof)),
                count => head.extend_from_slice(&chunk[..count]),
            }
            match parse_answer(&head).map_err(|error| Failure::Broken(error.to_string()))? {
                None => {}
                Some((answer, _)) if answer.is_grant() => return Ok(()),
                Some((answer, _)) => return Err(Failure::Broken(format!("answered by {answer}"))),
            }
        }
    }
}

/// vsock has no other way to say that nobody listens, or that the backlog is full.
#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn refused(error: io::Error) -> Failure {
    Failure::Refused(error.kind())
}

fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

/// Connections of an upstream at once.
const THREADS: usize = 512;
/// How many bytes are sent, and come back, at the most.
const HSM_MESSAGE: u32 = 1500;
/// Of a visitor, of whom there may be thousands.
const STACK: usize = 256 << 10;
const PAUSE: Duration = Duration::from_millis(100);
/// In bytes: an hour.
const LONGEST_STAY: u32 = 36_000;
