//! The clients: each load runs in a process of its own, and prints what it measured as one line of
//! JSON.

use std::io::{self, BufRead, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tests::peers::raise_descriptor_limit;

use crate::poller::{Interest, Poller, read_ready, write_ready};
use crate::wire::{CHUNK, Wish};

/// What a load does.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Kind {
    /// Connects, exchanges a message and closes, again and again.
    Connect,
    /// Receives.
    Download,
    /// Opens connections and leaves them alone; each is done when it is sent a line.
    Idle,
    /// Sends a message and waits for it to come back, again and again.
    RoundTrip,
    /// Sends.
    Upload,
}

/// What to do, how often, and for how long.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Load {
    #[arg(value_enum)]
    pub(crate) kind: Kind,
    /// Where to connect to.
    pub(crate) to: SocketAddr,
    /// How many connections at once.
    #[arg(long)]
    pub(crate) connections: usize,
    /// Bytes of a message.
    #[arg(long, default_value_t = 256)]
    pub(crate) size: usize,
    /// How long at most, in milliseconds.
    #[arg(long)]
    pub(crate) millis: u64,
    /// How many connections to make at most, one after another.
    #[arg(long, default_value_t = 20_000)]
    pub(crate) count: usize,
}

/// Does it, and prints what it measured.
pub(crate) fn run(load: &Load) -> io::Result<()> {
    let measured = match (load.kind, load.connections) {
        (Kind::Connect, 1) => connect_one_by_one(load),
        (Kind::Connect, _) => connect_many(load),
        (Kind::Download, 1) => download_one(load),
        (Kind::Download, _) => download_many(load),
        (Kind::Idle, _) => return idle(load),
        (Kind::RoundTrip, 1) => round_trips_of_one(load),
        (Kind::RoundTrip, _) => round_trips_of_many(load),
        (Kind::Upload, 1) => upload_one(load),
        (Kind::Upload, _) => upload_many(load),
    }?;
    writeln!(io::stdout(), "{measured}")
}

fn connect_one_by_one(load: &Load) -> io::Result<Value> {
    let message = load.message();
    let mut reply = vec![0; load.size];
    let started = Instant::now();
    let mut count = 0;
    while count < load.count && started.elapsed() < load.limit() {
        let mut stream = TcpStream::connect(load.to)?;
        stream.write_all(&message)?;
        stream.read_exact(&mut reply)?;
        count += 1;
    }
    Ok(rate(count, started))
}

fn connect_many(load: &Load) -> io::Result<Value> {
    let message = load.message();
    let mut reply = vec![0; load.size];
    let mut poller = Poller::new()?;
    // On loopback a connect that blocks does not wait: the other end answers within the call.
    let open = |poller: &Poller, number| {
        let mut stream = TcpStream::connect(load.to)?;
        stream.write_all(&message)?;
        poller.add(&stream, number, Interest::Read)?;
        io::Result::Ok(Some((stream, load.size)))
    };
    let started = Instant::now();
    let mut streams = Vec::new();
    for number in 0..load.connections {
        streams.push(open(&poller, number)?);
    }
    let (mut begun, mut count) = (load.connections, 0);
    while count < begun {
        let ready: Vec<_> = poller.wait(PATIENCE)?.collect();
        in_time(&ready)?;
        for number in ready {
            let Some((stream, missing)) = &mut streams[number] else { continue };
            *missing -= expect_more(read_ready(stream, &mut reply[..*missing])?)?;
            if *missing > 0 {
                continue;
            }
            count += 1;
            streams[number] = None;
            if begun < load.count && started.elapsed() < load.limit() {
                begun += 1;
                streams[number] = open(&poller, number)?;
            }
        }
    }
    Ok(rate(count, started))
}

fn round_trips_of_one(load: &Load) -> io::Result<Value> {
    let message = load.message();
    let mut reply = vec![0; load.size];
    let mut stream = TcpStream::connect(load.to)?;
    for _ in 0..UNTIMED {
        stream.write_all(&message)?;
        stream.read_exact(&mut reply)?;
    }
    let mut durations = Vec::with_capacity(MANY);
    let started = Instant::now();
    let mut last = started;
    while last - started < load.limit() {
        stream.write_all(&message)?;
        stream.read_exact(&mut reply)?;
        let now = Instant::now();
        durations.push(now - last);
        last = now;
    }
    Ok(round_trips(durations, last - started))
}

fn round_trips_of_many(load: &Load) -> io::Result<Value> {
    let message = load.message();
    let mut reply = vec![0; load.size];
    let mut poller = Poller::new()?;
    let streams = open_all(load)?;
    let mut waiting = Vec::new();
    let started = Instant::now();
    for (number, stream) in streams.iter().enumerate() {
        poller.add(stream, number, Interest::Read)?;
        { stream }.write_all(&message)?;
        waiting.push((Instant::now(), load.size));
    }
    let mut durations = Vec::with_capacity(MANY);
    let mut now = started;
    while now - started < load.limit() {
        let ready: Vec<_> = poller.wait(PATIENCE)?.collect();
        in_time(&ready)?;
        for number in ready {
            let (stream, (since, missing)) = (&streams[number], &mut waiting[number]);
            *missing -= expect_more(read_ready(stream, &mut reply[..*missing])?)?;
            if *missing == 0 {
                now = Instant::now();
                durations.push(now - *since);
                { stream }.write_all(&message)?;
                (*since, *missing) = (now, load.size);
            }
        }
    }
    Ok(round_trips(durations, now - started))
}

