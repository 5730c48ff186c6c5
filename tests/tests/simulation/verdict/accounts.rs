//! Whether the log tells of every connection, and tells the truth: N6.

use std::collections::HashMap;

use super::super::journal::Line;
use super::super::record::{End, Record};
use super::model::{Model, SMALL, TOLERANCE};

pub(super) fn judge(record: &Record) -> Result<(), String> {
    let lines = &record.lines;
    let mut of_clients: HashMap<&str, Vec<&Line>> = HashMap::new();
    for line in lines.iter().filter(|line| line.of == "inproxy" && !line.field("client").is_empty())
    {
        of_clients.entry(line.field("client")).or_default().push(line);
    }
    let suppressed = |of: &str| -> u64 {
        let lines = lines.iter().filter(|line| line.of == of);
        lines.filter_map(|line| line.field("lines").parse::<u64>().ok()).sum()
    };
    let mut missing = 0;
    for (index, stream) in record.streams.iter().enumerate() {
        match of_clients.get(stream.name.as_str()).map(Vec::as_slice) {
            None => missing += 1,
            Some([line]) => judge_line(record, index, line)?,
            Some(lines) => return Err(format!("N6: stream {index} is in {lines:?}")),
        }
    }
    if missing != suppressed("inproxy") {
        return Err(format!("N6: inproxy's log lacks {missing} streams"));
    }
    let told =
        lines.iter().filter(|line| line.of == "outproxy" && !line.field("client").is_empty());
    let told = told.count() as u64 + suppressed("outproxy");
    if told != record.tallied {
        return Err(format!("N6: outproxy tells of {told} connections of {}", record.tallied));
    }
    Ok(())
}

fn judge_line(record: &Record, index: usize, line: &Line) -> Result<(), String> {
    let stream = &record.streams[index];
    let is_done = |end: &End| end.ended.is_some() && end.half_closed.is_some();
    let (client, upstream) = (is_done(&stream.client), is_done(&stream.upstream));
    let sent = stream.client.total_written().to_string();
    let received = stream.upstream.total_written().to_string();
    let counts = (line.field("sent"), line.field("received"));
    let is_finished = line.field("outcome") == "finished";
    // Where upstream was told of an abort, the client may have finished before the news came.
    if client && upstream && (!is_finished || counts != (&sent, &received))
        || is_finished && !client
    {
        return Err(format!("N6: stream {index}, {sent} sent, {received} received: {line:?}"));
    }
    Ok(())
}

/// Who does not say what he wants is told so, when his time is over.
pub(super) fn judge_loiterers(model: &Model<'_>) -> Result<(), String> {
    for loiterer in &model.record.loiterers {
        let (_, policy) = model.policy(loiterer.from);
        let due = loiterer.from + policy.header;
        if !model.is_steady(loiterer.from, due) || policy.most < SMALL {
            continue;
        }
        let is_punctual = (due..=due + TOLERANCE).contains(&loiterer.answered);
        if !is_punctual || !loiterer.answer.starts_with("HTTP/1.1 408 ") {
            return Err(format!("it is due at {due}: {loiterer:?}"));
        }
    }
    Ok(())
}
