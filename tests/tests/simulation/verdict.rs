//! A day, held against what is promised.

mod accounts;
mod life;
mod model;
mod names;
mod opening;

use super::plan::Plan;
use super::record::Record;
use model::Model;

/// All that was not as it should be.
pub(crate) fn judge(plan: &Plan, record: &Record) -> Vec<String> {
    let model = Model { plan, record };
    let mut broken = record.broken.clone();
    for (index, stream) in record.streams.iter().enumerate() {
        let verdicts = [
            opening::judge(&model, index, stream),
            life::judge(&model, index, stream),
            names::judge(&model, index, stream),
        ];
        for verdict in verdicts {
            broken.extend(verdict.err().map(|reason| format!("stream {index}: {reason}")));
        }
    }
    broken.extend(names::judge_dialled(&model).err());
    broken.extend(accounts::judge(record).err());
    broken.extend(accounts::judge_loiterers(&model).err());
    broken
}
