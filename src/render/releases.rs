//! Releases of backends as a table.

use super::style::Style;
use super::table::table;

/// Renders backends with their release and what is known of newer ones.
pub fn release_table(rows: &[[String; 3]], style: Style) -> String {
    if rows.is_empty() {
        return "there are no such backends\n".to_owned();
    }
    table(["NAME", "RELEASE", ""], rows, style)
}
