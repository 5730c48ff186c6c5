//! What two ends saw, held against what is promised.

use super::end::{Closing, Ending, Progress};

/// What an end was, and all that it did and saw.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) seen: Progress,
    /// Whether it had TCP, which can say that it aborts.
    pub(crate) is_tcp: bool,
}

impl Report {
    /// Whether it left without a clean end of both directions.
    pub(crate) fn has_aborted(&self) -> bool {
        match self.seen.closing {
            None => false,
            Some(Closing::Close) => self.seen.ending != Some(Ending::Clean),
            Some(Closing::Reset) => true,
        }
    }

    /// Whether the end of its stream may look clean to `other`.
    pub(crate) fn may_look_finished_to(&self, other: &Self) -> bool {
        // Without TCP a close is a clean end only for somebody who has ended before.
        self.has_ended() || self.seen.closing.is_some() && !self.is_tcp && other.has_ended()
    }

    fn has_ended(&self) -> bool {
        self.seen.half_closed || self.is_tcp && self.seen.closing == Some(Closing::Close)
    }
}

/// Whether one end aborted before it could know that the other had half-closed.
///
/// Between two proxies such an abort and the half-close can cross. Who has half-closed a vsock
/// cannot tell a full close from a half-close any more: the one case in which N2 is not kept, in
/// raw tunnels.
pub(crate) fn may_have_crossed(client: &Report, upstream: &Report) -> bool {
    let unaware = |one: &Report, other: &Report| {
        one.has_aborted() && one.seen.ending != Some(Ending::Clean) && other.has_ended()
    };
    unaware(client, upstream) || unaware(upstream, client)
}

/// Holds both ends of one tunnel against N1 and N2.
///
/// N1: each direction delivers a prefix of what was sent, and all of it, with a clean end, when
/// the sender half-closed and nobody aborted. N2: a clean end is delivered only where one was seen.
pub(crate) fn judge(client: &Report, upstream: &Report) -> Result<(), &'static str> {
    judge_receiver(client, upstream)?;
    judge_receiver(upstream, client)
}

fn judge_receiver(receiver: &Report, sender: &Report) -> Result<(), &'static str> {
    let complete = receiver.seen.read == sender.seen.written;
    let aborted = receiver.has_aborted() || sender.has_aborted();
    if receiver.seen.corrupt || receiver.seen.read > sender.seen.written {
        return Err("N1: received what was not sent");
    }
    match receiver.seen.ending {
        None if receiver.seen.closing.is_none() => Err("it did not see any end"),
        None => Ok(()),
        Some(Ending::Clean) if !complete => Err("N1: a clean end came too early"),
        Some(Ending::Clean) if !sender.may_look_finished_to(receiver) => {
            Err("N2: a clean end was delivered where none was seen")
        }
        Some(Ending::Clean) => Ok(()),
        Some(Ending::Aborted(_) | Ending::TimedOut) if !aborted => Err("N1: nobody aborted"),
        Some(Ending::Aborted(_) | Ending::TimedOut)
            if !sender.is_tcp
                && !sender.seen.half_closed
                && !receiver.has_aborted()
                && !complete =>
        {
            Err("what was sent before the sender closed was not delivered")
        }
        Some(Ending::Aborted(_) | Ending::TimedOut) => Ok(()),
    }
}
