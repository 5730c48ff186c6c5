//! What the proxies log.

use std::collections::BTreeMap;
use std::fmt::Debug;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::plan::Ms;
use super::record::Recorder;

/// A line of the log.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) at: Ms,
    /// Which proxy.
    pub(crate) of: &'static str,
    pub(crate) fields: BTreeMap<&'static str, String>,
}

impl Line {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// Takes down what both proxies log.
#[derive(Clone, Debug)]
pub(crate) struct Journal(pub(crate) Recorder);

impl Subscriber for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && of(metadata).is_some()
    }

    fn event(&self, event: &Event<'_>) {
        if let Some(of) = of(event.metadata()) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            let at = self.0.now();
            self.0.lock().lines.push(Line { at, of, fields: fields.0 });
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn of(metadata: &Metadata<'_>) -> Option<&'static str> {
    ["inproxy", "outproxy"].into_iter().find(|name| metadata.target().starts_with(name))
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}
