//! What Prometheus is told of destinations.

use metrics::gauge;
use tunnel::metrics as names;

use super::{Entry, Health, State};

impl Health {
    /// Sets the metrics of all destinations, for the recorder of this thread.
    pub fn sample(&self) {
        self.destinations.values().for_each(sample);
    }
}

fn sample(entry: &Entry) {
    let record = entry.target.record();
    let labels =
        [("rule", entry.rule.to_string()), ("destination", entry.target.address.to_string())];
    if record.state != State::Unknown {
        let is_up = record.state == State::Up;
        gauge!(names::DESTINATION_UP, &labels).set(f64::from(u8::from(is_up)));
        let lasts = record.since.elapsed().as_secs_f64();
        gauge!(names::DESTINATION_STATE_SECONDS, &labels).set(lasts);
    }
    if let Some(latency) = record.latency {
        gauge!(names::DESTINATION_CONNECT_SECONDS, &labels).set(latency.as_secs_f64());
    }
    if let Some(failure) = &record.last_failure {
        let [rule, destination] = labels;
        let labels = [rule, destination, ("error", failure.kind.word().to_owned())];
        let age = failure.at.elapsed().as_secs_f64();
        gauge!(names::DESTINATION_ERROR_AGE, &labels).set(age);
    }
}
