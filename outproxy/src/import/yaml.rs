//! The allowlist of AWS's vsock-proxy, as in vsock-proxy.yaml.
//!
//! It is read event by event: an alias is one event, so what it would stand for is never built, and
//! nothing is deeper than a counter.

use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use saphyr_parser::{Event, Parser, Span, StrInput};
use tunnel::config::Mistakes;
use tunnel::import::comment;
use tunnel::import::source::Source;

use super::Entry;

/// Reads the allowlist of a file.
pub(super) fn read(source: &mut Source) -> Vec<Entry> {
    let text = source.text.clone();
    let mut mistakes = Mistakes::default();
    let mut reader = Reader {
        events: Parser::new_from_str(&text),
        places: text.char_indices().map(|(place, _)| place).chain([text.len()]).collect(),
        text: &text,
        mistakes: &mut mistakes,
        ignored: Vec::new(),
        entries: Vec::new(),
        end: 0,
    };
    reader.document();
    let Reader { entries, ignored, .. } = reader;
    for at in ignored {
        let key = comment(&text[at.clone()]);
        source.note(&at, format!("`{key}` means nothing to vsock-proxy, and is left out"));
    }
    source.mistakes.append(mistakes);
    entries
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
    text: &'a str,
    /// Where each character begins, in bytes.
    places: Vec<usize>,
    mistakes: &'a mut Mistakes,
    /// Keys that mean nothing.
    ignored: Vec<Range<usize>>,
    entries: Vec<Entry>,
    /// Up to where comments belong to an entry already.
    end: usize,
}

