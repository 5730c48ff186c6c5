//! Whether outproxy is there, and leads to what is forwarded.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout};
use tunnel::connect::connect;
use tunnel::destination::{Destination, Port};
use tunnel::endpoint::Endpoint;
use tunnel::examination::{Examination, Finding, in_milliseconds, milliseconds};
use tunnel::head::{self, Answer};
use tunnel::head_reader::{HeadError, HeadReader};
use tunnel::host::Host;
use tunnel::proxy_status::ProxyStatus;
use tunnel::stream::Stream;

use super::{Details, MOST_AT_ONCE, advice};
use crate::config::{Config, Forward, Local};

pub(super) async fn examine(
    config: &Config,
    addresses: &[IpAddr],
    examination: &mut Examination<Details>,
) {
    let (outproxy, stream) = endpoint(config).await;
    let is_there = stream.is_some();
    examination.add("outproxy", None, [outproxy]);

    // The first one who asks for a tunnel goes on with this connection.
    let stream = Mutex::new(stream);
    let tried = config.forwards.iter().map(async |forward| {
        let (destinations, mut findings) = destinations(forward, addresses);
        let tries = stream::iter(destinations)
            .map(|destination| try_one(config, forward, destination, is_there, &stream))
            .buffered(MOST_AT_ONCE);
        findings.extend(tries.collect::<Vec<_>>().await);
        findings
    });
    for (forward, findings) in config.forwards.iter().zip(join_all(tried).await) {
        examination.add("forward", Some(forward.name.as_str()), findings);
    }
    if let Some(stream) = stream.into_inner().unwrap_or_else(PoisonError::into_inner) {
        stream.hang_up(b"", GOODBYE).await;
    }
    let strangers = addresses.iter().filter(|ip| !is_forwarded(config, **ip)).map(|ip| {
        let found = "no forward has this address";
        let advice = "write it into the `addresses` of a forward, and build the image anew";
        Finding::failed(ip.to_string(), "not-forwarded", found, advice).with(Details::default())
    });
    examination.add("forward", None, strangers);
}

/// Connects to outproxy, and says nothing.
async fn endpoint(config: &Config) -> (Finding<Details>, Option<Stream>) {
    let endpoint = &config.outproxy;
    let needless = config.forwards.iter().all(|forward| forward.via.is_some());
    if needless {
        let found = "every forward has a `via`, so nobody asks for it";
        let finding = Finding::skipped(endpoint.to_string(), found);
        return (finding.with(Details::default()), None);
    }
    let started = Instant::now();
    match connect(endpoint, config.limits.connect_timeout).await {
        Ok(stream) => {
            let took = started.elapsed();
            let details = Details { milliseconds: Some(milliseconds(took)), ..Details::default() };
            let found = format!("answers in {}", in_milliseconds(took));
            (Finding::ok(endpoint.to_string(), found).with(details), Some(stream))
        }
        Err(error) => {
            let finding = unreachable(endpoint.to_string(), endpoint, &error);
            (finding.with(Details::default()), None)
        }
    }
}

fn unreachable(subject: String, endpoint: &Endpoint, error: &io::Error) -> Finding {
    let (problem, what, advice) = advice::on_connect(endpoint, error);
    Finding::failed(subject, problem, format!("`{endpoint}`: {what}"), advice)
}

/// What of a forward can be tried, and what of it cannot.
fn destinations(
    forward: &Forward,
    addresses: &[IpAddr],
) -> (Vec<Destination>, Vec<Finding<Details>>) {
    let mut hosts = Vec::new();
    let mut skipped = Vec::new();
    match &forward.local {
        Local::Host(name) => hosts.push(Host::Name(name.clone())),
        Local::Addresses(cidrs) => {
            for cidr in cidrs {
                let inside = addresses.iter().filter(|ip| cidr.contains(**ip));
                let before = hosts.len();
                hosts.extend(cidr.single().into_iter().chain(inside.copied()).map(Host::from));
                if hosts.len() == before {
                    let found = "stands for many addresses; try one with `--address`";
                    skipped
                        .push(Finding::skipped(cidr.to_string(), found).with(Details::default()));
                }
            }
        }
    }
    let mut destinations: Vec<_> = hosts
        .into_iter()
        .flat_map(|host| forward.ports.iter().map(move |port| at(host.clone(), *port)))
        .collect();
    destinations.sort_unstable();
    destinations.dedup();
    (destinations, skipped)
}

fn at(host: Host, port: Port) -> Destination {
    Destination { host, port }
}

fn is_forwarded(config: &Config, ip: IpAddr) -> bool {
    config.forwards.iter().any(|forward| match &forward.local {
        Local::Addresses(cidrs) => cidrs.iter().any(|cidr| cidr.contains(ip)),
        Local::Host(_) => false,
    })
}

async fn try_one(
    config: &Config,
    forward: &Forward,
    destination: Destination,
    outproxy_is_there: bool,
    stream: &Mutex<Option<Stream>>,
) -> Finding<Details> {
    let mut details = Details { destination: Some(destination.to_string()), ..Details::default() };
    let finding = match &forward.via {
        Some(via) => try_raw(config, via, &destination, &mut details).await,
        None if outproxy_is_there => {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            try_routed(config, &destination, stream, &mut details).await
        }
        None => Finding::skipped(destination.to_string(), "outproxy cannot be reached"),
    };
    finding.with(details)
}

