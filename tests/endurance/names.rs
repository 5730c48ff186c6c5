use crate::Trial;
use crate::report::Report;
pub(crate) fn names(_: Trial<'_>) -> Report {
    Report::default()
}
