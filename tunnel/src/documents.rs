//! What a command says of itself: its manual page and the completions of shells, made of the
//! description of its command line, and of chapters that say what is beside that.

use std::fmt::Write as _;

use clap::{Command, CommandFactory, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

/// The actions that every command of the suite has.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Document {
    /// Print a script that completes this command's arguments in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, in roff
    Man,
}

impl Document {
    /// The text, for the command that `C` parses.
    #[must_use]
    pub fn text<C: CommandFactory>(self, page: &Page<'_>) -> String {
        match self {
            Self::Completions { shell } => completions(C::command(), shell),
            Self::Man => manual(C::command(), page),
        }
    }
}

/// What the manual page has beside the command line.
#[derive(Debug)]
pub struct Page<'a> {
    /// 1 for the commands of users, 8 for those of administrators.
    pub section: u8,
    /// What comes behind the options.
    pub chapters: &'a [Chapter<'a>],
    /// Pages to go on with: their names and sections.
    pub see_also: &'a [(&'a str, u8)],
}

/// A part of the manual page that is also part of `--help`.
#[derive(Debug)]
pub struct Chapter<'a> {
    /// As in `Exit status`.
    pub title: &'a str,
    /// What it says.
    pub body: Body<'a>,
}

/// What a chapter says.
#[derive(Debug)]
pub enum Body<'a> {
    /// Lines that stay as they are.
    Lines(&'a str),
    /// Words, and what each of them means.
    Terms(&'a [(&'a str, &'a str)]),
    /// Paragraphs, with empty lines between them.
    Text(&'a str),
}

/// The chapters as `--help` shows them.
#[must_use]
pub fn help(chapters: &[Chapter<'_>]) -> String {
    let mut help = String::new();
    for chapter in chapters {
        let body = match &chapter.body {
            Body::Lines(text) | Body::Text(text) => indent(text),
            Body::Terms(terms) => indent(&terms.iter().map(define).collect::<String>()),
        };
        let gap = if help.is_empty() { "" } else { "\n" };
        let _ = writeln!(help, "{gap}{}:\n  {body}", chapter.title);
    }
    help.trim_end().to_owned()
}

fn indent(text: &str) -> String {
    text.trim_end().replace('\n', "\n  ").replace("\n  \n", "\n\n")
}

/// A short term stands before what it means, a long one above.
fn define((term, meaning): &(&str, &str)) -> String {
    let hanging = " ".repeat(HANGING);
    let mut text = format!("{term:width$}", width = HANGING);
    if term.chars().count() >= HANGING {
        text = format!("{term}\n{hanging}");
    }
    let mut column = HANGING;
    for word in meaning.split_whitespace() {
        column += word.chars().count() + 1;
        if column > WIDTH {
            column = HANGING + word.chars().count() + 1;
            text = format!("{}\n{hanging}", text.trim_end());
        }
        text.push_str(word);
        text.push(' ');
    }
    format!("{}\n", text.trim_end())
}

fn completions(mut command: Command, shell: Shell) -> String {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// One page for all actions.
fn manual(mut command: Command, page: &Page<'_>) -> String {
    command.build();
    let mut text = title(&command, page.section) + &beginning(&mut command);
    let man = Man::new(command.clone());
    let mut sections = Vec::new();
    // Writing into memory does not fail.
    let _ = man.render_description_section(&mut sections);
    let _ = man.render_options_section(&mut sections);
    text.push_str(&tidy(&sections));
    let mut actions = command.get_subcommands().filter(|action| is_shown(action)).peekable();
    if actions.peek().is_some() {
        let heading = command.get_subcommand_help_heading().unwrap_or("Commands");
        text.push_str(&Roff::new().control("SH", [heading.to_uppercase().as_str()]).to_roff());
    }
    for action in actions {
        text.push_str(&describe(action));
    }
    for chapter in page.chapters {
        text.push_str(&render(chapter));
    }
    text + &see_also(page.see_also)
}

/// With a date, since mandoc(1) wants one.
fn title(command: &Command, section: u8) -> String {
    let source = format!("{} {}", command.get_name(), command.get_version().unwrap_or_default());
    let manual = if section == 8 { "System Manager's Manual" } else { "User Commands" };
    format!(".TH {} {section} {DATE} \"{source}\" \"{manual}\"\n", command.get_name())
}

/// What apropos(1) looks for begins with a small letter.
fn beginning(command: &mut Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut letters = about.chars();
    let about: String =
        letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect();
    let mut text = Roff::new();
    text.control("SH", ["NAME"]).text([roman(format!("{} - {about}", command.get_name()))]);
    text.control("SH", ["SYNOPSIS"]).text([bold(usage(command))]);
    text.to_roff()
}

fn usage(command: &mut Command) -> String {
    let usage = command.render_usage().to_string();
    usage.trim_start_matches("Usage: ").to_owned()
}

fn is_shown(action: &Command) -> bool {
    !action.is_hide_set() && action.get_name() != "help"
}

/// An action is a section of its own, with the options that only it has.
fn describe(action: &Command) -> String {
    let mut own = action.clone().mut_args(|arg| {
        let hidden = arg.is_global_set() || arg.get_id() == "help";
        arg.hide(hidden)
    });
    let synopsis = usage(&mut own);
    let mut sections = Vec::new();
    let man = Man::new(own);
    let _ = man.render_description_section(&mut sections);
    let _ = man.render_options_section(&mut sections);
    let body = tidy(&sections);
    let body = body.lines().filter(|line| !line.starts_with(".SH "));
    let mut text = Roff::new();
    text.control("SS", [action.get_name().replace('-', r"\-").as_str()]);
    text.text([bold(synopsis)]);
    text.control("PP", []);
    text.to_roff() + &body.fold(String::new(), |body, line| body + line + "\n")
}

fn render(chapter: &Chapter<'_>) -> String {
    let mut text = Roff::new();
    text.control("SH", [chapter.title.to_uppercase().as_str()]);
    match &chapter.body {
        Body::Lines(lines) => {
            text.control("nf", []);
            for line in lines.trim_end().lines() {
                text.text([roman(line)]);
            }
            text.control("fi", []);
        }
        Body::Terms(terms) => {
            for (term, meaning) in *terms {
                text.control("TP", []);
                text.text([bold(*term)]);
                text.text([roman(*meaning)]);
            }
        }
        Body::Text(paragraphs) => {
            for (index, paragraph) in paragraphs.trim_end().split("\n\n").enumerate() {
                if index > 0 {
                    text.control("PP", []);
                }
                text.text([roman(paragraph)]);
            }
        }
    }
    // A bare apostrophe would be typeset as a quote, which no shell takes.
    text.to_roff().replace('\'', r"\(aq")
}

fn see_also(pages: &[(&str, u8)]) -> String {
    let mut line: Vec<Inline> = Vec::new();
    for (index, (name, section)) in pages.iter().enumerate() {
        line.extend((index > 0).then(|| roman(", ")));
        line.extend([italic(*name), roman(format!("({section})"))]);
    }
    Roff::new().control("SH", ["SEE ALSO"]).text(line).to_roff()
}

/// Each part of a page begins with the definition of an apostrophe, where the apostrophe alone does;
/// and possible values are set apart by breaks around a line without text, of which mandoc(1) warns.
fn tidy(sections: &[u8]) -> String {
    let text = String::from_utf8_lossy(sections);
    let defines = |line: &&str| line.starts_with(".ie \\n(.g") || line.starts_with(".el .ds Aq");
    let lines = text.lines().filter(|line| !defines(line));
    lines
        .fold(String::new(), |text, line| text + &line.replace(r"\*(Aq", r"\(aq") + "\n")
        .replace("\n.br\n\n.br\n", "\n.sp\n")
}

/// How far a meaning stands from the beginning of its term, in characters.
const HANGING: usize = 9;

/// How wide the help may be, without its indentation.
const WIDTH: usize = 78;

/// When the pages were last changed.
const DATE: &str = "2026-11-29";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    /// Does things.
    ///
    /// In two paragraphs.
    #[derive(Debug, Parser)]
    #[command(name = "thing", version = "1.2", after_long_help = help(PAGE.chapters))]
    struct Cli {
        /// Where it is
        #[arg(long, global = true, default_value = "/etc/thing.toml")]
        _config: String,
        #[command(subcommand)]
        _command: Option<Action>,
    }

    #[derive(Debug, Subcommand)]
    enum Action {
        /// Do it twice
        DoTwice {
            /// What isn't known
            what: String,
        },
        #[command(hide = true)]
        Secret,
        #[command(flatten)]
        Document(Document),
    }

    const PAGE: Page<'_> = Page {
        section: 8,
        chapters: &[
            Chapter {
                title: "Exit status",
                body: Body::Terms(&[("0", "good"), ("78", "not-good")]),
            },
            Chapter { title: "Files", body: Body::Text("One.\n\n.Two and 'three'.\n") },
            Chapter { title: "Examples", body: Body::Lines("a \\\n  b -c\n") },
        ],
        see_also: &[("thing.toml", 5), ("other", 8)],
    };

    #[test]
    fn a_page_has_actions_and_chapters_and_nothing_that_is_hidden() {
        let page = Document::Man.text::<Cli>(&PAGE);
        for words in [
            ".TH thing 8 20",
            "\n.SH NAME\nthing \\- does things\n.SH SYNOPSIS\n\\fBthing [OPTIONS] [COMMAND]",
            "\"thing 1.2\" \"System Manager's Manual\"\n",
            "\n.SH COMMANDS\n.SS do\\-twice\n\\fBthing do\\-twice",
            "isn\\(aqt",
            "\n.SH \"EXIT STATUS\"\n.TP\n\\fB0\\fR\ngood\n.TP\n\\fB78\\fR\nnot\\-good\n",
            "\n.SH FILES\nOne.\n.PP\n\\&.Two and \\(aqthree\\(aq.\n",
            "\n.nf\na \\\\\n  b \\-c\n.fi\n",
            "\n.SH \"SEE ALSO\"\n\\fIthing.toml\\fR(5), \\fIother\\fR(8)\n",
        ] {
            assert!(page.contains(words), "{words:?}\n{page}");
        }
        assert!(!page.contains("secret") && !page.contains(".ie "), "{page}");
    }

    #[test]
    fn the_chapters_are_part_of_the_help() {
        let help = Cli::command().render_long_help().to_string();
        let expected = "Exit status:\n  0        good\n  78       not-good\n\nFiles:\n  One.\n\n  .Two and 'three'.\n\n\
                        Examples:\n  a \\\n    b -c\n";
        assert!(help.ends_with(expected), "{help}");
    }

    #[test]
    fn shells_complete_what_is_not_hidden() {
        let script = Document::Completions { shell: Shell::Bash }.text::<Cli>(&PAGE);
        assert!(script.contains("do-twice") && script.contains(" thing\n"), "{script}");
    }
}