/// Asks for a tunnel, and closes it at once if there is one.
async fn try_routed(
    config: &Config,
    destination: &Destination,
    stream: Option<Stream>,
    details: &mut Details,
) -> Finding {
    let subject = destination.to_string();
    let started = Instant::now();
    let limits = &config.limits;
    let limit = limits.connect_timeout + limits.header_timeout;
    let asked = timeout(limit, ask(config, destination, stream)).await;
    let took = started.elapsed();
    let (problem, found, advice) = match asked {
        Ok(Ok(Reply::Grant(stream))) => {
            // An abort might look like an attack to the service behind it.
            stream.hang_up(b"", GOODBYE).await;
            details.milliseconds = Some(milliseconds(took));
            return Finding::ok(subject, format!("answers in {}", in_milliseconds(took)));
        }
        Ok(Ok(Reply::Refusal(answer, why))) => {
            details.status = Some(answer.status);
            details.error.clone_from(&why.error);
            let (problem, advice) = advice::on_refusal(why.error.as_deref(), destination);
            let why = why.details.or(why.error);
            let why = why.unwrap_or_else(|| "it does not say why".into());
            (problem, format!("outproxy answers {}: {}", answer.status, clamped(&why)), advice)
        }
        Ok(Err(Trouble::Connect(error))) => {
            return unreachable(subject, &config.outproxy, &error);
        }
        Ok(Err(Trouble::Answer(reason))) => (
            "no-proxy",
            format!("what answers is no outproxy: {reason}"),
            "see what listens there on the host: this needs a `[[listen]]` of outproxy without \
             `to`; other programs need `via` here"
                .into(),
        ),
        Err(_) => ("no-answer", format!("no answer within {limit:?}"), advice::NO_ANSWER.into()),
    };
    Finding::failed(subject, problem, found, advice)
}

/// What outproxy says to who asks for a tunnel.
enum Reply {
    Grant(Stream),
    Refusal(Answer, ProxyStatus),
}

async fn ask(
    config: &Config,
    destination: &Destination,
    stream: Option<Stream>,
) -> Result<Reply, Trouble> {
    let mut stream = match stream {
        Some(stream) => stream,
        None => {
            let limit = config.limits.connect_timeout;
            connect(&config.outproxy, limit).await.map_err(Trouble::Connect)?
        }
    };
    let request = head::request(destination, None);
    stream.write_all(request.as_bytes()).await.map_err(Trouble::new)?;
    let mut reader = HeadReader::default();
    let mut head = Vec::new();
    let mut parse = |bytes: &[u8]| {
        let answer = head::parse_answer(bytes)?;
        if let Some((_, length)) = &answer {
            head = bytes[..*length].to_vec();
        }
        Ok(answer)
    };
    let (answer, _) = poll_fn(|cx| reader.poll(cx, &mut stream, &mut parse))
        .await
        .map_err(|error: HeadError<head::AnswerError>| Trouble::new(error))?;
    Ok(if answer.is_grant() {
        Reply::Grant(stream)
    } else {
        Reply::Refusal(answer, ProxyStatus::of_head(&head))
    })
}

/// Why there is no answer.
enum Trouble {
    Answer(String),
    Connect(io::Error),
}

impl Trouble {
    fn new(error: impl std::fmt::Display) -> Self {
        Self::Answer(error.to_string())
    }
}

async fn try_raw(
    config: &Config,
    via: &Endpoint,
    destination: &Destination,
    details: &mut Details,
) -> Finding {
    let subject = destination.to_string();
    let started = Instant::now();
    let mut stream = match connect(via, config.limits.connect_timeout).await {
        Ok(stream) => stream,
        Err(error) => return unreachable(subject, via, &error),
    };
    let took = started.elapsed();
    details.milliseconds = Some(milliseconds(took));
    match timeout(RAW_PATIENCE, stream.read(&mut [0])).await {
        Ok(Ok(0) | Err(_)) => Finding::failed(
            subject,
            "closed",
            format!("`{via}` takes the connection and closes it again"),
            "on the host, see that what is behind it can be reached: `outproxy doctor` and \
             `outproxy status`, or the log of the socat or vsock-proxy there",
        ),
        Ok(Ok(_)) => {
            let took = in_milliseconds(took);
            Finding::ok(subject, format!("`{via}` answers in {took}, and the service speaks"))
        }
        Err(_) => {
            stream.hang_up(b"", GOODBYE).await;
            let took = in_milliseconds(took);
            Finding::ok(
                subject,
                format!(
                    "`{via}` answers in {took} and stays open; more a raw tunnel does not tell"
                ),
            )
        }
    }
}

fn clamped(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

/// How long a stream is given to end well.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long a raw tunnel must stay open to be believed.
const RAW_PATIENCE: Duration = Duration::from_secs(2);
/// How much of what outproxy says is shown, in characters.
const LONGEST: usize = 300;
