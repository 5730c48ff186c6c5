//! What a rule says of the cluster that it follows.

use std::ops::Range;
use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use serde::{Deserialize, Deserializer, de};
use toml::Spanned;
use tunnel::config::Mistakes;

use crate::allowlist::Rule;
use crate::clusters::{Cluster, ClusterId, EndpointUrl, IS_AVAILABLE, Region};

/// The keys of an `[[allow]]` that are about a cluster.
#[derive(Debug)]
pub(super) struct FollowingFile {
    pub(super) cluster: Option<Spanned<ClusterId>>,
    pub(super) region: Option<Spanned<Region>>,
    pub(super) interval: Option<Spanned<Interval>>,
    pub(super) endpoint: Option<Spanned<EndpointUrl>>,
}

impl FollowingFile {
    /// The cluster, if there is one. `at` is where the rule is.
    pub(super) fn into_cluster(
        self,
        at: &Range<usize>,
        mistakes: &mut Mistakes,
    ) -> Option<Cluster> {
        let Some(id) = self.cluster else {
            let spans = [
                self.region.map(|region| ("region", region.span())),
                self.interval.map(|interval| ("poll-interval", interval.span())),
                self.endpoint.map(|endpoint| ("endpoint-url", endpoint.span())),
            ];
            for (key, span) in spans.into_iter().flatten() {
                let only = format!("`{key}` is for rules with `cloudhsm-cluster` only; remove it");
                mistakes.add(span, only);
            }
            return None;
        };
        if !IS_AVAILABLE {
            mistakes.add(id.span(), NOT_AVAILABLE);
        }
        let Some(region) = self.region else {
            mistakes.add(at.clone(), REGION_MISSING);
            return None;
        };
        Some(Cluster {
            id: id.into_inner(),
            region: region.into_inner(),
            endpoint: self.endpoint.map(Spanned::into_inner),
            interval: self.interval.map_or(DEFAULT_INTERVAL, |interval| interval.into_inner().0),
        })
    }
}

/// Refuses rules that follow one cluster in two ways: there is one who asks for its HSMs.
pub(super) fn refuse_differences(rules: &[Spanned<Rule>], mistakes: &mut Mistakes) {
    let cluster = |rule: &Spanned<Rule>| rule.get_ref().cluster.clone();
    for (index, rule) in rules.iter().enumerate() {
        let Some(this) = cluster(rule) else { continue };
        let differs = |other: &&Spanned<Rule>| {
            cluster(other).is_some_and(|other| other.id == this.id && other != this)
        };
        if let Some(other) = rules[..index].iter().find(differs) {
            mistakes.add_clash(
                rule.span(),
                other.span(),
                format!(
                    "rule `{}` follows `{}`, too, but not in the same way; write the same `region`, \
                     `poll-interval` and `endpoint-url`",
                    rule.get_ref().name,
                    this.id
                ),
            );
        }
    }
}

/// How often AWS is asked.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Interval(#[serde(deserialize_with = "interval")] Duration);

fn interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let time = humantime_serde::deserialize(deserializer)?;
    if (SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(&time) {
        return Ok(time);
    }
    Err(de::Error::custom(format_args!(
        "`{}` is out of range; write a time from `{}` to `{}`",
        format_duration(time),
        format_duration(SHORTEST_INTERVAL),
        format_duration(LONGEST_INTERVAL),
    )))
}

/// `poll-interval = "60s"`: making or deleting an HSM takes AWS minutes.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);
/// AWS refuses who asks much more often.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// What is known is not to be older than that.
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);

const NOT_AVAILABLE: &str = "this outproxy was built without the feature cloudhsm; build one with \
     `--features cloudhsm`, or list the addresses of the HSMs in `hosts`";
const REGION_MISSING: &str =
    "missing key `region`; write where the cluster is, as in `region = \"ap-southeast-1\"`";
