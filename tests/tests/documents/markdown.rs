//! As much of Markdown as these documents use.

/// A document, without what marks it up.
#[derive(Debug, Default)]
pub(crate) struct Markdown {
    /// What stands between fences, line by line, in which lines that end in `\` go on. Of a session,
    /// which has prompts, what was typed.
    pub(crate) code: Vec<String>,
    /// What stands in backticks, but not between fences.
    pub(crate) spans: Vec<String>,
    /// What the links lead to.
    pub(crate) links: Vec<String>,
    pub(crate) headings: Vec<Heading>,
}

#[derive(Debug)]
pub(crate) struct Heading {
    pub(crate) level: usize,
    pub(crate) title: String,
}

impl Markdown {
    pub(crate) fn parse(text: &str) -> Self {
        let mut markdown = Self::default();
        let mut prose = String::new();
        let mut is_code = false;
        let mut block = Vec::new();
        for line in text.lines() {
            if line.trim_start().starts_with("```") {
                is_code = !is_code;
                markdown.add_code(&std::mem::take(&mut block));
            } else if is_code {
                block.push(line);
            } else if let Some((marks, title)) = line.split_once("# ")
                && marks.chars().all(|mark| mark == '#')
            {
                let level = marks.len() + 1;
                markdown.headings.push(Heading { level, title: title.replace('`', "") });
            } else {
                prose.push_str(line);
                prose.push('\n');
            }
        }
        assert!(!is_code, "a fence is never closed");
        let spans = prose.split('`').skip(1).step_by(2);
        markdown.spans = spans.map(|span| span.replace('\n', " ")).collect();
        let targets = prose.split("](").skip(1);
        markdown.links = targets.filter_map(|rest| Some(rest.split_once(')')?.0.into())).collect();
        markdown
    }

    fn add_code(&mut self, block: &[&str]) {
        let is_session = block.iter().any(|line| line.starts_with("$ "));
        let mut goes_on = false;
        for line in block {
            let begun = self.code.last_mut().filter(|_| goes_on);
            let text = line.trim_end_matches('\\');
            match begun {
                Some(begun) => begun.push_str(text.trim_start()),
                None if is_session && !line.starts_with("$ ") => continue,
                None => self.code.push(text.into()),
            }
            goes_on = line.ends_with('\\');
        }
    }

    /// What a link names one of the headings by, as GitHub makes it.
    pub(crate) fn anchors(&self) -> impl Iterator<Item = String> {
        self.headings.iter().map(|heading| {
            let lower = heading.title.to_lowercase();
            let kept = lower.chars().filter(|&char| char.is_alphanumeric() || " -_".contains(char));
            kept.map(|char| if char == ' ' { '-' } else { char }).collect()
        })
    }
}

#[test]
fn a_document_falls_into_its_parts() {
    let text =
        "# A `b`?\nSee [it](C.md#d) and `e\nf`.\n```\n# no heading\ng \\\n  h\n```\n## I, j\n";
    let markdown = Markdown::parse(text);
    assert_eq!(markdown.code, ["# no heading", "g h"]);
    assert_eq!(markdown.spans, ["e f"]);
    assert_eq!(markdown.links, ["C.md#d"]);
    assert_eq!(markdown.anchors().collect::<Vec<_>>(), ["a-b", "i-j"]);
    let session = Markdown::parse("```\n$ a \\\n  b\nc\n```\n");
    assert_eq!(session.code, ["$ a b"]);
    assert_eq!(markdown.headings.iter().map(|heading| heading.level).sum::<usize>(), 3);
}
