//! Tables and lists of facts, as plain text with aligned columns. Every cell is made safe to print here.

use anstyle::Style;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

use super::sanitise::line;
use super::{FAINT, Look, STRONG};

/// A row and how it stands out.
#[derive(Debug)]
pub struct Row {
    pub cells: Vec<String>,
    pub style: Style,
}

/// Rows under a header. Nothing is wrapped or cut: lines are for people and for `grep`.
pub fn table(look: &Look, header: &[&str], rows: &[Row]) -> String {
    let mut lines = aligned(
        std::iter::once(header.iter().map(ToString::to_string).collect())
            .chain(rows.iter().map(|row| row.cells.iter().map(|cell| shown(cell)).collect())),
    )
    .into_iter();
    let mut text = look.paint(STRONG, &lines.next().unwrap_or_default());
    for (line, row) in lines.zip(rows) {
        text.push('\n');
        text.push_str(&look.paint(row.style, &line));
    }
    text
}

/// Facts with their labels before them; empty ones are left out. Lines of a fact stay below each other.
pub fn facts(look: &Look, facts: &[(&str, String)]) -> String {
    let there: Vec<_> = facts.iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = there.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (label, value) in there {
        for (at, part) in value.lines().enumerate() {
            let label = if at == 0 { *label } else { "" };
            text.push_str(&look.paint(FAINT, &format!("{label:width$}")));
            text.push_str(&format!("  {}\n", line(part)));
        }
    }
    text
}

fn shown(cell: &str) -> String {
    if cell.is_empty() { "-".to_owned() } else { line(cell).into_owned() }
}

fn aligned(rows: impl Iterator<Item = Vec<String>>) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    for row in rows {
        table.add_row(row);
    }
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Row {
        Row { cells: cells.iter().map(ToString::to_string).collect(), style: Style::new() }
    }

    #[test]
    fn columns_are_aligned_and_cells_are_safe() {
        let rows = [row(&["a", "ready", ""]), row(&["longer-name", "\u{1b}[31mred", "山 x\ny"])];
        insta::assert_snapshot!(table(&Look::default(), &["NAME", "STATE", "DETAIL"], &rows), @r"
        NAME         STATE        DETAIL
        a            ready        -
        longer-name  \x1b[31mred  山 x\ny
        ");
    }

    #[test]
    fn facts_have_labels_and_empty_ones_are_left_out() {
        let list =
            [("name", "fix".to_owned()), ("node", String::new()), ("conditions", "one\ntwo".to_owned())];
        insta::assert_snapshot!(facts(&Look::default(), &list), @r"
        name        fix
        conditions  one
                    two
        ");
    }
}
