//! What the doctors of both proxies find, and what they say to do.

pub(crate) mod inproxy;

use std::process::{Command, Output};

use serde_json::Value;

/// What a doctor found.
struct Examination {
    document: Value,
    code: Option<i32>,
}

impl Examination {
    /// Runs a command that prints JSON.
    fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let document = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{command:?}: {error}\n{}", text(&output)));
        Self { document, code: output.status.code() }
    }

    fn findings(&self) -> &[Value] {
        self.document["findings"].as_array().unwrap()
    }

    /// The finding of this subject, which must be the only one.
    fn find(&self, subject: &str) -> &Value {
        let mut found = self.findings().iter().filter(|finding| finding["subject"] == subject);
        let first = found.next().unwrap_or_else(|| panic!("`{subject}` in {:#}", self.document));
        assert!(found.next().is_none(), "more than one `{subject}` in {:#}", self.document);
        first
    }

    /// That the subject has this result, and this problem if it has any. Whoever has one is told
    /// what to do.
    fn assert(&self, subject: &str, result: &str, problem: Option<&str>) -> &Value {
        let finding = self.find(subject);
        let found = (finding["result"].as_str().unwrap(), finding["problem"].as_str());
        assert_eq!(found, (result, problem), "{finding:#}");
        assert_eq!(finding["advice"].is_string(), problem.is_some(), "{finding:#}");
        finding
    }
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}
