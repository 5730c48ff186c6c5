//! Whether a tunnel lives as long as it should, and ends as it should: N1 and N2, and the
//! time-outs.

use super::super::plan::{Ms, To};
use super::super::record::{End, Stream};
use super::model::{Model, SMALL, TOLERANCE};

/// How a tunnel must end.
#[derive(Clone, Copy, Debug)]
struct Doom {
    at: Ms,
    /// The latest at which both ends know.
    known: Ms,
    cause: Cause,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cause {
    Finished,
    Quiet,
    Reset,
    Stopped,
}

/// What moves a tunnel on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Event {
    ClientHalfCloses,
    Moves,
    Resets,
    Stops,
    UpstreamHalfCloses,
}

pub(super) fn judge(model: &Model<'_>, index: usize, stream: &Stream) -> Result<(), String> {
    let Stream { client, upstream, site, .. } = stream;
    judge_bytes(client, upstream).map_err(|broken| format!("client: {broken}"))?;
    judge_bytes(upstream, client).map_err(|broken| format!("upstream: {broken}"))?;
    if site.is_none() {
        return match client.ended {
            Some(at) => Err(format!("N2: the client got an end at {at}, of nobody's stream")),
            None => Ok(()),
        };
    }
    let Some(doom) = doom(model, index, stream) else { return Ok(()) };
    let told = |broken: String| format!("{doom:?}, but {broken}");
    judge_end("client", client, upstream, doom).map_err(told)?;
    judge_end("upstream", upstream, client, doom).map_err(told)?;
    let arrived = upstream.begun;
    judge_delay(client, upstream, arrived, doom.at).map_err(told)?;
    judge_delay(upstream, client, arrived, doom.at).map_err(told)
}

/// What holds whatever happens.
fn judge_bytes(receiver: &End, sender: &End) -> Result<(), String> {
    let (read, written) = (receiver.total_read(), sender.total_written());
    if receiver.corrupt || read > written && sender.failed.is_none() {
        return Err(format!("N1: it read {read} bytes, of which not all are its own"));
    }
    let Some(ended) = receiver.ended else { return Ok(()) };
    if sender.half_closed.is_none_or(|at| at > ended) {
        return Err(format!("N2: it got an end at {ended}, where there was none"));
    }
    if read != written {
        return Err(format!("N1: the end came after {read} of {written} bytes"));
    }
    Ok(())
}

/// [`None`] where too much happens at once.
fn doom(model: &Model<'_>, index: usize, Stream { client, upstream, .. }: &Stream) -> Option<Doom> {
    let arrived = upstream.begun;
    if !model.is_steady(client.begun, arrived) {
        return None;
    }
    let (near, (_, far)) = (&model.plan.inproxy, model.policy(arrived));
    let idle = near.idle.into_iter().chain(far.idle).min();
    let half_close = (near.half_close.min(far.half_close), near.half_close.max(far.half_close));
    let to = model.plan.streams[index].to;
    let has_notices = to != To::Raw && far.most >= SMALL;
    let mut events: Vec<(Ms, Event)> = [client, upstream]
        .into_iter()
        .flat_map(|end| end.written.iter().map(|(at, _)| (*at, Event::Moves)))
        .chain(client.half_closed.map(|at| (at, Event::ClientHalfCloses)))
        .chain(upstream.half_closed.map(|at| (at, Event::UpstreamHalfCloses)))
        .chain([client.reset, upstream.reset].into_iter().flatten().map(|at| (at, Event::Resets)))
        .chain(model.stops(to, arrived).map(|at| (at, Event::Stops)))
        .map(|(at, event)| (at.max(arrived), event))
        .collect();
    events.sort_by_key(|(at, _)| *at);

    let mut active = arrived;
    let (mut client_is_done, mut upstream_is_done) = (false, false);
    for (at, event) in events.iter().copied().chain([(Ms::MAX, Event::Moves)]) {
        let is_half = client_is_done || upstream_is_done;
        let limit = if is_half { Some(half_close.0) } else { idle };
        // What vsock cannot tell of a half-closed tunnel a notice tells at once; but not where there
        // are none, or the first tunnel ends before they are connected.
        let known = |from: Ms| {
            let is_told = has_notices && from > arrived + TOLERANCE;
            if is_half && !is_told { from.max(active + half_close.1) } else { from }
        };
        let quiet = limit.map_or(Ms::MAX, |limit| active + limit);
        if at == Ms::MAX && quiet == Ms::MAX || at.abs_diff(quiet) <= TOLERANCE {
            return None;
        }
        if at > quiet {
            return Some(Doom { at: quiet, known: known(quiet), cause: Cause::Quiet });
        }
        match event {
            Event::Resets => return Some(Doom { at, known: known(at), cause: Cause::Reset }),
            Event::Stops => return Some(Doom { at, known: known(at), cause: Cause::Stopped }),
            Event::ClientHalfCloses => client_is_done = true,
            Event::Moves => {}
            Event::UpstreamHalfCloses => upstream_is_done = true,
        }
        active = at;
        if client_is_done && upstream_is_done {
            return Some(Doom { at, known: at, cause: Cause::Finished });
        }
    }
    None
}

fn judge_end(name: &str, end: &End, other: &End, doom: Doom) -> Result<(), String> {
    if let (Some(ended), Some(at)) = (end.ended, other.half_closed)
        && ended > at.max(end.begun) + TOLERANCE
    {
        return Err(format!("{name} got the end of {at} at {ended}"));
    }
    if doom.cause == Cause::Finished {
        return match (end.failed, end.ended) {
            (None, Some(_)) => Ok(()),
            (failed, ended) => Err(format!("{name} failed at {failed:?} and ended at {ended:?}")),
        };
    }
    if end.reset.is_some() {
        return Ok(());
    }
    match end.failed {
        Some(at) if (doom.at..=doom.known + TOLERANCE).contains(&at) => Ok(()),
        Some(at) => Err(format!("{name} failed at {at}")),
        // It was done itself before it could know.
        None if end.ended.is_some() && end.half_closed.is_some_and(|at| at >= doom.at) => Ok(()),
        None => Err(format!("{name} never knew; it ended at {:?}", end.ended)),
    }
}

/// What was written while the tunnel lived arrived at once.
fn judge_delay(sender: &End, receiver: &End, arrived: Ms, doom: Ms) -> Result<(), String> {
    for (at, written) in &sender.written {
        let due = (*at).max(arrived) + TOLERANCE;
        let read = receiver.read.iter().take_while(|(at, _)| *at <= due).last();
        let read = read.map_or(0, |(_, read)| *read);
        if due < doom && read < *written {
            return Err(format!("of {written} bytes, written by {at}, {read} had come by {due}"));
        }
    }
    Ok(())
}
