//! What a doctor found: for people, and as JSON for scripts.

pub mod machine;
pub mod processes;

use std::borrow::Cow;
use std::fmt::{self, Write};

use serde::Serialize;

/// All that was looked at, in groups that follow each other. `D` is what scripts are told beside.
#[derive(Debug, Serialize)]
pub struct Examination<D> {
    /// The version of this document. What is added to it does not change the number.
    pub format: u32,
    /// The version of the program that made it.
    pub version: &'static str,
    /// The worst of all results, where what was skipped is no harm.
    pub result: Verdict,
    /// One after the other, as they are shown.
    pub findings: Vec<Placed<D>>,
}

/// A finding, and the group that it belongs to.
#[derive(Debug, Serialize)]
pub struct Placed<D> {
    /// What kind of group: one of few words.
    pub group: &'static str,
    /// Which of them, if there are several.
    pub name: Option<String>,
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding<D>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding<D = ()> {
    /// What it is.
    pub subject: String,
    /// How it is, in a word.
    pub result: Verdict,
    /// How it is, as far as that is not good, in another word: one of few.
    pub problem: Option<&'static str>,
    /// How it is, for people.
    pub found: String,
    /// What to do about it, if it is not good.
    pub advice: Option<Cow<'static, str>>,
    /// What else scripts may want to know.
    #[serde(flatten)]
    pub details: D,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Nobody knows: there was no way to look, or no need.
    Skipped,
    /// It works, but not well, or not for ever.
    Warning,
    /// It does not work.
    Failed,
}

impl<D> Examination<D> {
    /// One in which nothing was looked at yet, by a program of this version.
    #[must_use]
    pub fn new(version: &'static str) -> Self {
        Self { format: FORMAT, version, result: Verdict::Ok, findings: Vec::new() }
    }

    /// Adds findings at the end.
    pub fn add(
        &mut self,
        group: &'static str,
        name: Option<&str>,
        findings: impl IntoIterator<Item = Finding<D>>,
    ) {
        for finding in findings {
            if finding.result != Verdict::Skipped {
                self.result = self.result.max(finding.result);
            }
            self.findings.push(Placed { group, name: name.map(Into::into), finding });
        }
    }

    /// Whether nothing failed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.result != Verdict::Failed
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|placed| placed.finding.result == verdict).count()
    }
}

impl Finding {
    /// It is as it should be.
    #[must_use]
    pub fn ok(subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(subject, Verdict::Ok, found)
    }

    /// It was not looked at, for a reason that `found` tells.
    #[must_use]
    pub fn skipped(subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(subject, Verdict::Skipped, found)
    }

    /// It is not as it should be.
    #[must_use]
    pub fn warning(
        subject: impl Into<String>,
        problem: &'static str,
        found: impl Into<String>,
        advice: impl Into<Cow<'static, str>>,
    ) -> Self {
        let (problem, advice) = (Some(problem), Some(advice.into()));
        Self { problem, advice, ..Self::new(subject, Verdict::Warning, found) }
    }

    /// It does not work.
    #[must_use]
    pub fn failed(
        subject: impl Into<String>,
        problem: &'static str,
        found: impl Into<String>,
        advice: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { result: Verdict::Failed, ..Self::warning(subject, problem, found, advice) }
    }

    /// The same, but only a warning if so.
    #[must_use]
    pub fn excused_if(self, excused: bool) -> Self {
        match self.result {
            Verdict::Failed if excused => Self { result: Verdict::Warning, ..self },
            _ => self,
        }
    }

    fn new(subject: impl Into<String>, result: Verdict, found: impl Into<String>) -> Self {
        let (subject, found) = (subject.into(), found.into());
        Self { subject, result, problem: None, found, advice: None, details: () }
    }

    /// The same, with what scripts are told beside.
    #[must_use]
    pub fn with<D>(self, details: D) -> Finding<D> {
        let Self { subject, result, problem, found, advice, .. } = self;
        Finding { subject, result, problem, found, advice, details }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Failed => "failed",
        })
    }
}

impl<D> fmt::Display for Examination<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subjects = self.findings.iter().map(|placed| placed.finding.subject.chars().count());
        let width = subjects.max().unwrap_or_default().min(WIDEST);
        let mut above = None;
        for Placed { group, name, finding } in &self.findings {
            let place = (*group, name.as_deref());
            if above != Some(place) {
                let gap = if above.is_some() { "\n" } else { "" };
                let name = name.iter().flat_map(|name| [" ", name]).collect::<String>();
                writeln!(f, "{gap}{group}{name}")?;
                above = Some(place);
            }
            let Finding { subject, result, found, advice, .. } = finding;
            writeln!(f, "  {result:8} {:width$}  {}", Printable(subject), Printable(found))?;
            if let Some(advice) = advice {
                writeln!(f, "  {:8} {}", "", Printable(advice))?;
            }
        }
        let counts =
            [Verdict::Failed, Verdict::Warning, Verdict::Ok, Verdict::Skipped].map(|verdict| {
                let count = self.count(verdict);
                let plural = if verdict == Verdict::Warning && count != 1 { "s" } else { "" };
                (count > 0).then(|| format!("{count} {verdict}{plural}"))
            });
        writeln!(f, "\n{}", counts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// Text of which no byte moves the cursor of whoever reads it.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = String::new();
        for c in self.0.chars() {
            if c.is_control() {
                write!(shown, "{}", c.escape_default())?;
            } else {
                shown.push(c);
            }
        }
        f.pad(&shown)
    }
}

/// How long something took, for people.
#[must_use]
pub fn in_milliseconds(time: std::time::Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// How long something took, for scripts: in tenths of milliseconds.
#[must_use]
pub fn milliseconds(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

const FORMAT: u32 = 1;
/// What is longer than this pushes its own line to the right, and no other.
const WIDEST: usize = 40;

#[cfg(test)]
mod tests;