/// Nothing more can be read: what is wrong is known.
type Stopped = Option<()>;

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<(Event<'a>, Range<usize>)> {
        match self.events.next()? {
            Ok((event, span)) => Some((event, self.place(span))),
            Err(error) => {
                let start = error.marker().index();
                let at = self.places.get(start).copied().unwrap_or(self.text.len());
                self.mistakes.add(at..at, format!("this is not YAML: {}", error.info()));
                None
            }
        }
    }

    fn place(&self, span: Span) -> Range<usize> {
        let place = |index: usize| self.places.get(index).copied().unwrap_or(self.text.len());
        let start = place(span.start.index());
        start..place(span.end.index()).max(start)
    }

    /// Of several documents vsock-proxy reads the first one.
    fn document(&mut self) -> Stopped {
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentStart(_), _) => {}
                (Event::MappingStart(..), _) => return self.top(),
                (_, at) => {
                    self.mistakes.add(
                        at,
                        "this is no allowlist of vsock-proxy; write `allowlist:`, and below it \
                         `- {address: kms.us-east-1.amazonaws.com, port: 443}`",
                    );
                    return None;
                }
            }
        }
    }

    fn top(&mut self) -> Stopped {
        let mut is_there = false;
        loop {
            match self.next()? {
                (Event::MappingEnd, at) => {
                    if !is_there {
                        self.mistakes
                            .add(at.start..at.start, "there is no `allowlist:`; write one");
                    }
                    return Some(());
                }
                (Event::Scalar(key, ..), at) if key == "allowlist" || key == "whitelist" => {
                    self.end = at.end;
                    if is_there {
                        self.mistakes.add(at, "there is a second allowlist; write one");
                    }
                    is_there = true;
                    self.list()?;
                }
                (key, at) => self.ignore(&key, at)?,
            }
        }
    }

    fn list(&mut self) -> Stopped {
        match self.next()? {
            (Event::SequenceStart(..), _) => {}
            (event, at) => {
                self.mistakes.add(
                    at,
                    "this is no list; write `- {address: kms.us-east-1.amazonaws.com, port: 443}`",
                );
                return self.skip(&event);
            }
        }
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Some(()),
                (Event::MappingStart(..), at) => self.entry(&at)?,
                (event, at) => {
                    self.mistakes.add(
                        at,
                        "this is no entry; write it as in \
                         `- {address: kms.us-east-1.amazonaws.com, port: 443}`",
                    );
                    self.skip(&event)?;
                }
            }
        }
    }

    fn entry(&mut self, start: &Range<usize>) -> Stopped {
        let mut comments = self.comments_before(start);
        let (mut host, mut port) = (None, None);
        let (mut has_host, mut has_port) = (false, false);
        loop {
            match self.next()? {
                (Event::MappingEnd, at) => {
                    let is_flow = self.text[at.start..].starts_with('}');
                    comments.extend(self.remark(at.start + usize::from(is_flow)));
                    break;
                }
                (Event::Scalar(key, ..), _) if key == "address" => {
                    has_host = true;
                    host = self.value(&mut comments)?;
                }
                (Event::Scalar(key, ..), _) if key == "port" => {
                    has_port = true;
                    port = self.value(&mut comments)?;
                }
                (key, at) => self.ignore(&key, at)?,
            }
        }
        for (key, is_there) in [("address", has_host), ("port", has_port)] {
            if !is_there {
                self.mistakes.add(start.clone(), format!("this entry has no `{key}`; write one"));
            }
        }
        if let (Some(host), Some(port)) = (host, port) {
            self.entries.push(Entry { host, port, comments });
        }
        Some(())
    }

    /// The value of a key, if it is right.
    fn value<T>(&mut self, comments: &mut Vec<String>) -> Option<Option<T>>
    where
        T: FromStr<Err: Display>,
    {
        let (event, at) = self.next()?;
        let mistake = match &event {
            Event::Scalar(text, ..) => match text.parse() {
                Ok(value) => {
                    comments.extend(self.remark(self.end_of(&at)));
                    return Some(Some(value));
                }
                Err(error) => explain(text, &error.to_string()),
            },
            Event::Alias(_) => "this stands for something else; write that itself".into(),
            _ => "this is neither an address nor a port; write one".into(),
        };
        self.mistakes.add(at, mistake);
        self.skip(&event)?;
        Some(None)
    }

    /// Passes over a key and its value.
    fn ignore(&mut self, key: &Event<'a>, at: Range<usize>) -> Stopped {
        self.ignored.push(at);
        self.skip(key)?;
        let (value, _) = self.next()?;
        self.skip(&value)
    }

    /// Passes over the rest of what began with `event`.
    fn skip(&mut self, event: &Event<'a>) -> Stopped {
        let mut depth = 0_usize;
        let mut deepen = |event: &Event<'a>| {
            match event {
                Event::MappingStart(..) | Event::SequenceStart(..) => depth += 1,
                Event::MappingEnd | Event::SequenceEnd => depth -= 1,
                _ => {}
            }
            depth
        };
        let mut depth = deepen(event);
        while depth > 0 {
            depth = deepen(&self.next()?.0);
        }
        Some(())
    }

    /// The lines of comments between the last entry and this one.
    fn comments_before(&mut self, start: &Range<usize>) -> Vec<String> {
        let between = self.text.get(self.end..start.start).unwrap_or_default();
        self.end = start.start;
        between.lines().skip(1).filter_map(remark).collect()
    }

    /// The end of a scalar that has no quote in it. What the parser says of a quoted one includes
    /// the comment behind it.
    fn end_of(&self, at: &Range<usize>) -> usize {
        let text = &self.text[at.clone()];
        let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
        let close = quote.and_then(|quote| text[1..].find(quote));
        close.map_or(at.end, |close| at.start + close + 2)
    }

    /// The comment at the end of the line.
    fn remark(&mut self, end: usize) -> Option<String> {
        let rest = self.text[end..].trim_start_matches([' ', '\t']);
        if end < self.end || !rest.starts_with('#') {
            return None;
        }
        let line = rest.lines().next()?;
        self.end = self.text.len() - rest.len() + line.len();
        remark(line)
    }
}

/// vsock-proxy lets a port overflow.
fn explain(text: &str, error: &str) -> String {
    match text.parse::<u32>() {
        Ok(port) if port > u32::from(u16::MAX) && error.contains("out of range") => {
            format!("{error} (vsock-proxy takes it for {})", port & u32::from(u16::MAX))
        }
        _ => error.to_owned(),
    }
}

fn remark(line: &str) -> Option<String> {
    let remark = comment(line.trim_start().strip_prefix('#')?);
    (!remark.is_empty()).then_some(remark)
}
