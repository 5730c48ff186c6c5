//! Connection after connection, for hours.

use crate::Trial;
use crate::chain::{CLIENTS, Chain, MARGIN, VISITED, upstreams};
use crate::report::Report;

/// Each connects, exchanges, and closes.
pub(crate) fn soak(trial: Trial<'_>) -> Report {
    let mut report = Report::default();
    let upstreams = upstreams();
    let mut chain = Chain::start(trial.world, trial.seed, "", "");
    chain.warm_up(VISITED, &mut report);
    let ledger = chain.visit(VISITED, CLIENTS, trial.pick(20_000, 1_000_000));
    report.visits(&ledger, false);
    let [median, most] = [500, 999].map(|part| ledger.quantile(part));
    report.note(format!(
        "{} MB; a visit took {median:.1?} in the median, 1 of 1000 more than {most:.1?}",
        ledger.bytes / 1_000_000
    ));
    report.upstreams(&upstreams);
    chain.end(&mut report, MARGIN);
    report
}
