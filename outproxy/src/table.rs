//! Tables for people.

use std::fmt;

/// Rows of cells, of which those of a column begin at the same place.
#[derive(Debug)]
pub struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// A table without rows but for its `head`.
    #[must_use]
    pub fn new(head: [&str; COLUMNS]) -> Self {
        Self { rows: vec![head.map(str::to_uppercase)] }
    }

    /// Adds a row at the end.
    pub fn add(&mut self, row: [String; COLUMNS]) {
        self.rows.push(row);
    }

    /// Whether there is nothing but the head.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }
}

impl<const COLUMNS: usize> fmt::Display for Table<COLUMNS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max();
        let widths: [_; COLUMNS] = std::array::from_fn(|column| width(column).unwrap_or_default());
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                line.push_str(&format!("{cell:width$}  "));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_with_their_last_word() {
        let mut table = Table::new(["rule", "open"]);
        table.add(["secretsmanager".into(), "12".into()]);
        table.add(["hsm".into(), String::new()]);
        assert_eq!(table.to_string(), "RULE            OPEN\nsecretsmanager  12\nhsm\n");
    }
}
