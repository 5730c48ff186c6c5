//! How many connections are over: by their outcome, their rule and their client.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;

use tunnel::endpoint::Cid;

use crate::allowlist::RuleName;

/// How many clients are counted each by itself.
pub const MOST_CIDS: usize = 64;

/// Connections that are over. However many clients and names there were, it stays small: outcomes
/// are few, rules are the operator's, and of clients only the last ones have a count of their own.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    counts: HashMap<(Client, Option<RuleName>, Over), u64>,
    /// Whose connections ended, the most recent last.
    recent: VecDeque<Cid>,
}

/// Who connected, as far as it is counted.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Client {
    /// One with this CID.
    Cid(Cid),
    /// One that has none, on `tcp:` or `unix:`.
    NoCid,
    /// One that was not heard of for long, and many others since.
    Other,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cid(cid) => cid.fmt(f),
            Self::NoCid => f.write_str("-"),
            Self::Other => f.write_str("other"),
        }
    }
}

/// How a connection ended, or why there was none, in a word.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Over {
    /// It was made.
    Ended(&'static str),
    /// It was not.
    Refused(&'static str),
}

impl Over {
    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ended(word) | Self::Refused(word) => word,
        }
    }
}

impl Outcomes {
    /// One more is over, of a client with this CID, if it has one, and of this rule, if one allows
    /// it.
    pub fn count(&mut self, cid: Option<Cid>, rule: Option<&RuleName>, over: Over) {
        let client = cid.map_or(Client::NoCid, |cid| {
            self.remember(cid);
            Client::Cid(cid)
        });
        *self.counts.entry((client, rule.cloned(), over)).or_default() += 1;
    }

    /// All counts, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Client, Option<&RuleName>, Over, u64)> {
        self.counts
            .iter()
            .map(|((client, rule, over), count)| (*client, rule.as_ref(), *over, *count))
    }

    /// How many ended with each outcome.
    #[must_use]
    pub fn ended(&self) -> BTreeMap<&'static str, u64> {
        self.sum(|over| matches!(over, Over::Ended(_)))
    }

    /// How many were refused with each outcome.
    #[must_use]
    pub fn refused(&self) -> BTreeMap<&'static str, u64> {
        self.sum(|over| matches!(over, Over::Refused(_)))
    }

    fn sum(&self, wanted: impl Fn(Over) -> bool) -> BTreeMap<&'static str, u64> {
        let mut sums = BTreeMap::new();
        for (_, _, over, count) in self.iter().filter(|(_, _, over, _)| wanted(*over)) {
            *sums.entry(over.word()).or_default() += count;
        }
        sums
    }

    fn remember(&mut self, cid: Cid) {
        if self.recent.back() == Some(&cid) {
            return;
        }
        self.recent.retain(|recent| *recent != cid);
        self.recent.push_back(cid);
        if self.recent.len() > MOST_CIDS
            && let Some(oldest) = self.recent.pop_front()
        {
            self.forget(oldest);
        }
    }

    /// Counts what this client did among the others': no sum over clients ever becomes less.
    fn forget(&mut self, cid: Cid) {
        let of = |(client, _, _): &(Client, _, _), _: &mut u64| *client == Client::Cid(cid);
        let forgotten: Vec<_> = self.counts.extract_if(of).collect();
        for ((_, rule, over), count) in forgotten {
            *self.counts.entry((Client::Other, rule, over)).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINISHED: Over = Over::Ended("finished");

    fn count(outcomes: &mut Outcomes, cids: std::ops::Range<usize>) {
        let rule = "hsm".parse().unwrap();
        for cid in cids {
            outcomes.count(Some(Cid::new(cid.try_into().unwrap())), Some(&rule), FINISHED);
        }
    }

    #[test]
    fn a_word_is_summed_over_rules_and_clients() {
        let mut outcomes = Outcomes::default();
        count(&mut outcomes, 16..18);
        outcomes.count(None, None, Over::Refused("denied"));
        outcomes.count(None, None, FINISHED);
        assert_eq!(outcomes.ended(), [("finished", 3)].into());
        assert_eq!(outcomes.refused(), [("denied", 1)].into());
    }

    #[test]
    fn many_clients_make_no_more_counts_than_some() {
        let mut outcomes = Outcomes::default();
        count(&mut outcomes, 0..1000);
        assert_eq!(outcomes.iter().count(), MOST_CIDS + 1);
        assert_eq!(outcomes.ended(), [("finished", 1000)].into());
        let others = outcomes.iter().find(|(client, ..)| *client == Client::Other).unwrap();
        assert_eq!(others.3, 1000 - MOST_CIDS as u64);
    }

    #[test]
    fn who_is_heard_of_keeps_a_count() {
        let mut outcomes = Outcomes::default();
        for cid in 17..1000 {
            count(&mut outcomes, 16..17);
            count(&mut outcomes, cid..cid + 1);
        }
        let mut counts = outcomes.iter();
        let own = counts.find(|(client, ..)| *client == Client::Cid(Cid::new(16))).unwrap();
        assert_eq!(own.3, 1000 - 17);
    }
}
