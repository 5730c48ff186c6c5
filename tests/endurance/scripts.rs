//! Random scripts.

use tests::patience::patience;
use tests::scripts::{limits, perform};

use crate::Trial;
use crate::chain::{Chain, MARGIN};
use crate::report::Report;

/// What both ends do is random, and so is when.
pub(crate) fn scripts(trial: Trial<'_>) -> Report {
    let mut report = Report::default();
    let mut chain = Chain::start(trial.world, trial.seed, &limits(), &limits());
    // Aborts that could not be told end by the time-outs of both, one after the other.
    chain.rest = 3 * patience();
    let count = trial.pick(4000, 1_000_000);
    let (mut crossed, mut next) = (0, trial.seed);
    // The first are for it to have used once what it will use.
    for size in [500, count] {
        let verdicts = perform(trial.world, next..next + size, CONCURRENT);
        next += size;
        crossed += verdicts.crossed.len();
        report.hold(verdicts.hold(), || verdicts.shortest().to_owned());
        report.done("scripts", size);
        chain.count(size);
        if size < count {
            chain.settle(&mut report);
        }
    }
    if crossed > 0 {
        report.note(format!("in {crossed} an abort crossed an end of a raw tunnel"));
    }
    chain.end(&mut report, 2 * MARGIN);
    report
}

/// How many are performed at once: some take as long as a time-out.
const CONCURRENT: usize = 400;