fn upload_one(load: &Load) -> io::Result<Value> {
    let chunk = vec![0; CHUNK];
    let mut stream = TcpStream::connect(load.to)?;
    stream.write_all(&Wish::Upload.head())?;
    let started = Instant::now();
    let mut sent = 0;
    while started.elapsed() < load.limit() {
        sent += stream.write(&chunk)?;
    }
    stream.shutdown(Shutdown::Write)?;
    confirm(&stream, sent)?;
    Ok(bulk(sent, started))
}

fn upload_many(load: &Load) -> io::Result<Value> {
    let chunk = vec![0; CHUNK];
    let mut poller = Poller::new()?;
    let streams = open_all(load)?;
    for (number, mut stream) in streams.iter().enumerate() {
        stream.write_all(&Wish::Upload.head())?;
        poller.add(stream, number, Interest::Write)?;
    }
    let started = Instant::now();
    let mut sent = vec![0; streams.len()];
    while let Some(left) = load.limit().checked_sub(started.elapsed()) {
        for number in poller.wait(left)? {
            sent[number] += write_ready(&streams[number], &chunk)?.unwrap_or_default();
        }
    }
    for stream in &streams {
        stream.shutdown(Shutdown::Write)?;
    }
    for (stream, sent) in streams.iter().zip(&sent) {
        confirm(stream, *sent)?;
    }
    Ok(bulk(sent.iter().sum(), started))
}

fn download_one(load: &Load) -> io::Result<Value> {
    let mut chunk = vec![0; CHUNK];
    let mut stream = TcpStream::connect(load.to)?;
    let started = Instant::now();
    stream.write_all(&Wish::Download(load.limit()).head())?;
    let mut received = 0;
    loop {
        match stream.read(&mut chunk)? {
            0 => return Ok(bulk(received, started)),
            n => received += n,
        }
    }
}

fn download_many(load: &Load) -> io::Result<Value> {
    let mut chunk = vec![0; CHUNK];
    let mut poller = Poller::new()?;
    let mut streams: Vec<_> = open_all(load)?.into_iter().map(Some).collect();
    let started = Instant::now();
    for (number, stream) in streams.iter().flatten().enumerate() {
        { stream }.write_all(&Wish::Download(load.limit()).head())?;
        poller.add(stream, number, Interest::Read)?;
    }
    let (mut received, mut open) = (0, streams.len());
    while open > 0 {
        let ready: Vec<_> = poller.wait(PATIENCE)?.collect();
        in_time(&ready)?;
        for number in ready {
            let Some(stream) = &streams[number] else { continue };
            match read_ready(stream, &mut chunk)? {
                Some(0) => {
                    streams[number] = None;
                    open -= 1;
                }
                n => received += n.unwrap_or_default(),
            }
        }
    }
    Ok(bulk(received, started))
}

/// Opens connections when it is sent a line, says `{"open": n}`, and closes them when it is sent
/// another.
fn idle(load: &Load) -> io::Result<()> {
    raise_descriptor_limit();
    io::stdin().lock().read_line(&mut String::new())?;
    let message = load.message();
    let mut reply = vec![0; load.size];
    let mut streams = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        let mut stream = TcpStream::connect(load.to)?;
        stream.write_all(&message)?;
        // All the way to the server: a tunnel that is still being opened would not count.
        stream.read_exact(&mut reply)?;
        streams.push(stream);
    }
    writeln!(io::stdout(), "{}", json!({ "open": streams.len() }))?;
    io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

impl Load {
    fn limit(&self) -> Duration {
        Duration::from_millis(self.millis)
    }

    fn message(&self) -> Vec<u8> {
        let head = Wish::Echo(self.size).head();
        let mut message = vec![0; self.size.max(head.len())];
        message[..head.len()].copy_from_slice(&head);
        message
    }
}

fn open_all(load: &Load) -> io::Result<Vec<TcpStream>> {
    (0..load.connections).map(|_| TcpStream::connect(load.to)).collect()
}

/// Makes certain that the server has got all of an upload.
fn confirm(mut stream: &TcpStream, sent: usize) -> io::Result<()> {
    let mut received = [0; 8];
    stream.read_exact(&mut received)?;
    if u64::from_be_bytes(received) == sent as u64 {
        return Ok(());
    }
    Err(io::Error::other("the server has not got what was sent"))
}

/// What was read of a message; an end is an error.
fn expect_more(read: Option<usize>) -> io::Result<usize> {
    match read {
        Some(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        n => Ok(n.unwrap_or_default()),
    }
}

fn in_time(ready: &[usize]) -> io::Result<()> {
    if ready.is_empty() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
}

fn bulk(bytes: usize, started: Instant) -> Value {
    json!({ "bytes": bytes, "seconds": started.elapsed().as_secs_f64() })
}

fn rate(count: usize, started: Instant) -> Value {
    json!({ "count": count, "seconds": started.elapsed().as_secs_f64() })
}

fn round_trips(mut durations: Vec<Duration>, taken: Duration) -> Value {
    durations.sort_unstable();
    let quantile = |per_mille: usize| {
        let index = durations.len().saturating_sub(1) * per_mille / 1000;
        durations.get(index).map(|duration| duration.as_secs_f64() * 1e6)
    };
    json!({
        "count": durations.len(),
        "seconds": taken.as_secs_f64(),
        "p50": quantile(500),
        "p99": quantile(990),
        "p99.9": quantile(999),
    })
}

/// Round trips before those that count.
const UNTIMED: usize = 50;
/// More round trips than a load makes in a second, so that none waits for memory.
const MANY: usize = 1 << 18;
/// After so much silence a relay has failed.
const PATIENCE: Duration = Duration::from_secs(30);
