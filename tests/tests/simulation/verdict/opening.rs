//! Whether a client gets to where it wants, or is told that it does not, when it should.

use super::super::plan::{Ms, SECOND, Site, TRAP, To};
use super::super::record::Stream;
use super::model::{Model, SMALL, TOLERANCE};

/// What must come of a connect, and from when to when.
#[derive(Clone, Copy, Debug)]
enum Expected {
    Arrives(Ms, Ms),
    Either(Ms, Ms),
    Fails(Ms, Ms),
}

pub(super) fn judge(model: &Model<'_>, index: usize, stream: &Stream) -> Result<(), String> {
    let to = model.plan.streams[index].to;
    let from = stream.client.begun;
    let limits = &model.plan.inproxy;
    // A client says who it is with its first bytes.
    let spoke = stream.client.written.first().is_some_and(|(at, _)| *at <= from + TOLERANCE);
    if !spoke {
        return Ok(());
    }
    let answered = if to == To::Raw { LONGEST_DIAL } else { limits.connect + limits.header };
    let latest = from + limits.retry + limits.connect + answered;
    let expected = expected(model, to, from).unwrap_or(Expected::Either(from, latest));
    let arrived = stream.site.map(|_| stream.upstream.begun);
    let failed = stream.client.failed.filter(|_| arrived.is_none());
    let said = |at: Option<Ms>, (from, to): (Ms, Ms)| {
        at.is_some_and(|at| (from..=to + TOLERANCE).contains(&at))
    };
    // A client that resets does not see what becomes of it; nor, of a raw one, who waits.
    let half_closed = stream.client.half_closed.filter(|_| to == To::Raw);
    let left = stream.client.reset.or(half_closed);
    let (holds, until) = match expected {
        Expected::Arrives(from, to) => (said(arrived, (from, to)), to),
        Expected::Either(from, to) => (said(arrived, (from, to)) || said(failed, (from, to)), to),
        Expected::Fails(from, to) => (said(failed, (from, to)), to),
    };
    if holds || arrived.is_none() && left.is_some_and(|left| left <= until + TOLERANCE) {
        return Ok(());
    }
    Err(format!(
        "it asked for {to:?} at {from}: {expected:?}, but arrived {arrived:?}, failed {failed:?}"
    ))
}

/// [`None`] where too much happens at once.
fn expected(model: &Model<'_>, to: To, from: Ms) -> Option<Expected> {
    let limits = &model.plan.inproxy;
    let asked = match model.accepts_from(to, from) {
        Some(at) if at == from => (from, from),
        Some(at) if at + LONGEST_PAUSE + TOLERANCE < from + limits.retry => {
            (at, at + LONGEST_PAUSE)
        }
        Some(at) if at <= from + limits.retry + TOLERANCE => return None,
        Some(_) | None => return Some(Expected::Fails(from, from + limits.retry)),
    };
    if !model.is_steady(asked.0, asked.1) || !model.is_steady(from, from) {
        return None;
    }
    let (_, policy) = model.policy(asked.0);
    if policy.most < SMALL {
        return None;
    }
    if !policy.allows(to) {
        return Some(Expected::Fails(asked.0, asked.1));
    }
    let patience = if to == To::Raw {
        policy.connect
    } else {
        policy.connect.min(limits.connect + limits.header)
    };
    let stops = model.stops(to, asked.1).unwrap_or(Ms::MAX);
    let given_up = (stops.min(asked.0 + patience), stops.min(asked.1 + patience));
    let expected = match to {
        To::Raw => site(model, super::super::plan::RAW_SITE, asked, given_up),
        To::Site(number) => site(model, number, asked, given_up),
        To::Name(number) => name(model, number, asked, given_up),
    };
    Some(expected.unwrap_or(Expected::Either(asked.0, given_up.1)))
}

fn site(model: &Model<'_>, number: usize, asked: (Ms, Ms), given_up: (Ms, Ms)) -> Option<Expected> {
    Some(match model.site(number, asked.0, asked.1)? {
        Site::Black => Expected::Fails(given_up.0, given_up.1),
        Site::Good => Expected::Arrives(asked.0, asked.1),
        Site::Refusing | Site::Resetting => Expected::Fails(asked.0, asked.1),
    })
}

/// By way of a name server that answers at once, and has done so for a while.
fn name(model: &Model<'_>, number: usize, asked: (Ms, Ms), given_up: (Ms, Ms)) -> Option<Expected> {
    if !model.name_server_is_good(asked.0.saturating_sub(FORGET), given_up.1) {
        return None;
    }
    // After a question without an answer the last good one is used, and asked for anew meanwhile.
    let questions = model.record.questions.iter().rev();
    let mut questions = questions.filter(|(at, of)| *of == number && *at < asked.0);
    let last = questions.next().map_or(asked.0, |(at, _)| *at);
    if !model.name_server_is_good(last, last + FORGET) {
        return None;
    }
    let replies = model.record.replies.iter().rev();
    let mut replies = replies.filter(|(at, of, ..)| *of == number && *at <= asked.1 + TOLERANCE);
    let Some((_, _, zone, _)) = replies.next() else {
        // That the name server is asked is for others to judge.
        return None;
    };
    let (_, policy) = model.policy(asked.0);
    let permitted = zone.sites.iter().filter(|site| **site != TRAP && policy.sites[**site]);
    let kinds = permitted.map(|site| model.site(*site, asked.0, given_up.1));
    let kinds = kinds.collect::<Option<Vec<_>>>()?;
    let begun = asked.1 + ATTEMPTS;
    Some(match kinds {
        kinds if kinds.contains(&Site::Resetting) => return None,
        kinds if kinds.contains(&Site::Good) => Expected::Arrives(asked.0, begun),
        kinds if kinds.contains(&Site::Black) => Expected::Fails(given_up.0, given_up.1),
        _ => Expected::Fails(asked.0, asked.1),
    })
}

/// The longest pause between two of inproxy's attempts to connect.
const LONGEST_PAUSE: Ms = 200;
/// How long four addresses wait for their turns at the most.
const ATTEMPTS: Ms = SECOND;
/// The longest `connect-timeout` of a plan.
const LONGEST_DIAL: Ms = 10 * SECOND;
/// Nobody asks again so soon after a failure, which itself takes a while.
const FORGET: Ms = 20 * SECOND;
