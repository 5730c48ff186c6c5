//! All metrics: their names, what they count, and the values that their labels may have.
//!
//! Every row of the [catalogue](CATALOGUE) becomes a constant, which is the metric's name. What the
//! recorders, the documents and the tests know of metrics comes from here.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name in Prometheus.
    pub name: &'static str,
    /// What may happen to its value.
    pub kind: Kind,
    /// What it is measured in.
    pub unit: Unit,
    /// Whom it tells of.
    pub program: Program,
    /// Its labels. A series has all of them.
    pub labels: &'static [LabelKey],
    /// What it counts, in a sentence.
    pub help: &'static str,
}

/// What may happen to the value of a metric.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// It grows, and begins at zero with the process.
    Counter,
    /// It comes and goes.
    Gauge,
    /// It counts observations by their size.
    Histogram,
}

impl Kind {
    /// As in a `# TYPE` line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Which of the programs a metric tells of. outproxy shows them all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Program {
    /// The enclave's end, which tells outproxy of itself.
    Inproxy,
    /// The host's end.
    Outproxy,
}

/// A label, and what may stand there.
#[derive(Clone, Copy, Debug)]
pub struct LabelKey {
    /// Its name in Prometheus.
    pub key: &'static str,
    /// What may stand there.
    pub values: Values,
}

/// What may stand in a label. No client can add to it.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// One of a few words, of which none comes at run time.
    Closed(&'static [&'static str]),
    /// What the operator has written, or what is bounded otherwise; and how, in a phrase.
    From(&'static str),
}

