//! Tables of words, as narrow as their content.

use super::sanitize::sanitize_line as harmless;
use super::style::Style;

/// The rows below their header, columns two blanks apart.
pub(super) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]], style: Style) -> String {
    let rows: Vec<[_; N]> = rows.iter().map(|row| row.each_ref().map(|cell| harmless(cell))).collect();
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut text = format!("{}\n", style.dim(&line(header)));
    for row in &rows {
        text.push_str(&line(std::array::from_fn(|column| &*row[column])));
        text.push('\n');
    }
    text
}
