//! What is counted of a rule's connections as long as they last.

use std::sync::Arc;

use metrics::{Histogram, counter, histogram};
use tunnel::metrics as names;
use tunnel::traffic::Traffic;

use crate::allowlist::RuleName;

/// The meters of the rules of one name: those that a reload brings go on where these are.
#[derive(Clone, Debug)]
pub struct Meters {
    /// Their bytes.
    pub traffic: Arc<Traffic>,
    /// How long it takes to connect to what they allow.
    pub connect_seconds: Histogram,
}

impl Meters {
    /// Those of the rule of this name, which are shown from now on.
    #[must_use]
    pub fn of(rule: &RuleName) -> Self {
        let bytes = |direction: &'static str| counter!(names::BYTES, "rule" => rule.to_string(), "direction" => direction);
        Self {
            traffic: Arc::new(Traffic::new(bytes("sent"), bytes("received"))),
            connect_seconds: histogram!(names::CONNECT_SECONDS, "rule" => rule.to_string()),
        }
    }
}
