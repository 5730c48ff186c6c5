//! Text from others on an operator's terminal.

/// A text in which nothing moves the cursor, changes the direction or looks like another line.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || reorders(c) {
            printable.extend(c.escape_unicode());
        } else {
            printable.push(c);
        }
    }
    printable
}

/// Separators of lines, marks of direction, and the byte order mark.
fn reorders(c: char) -> bool {
    matches!(c,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Lines of a name and a value, of which the values begin at the same place.
#[must_use]
pub fn lines(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// Rows of cells, of which those of a column begin at the same place.
#[must_use]
pub fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [_; COLUMNS] = std::array::from_fn(|column| width(column).unwrap_or_default());
    let mut table = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  "));
        table.push_str(cells.collect::<String>().trim_end());
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_fool_a_terminal_is_escaped() {
        let text = "k\u{1b}[31m\n\u{9b}1m\u{202e}\u{e9}\u{2028}";
        assert_eq!(printable(text), "k\\u{1b}[31m\\u{a}\\u{9b}1m\\u{202e}\u{e9}\\u{2028}");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["LABEL", "KIND"], ["\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", ""], ["k", "aes"]];
        let table = table(&rows.map(|row| row.map(str::to_owned)));
        assert_eq!(table, "LABEL   KIND\n\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\nk       aes\n");
        assert_eq!(lines(&[("a", "1".into()), ("bcd", "2".into())]), "a    1\nbcd  2\n");
    }
}
