use crate::Trial;
use crate::report::Report;
pub(crate) fn upstreams(_: Trial<'_>) -> Report {
    Report::default()
}