/// Makes of each row a constant for the name, and all of them the catalogue.
macro_rules! catalogue {
    ($($constant:ident, $name:literal, $kind:ident, $unit:ident, $program:ident, $labels:expr, $help:literal;)+) => {
        $(#[doc = $help] pub const $constant: &str = $name;)+

        /// Every metric of the proxies.
        pub const CATALOGUE: &[Metric] = &[$(Metric {
            name: $constant,
            kind: Kind::$kind,
            unit: Unit::$unit,
            program: Program::$program,
            labels: &$labels,
            help: $help,
        }),+];
    };
}

catalogue! {
    BUILD_INFO, "tunnel_build_info", Gauge, Count, Outproxy, [VERSION],
        "Always 1; the label tells the version.";
    CONNECTIONS, "tunnel_connections_total", Counter, Count, Outproxy, [RULE, CID, OUTCOME],
        "Connections that ended or were refused.";
    CONNECTIONS_OPEN, "tunnel_connections_open", Gauge, Count, Outproxy, [],
        "Connections that are open.";
    CONNECTIONS_MAX, "tunnel_connections_max", Gauge, Count, Outproxy, [],
        "How many connections may be open at once.";
    BYTES, "tunnel_bytes_total", Counter, Bytes, Outproxy, [RULE, DIRECTION],
        "Payload bytes that were delivered, as they are; sent and received are seen from the client.";
    CONNECT_SECONDS, "tunnel_connect_seconds", Histogram, Seconds, Outproxy, [RULE],
        "Time from the request for a destination to the connection with it.";
    ACCEPT_ERRORS, "tunnel_accept_errors_total", Counter, Count, Outproxy, [],
        "Times that accept(2) failed for want of something, and was tried again.";
    LOG_LINES_MISSING, "tunnel_log_lines_missing_total", Counter, Count, Outproxy, [CAUSE],
        "Lines that are not in the log, since there were too many of a kind or nobody took them.";
    KERNEL_HAZARD, "tunnel_kernel_hazard", Gauge, Count, Outproxy, [HAZARD],
        "Whether the running kernel has a bug that loses data: 1 if it has, else 0.";
    RELOADS, "tunnel_reloads_total", Counter, Count, Outproxy, [RESULT],
        "Reloads of the configuration.";
    CONFIG_GOOD, "outproxy_config_last_reload_successful", Gauge, Count, Outproxy, [],
        "Whether the file was in force when it was last read: 1 if it was, else 0.";
    CONFIG_LOADED, "outproxy_config_last_load_timestamp_seconds", Gauge, Seconds, Outproxy, [],
        "When the configuration in force was read, in seconds since 1970.";
    REFUSALS, "outproxy_refusals_total", Counter, Count, Outproxy, [REASON],
        "Connections that were refused.";
    RULE_CONNECTIONS_OPEN, "outproxy_rule_connections_open", Gauge, Count, Outproxy, [RULE],
        "Connections of a rule that are open, or being made.";
    RULE_CONNECTIONS_MAX, "outproxy_rule_connections_max", Gauge, Count, Outproxy, [RULE],
        "How many connections of a rule may be open at once, if the rule says so.";
    DESTINATION_UP, "outproxy_destination_up", Gauge, Count, Outproxy, [RULE, DESTINATION],
        "Whether a destination that is probed is up: 1 if it is, 0 if it is down.";
    DESTINATION_STATE_SECONDS, "outproxy_destination_state_seconds", Gauge, Seconds, Outproxy, [RULE, DESTINATION],
        "How long a destination has been up or down.";
    DESTINATION_CONNECT_SECONDS, "outproxy_destination_connect_seconds", Gauge, Seconds, Outproxy, [RULE, DESTINATION],
        "How long the last connect to a destination took that succeeded.";
    DESTINATION_ERROR_AGE, "outproxy_destination_last_error_age_seconds", Gauge, Seconds, Outproxy, [RULE, DESTINATION, CONNECT_ERROR],
        "How long ago a connect to a destination failed most recently.";
    CLUSTER_QUESTIONS, "outproxy_cluster_questions_total", Counter, Count, Outproxy, [CLUSTER, RESULT],
        "Times that AWS was asked for the HSMs of a cluster.";
    CLUSTER_ADDRESSES, "outproxy_cluster_addresses", Gauge, Count, Outproxy, [CLUSTER, MEMBER_STATE],
        "Addresses of a cluster's HSMs, as AWS told last.";
    CLUSTER_LAST_ANSWER, "outproxy_cluster_last_answer_timestamp_seconds", Gauge, Seconds, Outproxy, [CLUSTER],
        "When AWS has last told the HSMs of a cluster, in seconds since 1970.";
    DNS_SECONDS, "outproxy_dns_query_seconds", Histogram, Seconds, Outproxy, [],
        "Time until a name server answered, also that there is no such name or address.";
    DNS_FAILURES, "outproxy_dns_failures_total", Counter, Count, Outproxy, [DNS_FAILURE],
        "Questions to name servers that were not answered.";
    DNS_STALE_ANSWERS, "outproxy_dns_stale_answers_total", Counter, Count, Outproxy, [],
        "Times that an answer of a name server was used after its TTL.";
    INPROXY_CONNECTED, "inproxy_connected", Gauge, Count, Inproxy, [SIDE, ENCLAVE],
        "Whether the inproxy of an enclave is connected to tell of itself: 1 or 0.";
    INPROXY_LAST_HEARD, "inproxy_last_heard_timestamp_seconds", Gauge, Seconds, Inproxy, [SIDE, ENCLAVE],
        "When an enclave has last told something, in seconds since 1970.";
    INPROXY_UPTIME, "inproxy_uptime_seconds", Gauge, Seconds, Inproxy, [SIDE, ENCLAVE],
        "How long the inproxy of an enclave had run when it last told of itself.";
    INPROXY_CONNECTIONS_OPEN, "inproxy_connections_open", Gauge, Count, Inproxy, [SIDE, ENCLAVE],
        "Connections of an enclave's application that are open.";
    INPROXY_CONNECTIONS, "inproxy_connections_total", Counter, Count, Inproxy,
        [SIDE, ENCLAVE, OUTCOME_OR_OTHER],
        "Connections of an enclave's application that ended or could not be made.";
    INPROXY_BYTES, "inproxy_bytes_total", Counter, Bytes, Inproxy, [SIDE, ENCLAVE, DIRECTION],
        "Payload bytes of an enclave's connections that ended; seen from the application.";
    INPROXY_ACCEPT_ERRORS, "inproxy_accept_errors_total", Counter, Count, Inproxy, [SIDE, ENCLAVE],
        "Times that accept(2) failed in an enclave for want of something, and was tried again.";
    INPROXY_APPLICATION_RUNNING, "inproxy_application_running", Gauge, Count, Inproxy, [SIDE, ENCLAVE],
        "Whether an enclave's application runs and its inproxy is connected: 1 or 0.";
    INPROXY_LINES, "inproxy_lines_total", Counter, Count, Inproxy, [SIDE, ENCLAVE, SOURCE],
        "Lines of its log and of its application that an enclave has told.";
    INPROXY_LINES_DROPPED, "inproxy_lines_dropped_total", Counter, Count, Inproxy,
        [SIDE, ENCLAVE, WHERE],
        "Lines that an enclave had no room for, and lines that were too many for the host's log.";
    INPROXY_MALFORMED, "inproxy_malformed_total", Counter, Count, Inproxy, [SIDE, ENCLAVE],
        "Connections that ended since an enclave told something that makes no sense.";
    PROCESS_CPU, "process_cpu_seconds_total", Counter, Seconds, Outproxy, [],
        "Processor time that the process has used.";
    PROCESS_MAX_FDS, "process_max_fds", Gauge, Count, Outproxy, [],
        "How many file descriptors the process may have open.";
    PROCESS_MEMORY, "process_resident_memory_bytes", Gauge, Bytes, Outproxy, [],
        "Resident memory of the process.";
    PROCESS_OPEN_FDS, "process_open_fds", Gauge, Count, Outproxy, [],
        "How many file descriptors the process has open.";
    PROCESS_START, "process_start_time_seconds", Gauge, Seconds, Outproxy, [],
        "When the process started, in seconds since 1970.";
}

const CAUSE: LabelKey = LabelKey { key: "cause", values: Values::Closed(&["limit", "reader"]) };
const CID: LabelKey = LabelKey {
    key: "cid",
    values: Values::From(
        "the CID of the enclave, for the 64 that were last heard of; `other` for those before, `-` \
         for a client of a `tcp:` or `unix:` listener",
    ),
};
const CLUSTER: LabelKey =
    LabelKey { key: "cluster", values: Values::From("a `cloudhsm-cluster` of an `[[allow]]`") };
const CONNECT_ERROR: LabelKey = LabelKey {
    key: "error",
    values: Values::Closed(&["local", "refused", "timed-out", "unreachable"]),
};
const DESTINATION: LabelKey = LabelKey {
    key: "destination",
    values: Values::From(
        "an address in `hosts` of the rule, or of its cluster's HSMs, and a port of the rule",
    ),
};
const DIRECTION: LabelKey =
    LabelKey { key: "direction", values: Values::Closed(&["received", "sent"]) };
const DNS_FAILURE: LabelKey =
    LabelKey { key: "reason", values: Values::Closed(&["busy", "failed", "timed-out"]) };
const ENCLAVE: LabelKey = LabelKey {
    key: "cid",
    values: Values::From(
        "the CID of an enclave that tells of itself, 64 at most; `-` for all clients of `tcp:` and \
         `unix:` listeners together",
    ),
};
const HAZARD: LabelKey = LabelKey { key: "hazard", values: Values::Closed(&["vsock-data-loss"]) };
const MEMBER_STATE: LabelKey =
    LabelKey { key: "state", values: Values::Closed(&["allowed", "draining"]) };
const OUTCOME: LabelKey = LabelKey { key: "outcome", values: Values::Closed(OUTCOMES) };
const REASON: LabelKey = LabelKey { key: "reason", values: Values::Closed(REFUSAL_REASONS) };
const RESULT: LabelKey = LabelKey { key: "result", values: Values::Closed(&["failed", "ok"]) };
const OUTCOME_OR_OTHER: LabelKey = LabelKey {
    key: "outcome",
    values: Values::From("as of the tunnel's connections; `other` for words that are not known"),
};
const RULE: LabelKey = LabelKey {
    key: "rule",
    values: Values::From("the name of an `[[allow]]` of outproxy; empty where none allows it"),
};
const SIDE: LabelKey = LabelKey { key: "side", values: Values::Closed(&["enclave"]) };
const SOURCE: LabelKey =
    LabelKey { key: "source", values: Values::Closed(&["inproxy", "other", "stderr", "stdout"]) };
const VERSION: LabelKey = LabelKey { key: "version", values: Values::From("the program's own") };
const WHERE: LabelKey = LabelKey { key: "where", values: Values::Closed(&["enclave", "log"]) };

/// How a connection may end, or why there is none, in a word.
pub const OUTCOMES: &[&str] = &[
    "client-aborted",
    "denied",
    "disallowed",
    "down",
    "finished",
    "gone",
    "half-close-timeout",
    "idle-timeout",
    "limit",
    "malformed",
    "not-forwarded",
    "refused",
    "shutdown",
    "silent",
    "stopped",
    "unreachable",
    "upstream-aborted",
];

/// Why outproxy may refuse a connection, in a word.
pub const REFUSAL_REASONS: &[&str] = &[
    "address-prohibited",
    "cid-not-allowed",
    "client-gone",
    "connection-refused",
    "connection-timed-out",
    "destination-down",
    "dns-failed",
    "dns-no-address",
    "dns-timed-out",
    "enclave-limit",
    "host-not-allowed",
    "hsm-draining",
    "hsms-unknown",
    "limit",
    "local-error",
    "malformed",
    "no-enclave",
    "no-longer-allowed",
    "port-not-allowed",
    "rule-limit",
    "session-limit",
    "shutdown",
    "silent",
    "unreachable",
];

/// Tells the recorder of this process, or of this thread, what its metrics mean.
pub fn describe() {
    for Metric { name, kind, unit, help, .. } in CATALOGUE {
        match kind {
            Kind::Counter => describe_counter!(*name, *unit, *help),
            Kind::Gauge => describe_gauge!(*name, *unit, *help),
            Kind::Histogram => describe_histogram!(*name, *unit, *help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_customs_of_prometheus() {
        let mut names: Vec<_> = CATALOGUE.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CATALOGUE.len(), "no name stands for two metrics");
        for Metric { name, kind, unit, program, .. } in CATALOGUE {
            let of: &[_] = match program {
                Program::Inproxy => &["inproxy_"],
                // `process_` is that of every exporter.
                Program::Outproxy => &["outproxy_", "process_", "tunnel_"],
            };
            let is_known = of.iter().any(|prefix| name.starts_with(prefix));
            assert!(is_known, "{name} is none of {program:?}'s");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            let base = name.trim_end_matches("_total");
            match unit {
                Unit::Bytes => assert!(base.ends_with("_bytes"), "{name}"),
                Unit::Seconds => assert!(base.ends_with("_seconds"), "{name}"),
                Unit::Count => {}
                unit => panic!("{name} is measured in {unit:?}, which is no base unit"),
            }
        }
    }

    #[test]
    fn a_row_says_what_it_means_in_a_sentence() {
        for Metric { name, help, labels, .. } in CATALOGUE {
            assert!(help.starts_with(char::is_uppercase) && help.ends_with('.'), "{name}: {help}");
            for LabelKey { key, values } in *labels {
                match values {
                    Values::Closed(words) => assert!(!words.is_empty(), "{name}: {key}"),
                    Values::From(whence) => assert!(!whence.is_empty(), "{name}: {key}"),
                }
            }
        }
    }
}
