//! The recorder of metrics, and its text for Prometheus.
//!
//! It is installed whether or not `[metrics]` is set: a reload may add that, and then the numbers
//! count from the start of the process, and the handles that others hold are good.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::sleep;
use tunnel::metrics as names;

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
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(names::CONNECT_SECONDS.into()), CONNECT_BUCKETS)?
            .install_recorder()?;
        names::describe();
        metrics::gauge!(names::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        metrics::gauge!(names::CONNECTIONS_OPEN).set(0.0);
        let _ = metrics::histogram!(names::CONNECT_SECONDS);
        for counter in [
            metrics::counter!(names::ACCEPT_ERRORS),
            metrics::counter!(names::BYTES, "direction" => "received"),
            metrics::counter!(names::BYTES, "direction" => "sent"),
            metrics::counter!(names::DNS_STALE_ANSWERS),
            metrics::counter!(names::RELOADS, "result" => "failed"),
            metrics::counter!(names::RELOADS, "result" => "ok"),
        ] {
            counter.increment(0);
        }
        Ok(Self(handle))
    }

    /// All metrics, in Prometheus' text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Sums up observations from time to time: they would pile up if nobody asked for them.
    pub async fn upkeep(&self) -> ! {
        loop {
            sleep(UPKEEP_INTERVAL).await;
            self.0.run_upkeep();
        }
    }
}

/// In seconds. Finest around what an HSM in the same zone (0.5 ms) or another zone (2 ms) takes;
/// 50 ms and 250 ms are the delays of Happy Eyeballs (see [`crate::dial`]); Linux sends a lost SYN
/// again after 1 s and 3 s, so what is above those has lost one or two.
const CONNECT_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 7.0];

/// What piles up lies among the memory of tunnels, and would keep that from going back to the
/// system when they end.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_with_known_labels_is_described_and_there_from_the_start() {
        let text = Recorder::install().unwrap().render();
        for name in [
            names::ACCEPT_ERRORS,
            names::BUILD_INFO,
            names::BYTES,
            names::CONNECT_SECONDS,
            names::CONNECTIONS_OPEN,
            names::DNS_STALE_ANSWERS,
            names::RELOADS,
        ] {
            assert!(text.contains(&format!("# HELP {name} ")), "{name} in {text}");
        }
        assert!(text.contains("tunnel_reloads_total{result=\"failed\"} 0\n"), "{text}");
        assert!(text.contains("tunnel_connect_seconds_bucket{le=\"0.25\"} 0\n"), "{text}");
    }
}
