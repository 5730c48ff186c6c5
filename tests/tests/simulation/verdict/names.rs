//! Whether the addresses of names are as old as they may be, and permitted.

use super::super::plan::{Ms, SECOND, TRAP, To, Zone};
use super::super::record::Stream;
use super::model::{Model, TOLERANCE};

/// An address that was dialled for a name has been answered, and not too long ago.
pub(super) fn judge(model: &Model<'_>, index: usize, stream: &Stream) -> Result<(), String> {
    let (To::Name(number), Some(site)) = (model.plan.streams[index].to, stream.site) else {
        return Ok(());
    };
    let (asked, arrived) = (stream.client.begun, stream.upstream.begun);
    let (process, _) = model.policy(arrived);
    let born = model.record.policies.iter().find(|(_, of, _)| *of == process).unwrap().0;
    let replies = || {
        let replies = model.record.replies.iter();
        replies.filter(|(at, of, ..)| *of == number && (born..=arrived + TOLERANCE).contains(at))
    };
    let is_good = |(at, _, zone, _): &&(Ms, usize, Zone, Ms)| {
        let later = |(later, _, _, delay): &(Ms, usize, Zone, Ms)| {
            *later > *at && *later + TOLERANCE < asked && *delay < ATTEMPT
        };
        if !zone.sites.contains(&site) || replies().any(later) {
            return false;
        }
        let stale = *at + u64::from(zone.ttl).clamp(1, LONGEST) * SECOND;
        let is_fresh = asked <= stale + TOLERANCE && model.policy_since(asked) <= *at + TOLERANCE;
        // Else somebody has asked again, and got no answer in time.
        let since = stale.min(model.policy_since(asked)).max(*at);
        let questions = model.record.questions.iter().filter(|(_, of)| *of == number);
        let mut questions = questions.filter(|(at, _)| (since..=arrived).contains(at));
        is_fresh || asked <= stale + LAST_GOOD + TOLERANCE && questions.next().is_some()
    };
    if replies().any(|reply| is_good(&reply)) {
        return Ok(());
    }
    let all: Vec<_> = replies().map(|(at, _, zone, _)| (at, &zone.sites, zone.ttl)).collect();
    Err(format!("n{number} led to site {site} at {arrived}, asked at {asked}, after {all:?}"))
}

/// No address is dialled but those that a policy permits, or permitted when the dialling began.
pub(super) fn judge_dialled(model: &Model<'_>) -> Result<(), String> {
    for (at, site) in &model.record.dialled {
        if *site == TRAP {
            return Err(format!("a prohibited address was dialled at {at}"));
        }
        let since = at.saturating_sub(LONGEST_DIAL + TOLERANCE);
        let in_force = model.policy_since(since)..=*at;
        let mut policies = model.record.policies.iter().filter(|(at, ..)| in_force.contains(at));
        if !policies.any(|(_, _, policy)| policy.sites[*site]) {
            return Err(format!("site {site} was dialled at {at}, which no policy permits"));
        }
    }
    Ok(())
}

/// The longest TTL that is believed, in seconds.
const LONGEST: u64 = 3600;
/// Nobody waits longer for a reply; to a second question comes a second reply.
const ATTEMPT: Ms = SECOND;
/// How long an answer may be used that cannot be refreshed.
const LAST_GOOD: Ms = 3600 * SECOND;
/// The longest `connect-timeout` of a plan.
const LONGEST_DIAL: Ms = 10 * SECOND;
