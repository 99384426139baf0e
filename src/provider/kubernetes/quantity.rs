//! Quantities: the API server writes the same amount in several ways, so they are compared as numbers. Pure.

use crate::model::{ByteSize, Cpus};

/// Thousandths per unit of each suffix.
const SUFFIXES: [(&str, f64); 13] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
];

/// Returns a quantity in thousandths, rounded; none for what is no quantity.
pub(super) fn milli(text: &str) -> Option<i128> {
    let text = text.trim();
    let (number, factor) = SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| text.strip_suffix(suffix).map(|number| (number, *factor)))
        .unwrap_or((text, 1.0));
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let value: f64 = number.parse().ok().filter(|_| is_number)?;
    let scaled = (value * factor * 1000.0).round();
    #[allow(clippy::cast_possible_truncation, reason = "the bound is checked")]
    (scaled.is_finite() && scaled.abs() < 1e30).then_some(scaled as i128)
}

/// Returns whether two quantities are the same amount.
pub(super) fn equal(one: &str, other: &str) -> bool {
    one == other || matches!((milli(one), milli(other)), (Some(one), Some(other)) if one == other)
}

/// Returns processors as the API writes them.
pub(super) fn of_cpus(cpus: Cpus) -> String {
    let milli = cpus.milli();
    if milli.is_multiple_of(1000) { (milli / 1000).to_string() } else { format!("{milli}m") }
}

/// Returns bytes as the API writes them.
pub(super) fn of_bytes(size: ByteSize) -> String {
    let bytes = size.bytes();
    for (unit, suffix) in [(1_u64 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")] {
        if bytes > 0 && bytes.is_multiple_of(unit) {
            return format!("{}{suffix}", bytes / unit);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_amount_is_equal_however_it_is_written() {
        for (one, other) in [("1000m", "1"), ("0.1", "100m"), ("65536Ki", "64Mi"), ("1024Mi", "1Gi"), ("1e3", "1k"), ("x", "x")]
        {
            assert!(equal(one, other), "{one} {other}");
        }
        for (one, other) in [("1", "2"), ("1G", "1Gi"), ("x", "y"), ("", "0"), ("1Gi", "x")] {
            assert!(!equal(one, other), "{one} {other}");
        }
    }

    #[test]
    fn amounts_are_written_in_the_largest_unit_that_holds() {
        let size = |text: &str| of_bytes(ByteSize::parse(text).unwrap());
        assert_eq!([size("2 GiB"), size("1.5 GiB"), size("1000 B")], ["2Gi", "1536Mi", "1000"]);
    }
}
