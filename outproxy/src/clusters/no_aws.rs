//! Stands where the builds with the feature `cloudhsm` have AWS's SDK. No configuration leads here, see
//! [`IS_AVAILABLE`](super::IS_AVAILABLE).

use super::{Api, Cluster, Fault, Hsm};

/// There is none, so that all that would ask it is no part of the program.
#[derive(Debug)]
pub(super) enum Aws {}

impl Aws {
    pub(super) fn new(_: &Cluster) -> Option<Self> {
        None
    }
}

impl Api for Aws {
    async fn hsms(&self) -> Result<Vec<Hsm>, Fault> {
        match *self {}
    }
}
