//! A day as a text: what happened, in the order of time.

use super::plan::{Ms, Plan};
use super::record::{End, Record};

/// All events. Those of one moment are in alphabetical order, since nobody says which came first.
pub(crate) fn of(plan: &Plan, record: &Record) -> String {
    let mut events: Vec<(Ms, String)> = Vec::new();
    for (index, stream) in record.streams.iter().enumerate() {
        let to = plan.streams[index].to;
        events.push((stream.client.begun, format!("stream {index}: client wants to {to:?}")));
        if let Some(site) = stream.site {
            events.push((stream.upstream.begun, format!("stream {index}: arrives at site {site}")));
        }
        for (name, end) in [("client", &stream.client), ("upstream", &stream.upstream)] {
            add_end(&mut events, &format!("stream {index}: {name}"), end);
        }
    }
    let site = |(at, site, kind): &(Ms, usize, _)| (*at, format!("site {site} is {kind:?}"));
    events.extend(record.sites.iter().map(site));
    let mode = |(at, mode): &(Ms, _)| (*at, format!("the name server is {mode:?}"));
    events.extend(record.name_server.iter().map(mode));
    let question = |(at, name): &(Ms, usize)| (*at, format!("n{name} is asked for"));
    events.extend(record.questions.iter().map(question));
    events.extend(record.replies.iter().map(|(at, name, zone, _)| {
        (*at, format!("n{name} is told to be at sites {:?} for {} s", zone.sites, zone.ttl))
    }));
    let dial = |(at, site): &(Ms, usize)| (*at, format!("site {site} is dialled"));
    events.extend(record.dialled.iter().map(dial));
    let policy =
        |(at, process, policy): &(Ms, usize, _)| (*at, format!("process {process} has {policy:?}"));
    events.extend(record.policies.iter().map(policy));
    events.extend(record.restarts.iter().map(|restart| (restart.closed, format!("{restart:?}"))));
    let loiterer = |loiterer: &super::record::Loiterer| (loiterer.from, format!("{loiterer:?}"));
    events.extend(record.loiterers.iter().map(loiterer));
    events.extend(record.lines.iter().map(|line| {
        let told = ["message", "outcome", "sent", "received"];
        let told = told.map(|name| line.field(name)).join(" ");
        (line.at, format!("{} logs of {}: {told}", line.of, line.field("client")))
    }));
    events.sort();
    let lines = events.into_iter().map(|(at, event)| format!("{} {event}\n", clock(at)));
    lines.collect()
}

fn add_end(events: &mut Vec<(Ms, String)>, name: &str, end: &End) {
    let moments = [
        (end.half_closed, "half-closes"),
        (end.reset, "resets"),
        (end.ended, "reads the end"),
        (end.failed, "sees an abort"),
    ];
    events.extend(moments.iter().filter_map(|(at, what)| Some(((*at)?, format!("{name} {what}")))));
    for (counts, what) in [(&end.written, "has written"), (&end.read, "has read")] {
        events.extend(counts.iter().map(|(at, total)| (*at, format!("{name} {what} {total}"))));
    }
}

fn clock(at: Ms) -> String {
    let (seconds, rest) = (at / 1000, at % 1000);
    format!("{:02}:{:02}:{:02}.{rest:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
