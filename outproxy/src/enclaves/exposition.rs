//! What the enclaves tell, as metrics.
//!
//! They are samples (see [`crate::samples`]): an enclave that is forgotten has no series any more.

use metrics::{counter, gauge};
use tunnel::metrics as names;
use tunnel::records::Application;

use super::Enclaves;
use super::enclave::{Enclave, Vitals};

/// Sets all of it, for the recorder of this thread.
pub fn sample(enclaves: &Enclaves) {
    for (id, enclave) in &enclaves.lock().known {
        let series = Series { cid: id.to_string() };
        series.set(names::INPROXY_CONNECTED, truth(enclave.is_connected()));
        series.set(names::INPROXY_LAST_HEARD, enclave.heard() as f64);
        for (source, count) in &enclave.counts.lines {
            series.count_with(names::INPROXY_LINES, "source", source.word(), *count);
        }
        let dropped = names::INPROXY_LINES_DROPPED;
        series.count_with(dropped, "where", "enclave", enclave.counts.dropped);
        series.count_with(dropped, "where", "log", enclave.counts.unlogged);
        series.count(names::INPROXY_MALFORMED, enclave.counts.malformed);
        if let Some(vitals) = &enclave.vitals {
            series.sample(enclave, vitals);
        }
    }
}

/// Those of one enclave.
struct Series {
    cid: String,
}

impl Series {
    fn sample(&self, enclave: &Enclave, vitals: &Vitals) {
        self.set(names::INPROXY_UPTIME, vitals.uptime_seconds as f64);
        self.set(names::INPROXY_CONNECTIONS_OPEN, vitals.open as f64);
        for (outcome, count) in vitals.over() {
            self.count_with(names::INPROXY_CONNECTIONS, "outcome", outcome, count);
        }
        self.count_with(names::INPROXY_BYTES, "direction", "received", vitals.received);
        self.count_with(names::INPROXY_BYTES, "direction", "sent", vitals.sent);
        self.count(names::INPROXY_ACCEPT_ERRORS, vitals.accept_errors);
        if let Some(application) = vitals.application {
            let runs = matches!(application, Application::Running { .. });
            self.set(names::INPROXY_APPLICATION_RUNNING, truth(runs && enclave.is_connected()));
        }
    }

    fn set(&self, name: &'static str, value: f64) {
        gauge!(name, "side" => ENCLAVE, "cid" => self.cid.clone()).set(value);
    }

    fn count(&self, name: &'static str, value: u64) {
        counter!(name, "side" => ENCLAVE, "cid" => self.cid.clone()).absolute(value);
    }

    fn count_with(&self, name: &'static str, key: &'static str, word: &'static str, value: u64) {
        let labels =
            [("side", ENCLAVE.to_owned()), ("cid", self.cid.clone()), (key, word.to_owned())];
        counter!(name, &labels).absolute(value);
    }
}

fn truth(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

const ENCLAVE: &str = "enclave";
