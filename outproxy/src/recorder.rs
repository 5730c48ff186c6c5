//! The recorder of metrics, and its text for Prometheus.
//!
//! It is installed whether or not `[metrics]` is set: a reload may add that, and then the numbers
//! count from the start of the process, and the handles that others hold are good.

use std::time::Duration;

use metrics::{Label, counter, gauge, histogram, with_local_recorder};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::sleep;
use tunnel::metrics::{self as names, CATALOGUE, Kind, LabelKey, Metric, Values};
use tunnel::process;

/// What records the metrics of this process.
#[derive(Clone, Debug)]
pub struct Recorder(PrometheusHandle);

impl Recorder {
    /// Starts to record. Metrics whose labels are known beforehand are there from now on, as zero:
    /// Prometheus sees no increase in a counter that begins at one.
    ///
    /// # Errors
    ///
    /// If the process records already.
    pub fn install() -> Result<Self, BuildError> {
        let full = |name: &str| Matcher::Full(name.into());
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(full(names::CONNECT_SECONDS), CONNECT_BUCKETS)?
            .set_buckets_for_metric(full(names::DNS_SECONDS), DNS_BUCKETS)?
            .install_recorder()?;
        names::describe();
        process::start();
        for metric in CATALOGUE.iter().filter(|metric| COUNTED.contains(&metric.name)) {
            start_at_zero(metric);
        }
        Ok(Self(handle))
    }

    /// All metrics, in Prometheus' text format 0.0.4: those that were counted, and those that
    /// `sample` sets now.
    ///
    /// The latter are in a recorder of their own, since none ever forgets a series.
    #[must_use]
    pub fn render(&self, sample: impl FnOnce()) -> String {
        let sampled = PrometheusBuilder::new().build_recorder();
        with_local_recorder(&sampled, || {
            names::describe();
            sample();
        });
        let text = self.0.render() + &sampled.handle().render();
        // The crate's counters have no fractions.
        let [gauge, counter] =
            ["gauge", "counter"].map(|kind| format!("{} {kind}\n", names::PROCESS_CPU));
        text.replacen(&gauge, &counter, 1)
    }

    /// Sums up observations from time to time: they would pile up if nobody asked for them.
    pub async fn upkeep(&self) -> ! {
        loop {
            sleep(UPKEEP_INTERVAL).await;
            self.0.run_upkeep();
        }
    }
}

/// Shows a metric with each of the words that its label may have, if it has one.
fn start_at_zero(metric: &Metric) {
    let labels: Vec<Vec<Label>> = match metric.labels {
        [LabelKey { key, values: Values::Closed(words) }] => {
            words.iter().map(|word| vec![Label::from_static_parts(key, word)]).collect()
        }
        _ => vec![vec![]],
    };
    for labels in labels {
        match metric.kind {
            Kind::Counter => counter!(metric.name, labels).increment(0),
            Kind::Gauge => gauge!(metric.name, labels).set(0.0),
            Kind::Histogram => {
                let _ = histogram!(metric.name, labels);
            }
        }
    }
}

/// What is counted as it happens, with labels that are known beforehand. Others are there once
/// their rule is, or are [`samples`](crate::samples).
const COUNTED: &[&str] = &[
    names::ACCEPT_ERRORS,
    names::DNS_FAILURES,
    names::DNS_SECONDS,
    names::DNS_STALE_ANSWERS,
    names::LOG_LINES_MISSING,
    names::REFUSALS,
    names::RELOADS,
];

/// In seconds. Finest around what an HSM in the same zone (0.5 ms) or another zone (2 ms) takes;
/// 50 ms and 250 ms are the delays of Happy Eyeballs (see [`crate::dial`]); Linux sends a lost SYN
/// again after 1 s and 3 s, so what is above those has lost one or two.
const CONNECT_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 7.0];

/// In seconds. The VPC's name server takes 0.3 ms for what it knows, and some hundreds to ask
/// others; after 1.8 s an old answer is used, and after 3 s nobody waits any more (see
/// [`crate::resolver`]).
const DNS_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 1.8, 3.0];

/// What piles up lies among the memory of tunnels, and would keep that from going back to the
/// system when they end.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_described_and_there_from_the_start() {
        let recorder = Recorder::install().unwrap();
        let text = recorder.render(process::sample);
        for name in COUNTED {
            assert!(text.contains(&format!("# HELP {name} ")), "{name} in {text}");
        }
        for line in [
            "tunnel_reloads_total{result=\"failed\"} 0",
            "outproxy_refusals_total{reason=\"host-not-allowed\"} 0",
            "outproxy_dns_query_seconds_bucket{le=\"1.8\"} 0",
            "# TYPE process_cpu_seconds_total counter",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} in {text}");
        }
        // What was there once is gone when nobody sets it any more.
        assert!(!recorder.render(|| ()).contains(names::PROCESS_CPU));
    }
}
