//! What Prometheus is told of clusters.

use metrics::{counter, gauge};
use tunnel::metrics as names;

use super::{Clusters, Followed};
use crate::tally::seconds_at;

impl Clusters {
    /// Sets the metrics of all clusters, for the recorder of this thread.
    pub fn sample(&self) {
        self.followed.values().for_each(|followed| sample(followed));
    }
}

fn sample(followed: &Followed) {
    let record = followed.lock();
    let cluster = || followed.cluster.id.to_string();
    for (result, count) in [("failed", record.failures), ("ok", record.answers)] {
        let labels = [("cluster", cluster()), ("result", result.into())];
        counter!(names::CLUSTER_QUESTIONS, &labels).absolute(count);
    }
    if let Some(members) = &record.members {
        for (state, addresses) in [("allowed", &members.allowed), ("draining", &members.draining)] {
            let labels = [("cluster", cluster()), ("state", state.into())];
            gauge!(names::CLUSTER_ADDRESSES, &labels).set(addresses.len() as f64);
        }
    }
    if let Some(answered_at) = record.answered_at {
        let labels = [("cluster", cluster())];
        gauge!(names::CLUSTER_LAST_ANSWER, &labels).set(seconds_at(answered_at) as f64);
    }
}
