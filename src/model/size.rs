//! Amounts of memory, disk and processor.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount of memory or disk, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ByteSize(u64);

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// The text does not start with a number.
    #[error("a size is a number and a unit, such as `2 GiB` or `512MB`")]
    NoNumber,
    /// The unit is missing or unknown.
    #[error("`{unit}` is not a unit of size; the units are B, KB, MB, GB, TB and KiB, MiB, GiB, TiB")]
    Unit {
        /// The unit as written.
        unit: String,
    },
    /// The amount is zero.
    #[error("a size is more than zero")]
    Zero,
    /// The amount does not fit into 64 bits, or is not a whole number of bytes.
    #[error("the size is not a whole number of bytes below 8 EiB")]
    Range,
}

const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

impl ByteSize {
    /// An amount in bytes.
    pub fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The amount in bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// Parses `2 GiB`, `512MB`, `1.5 GiB`; units are read without regard to case.
    ///
    /// # Errors
    /// [`SizeError`] says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, SizeError> {
        let text = text.trim();
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = (&text[..split], text[split..].trim());
        if number.is_empty() || number.starts_with('.') || number.ends_with('.') || number.matches('.').count() > 1 {
            return Err(SizeError::NoNumber);
        }
        let factor = UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .map(|(_, factor)| *factor)
            .ok_or_else(|| SizeError::Unit { unit: unit.to_owned() })?;
        let bytes = decimal_times(number, factor).ok_or(SizeError::Range)?;
        match bytes {
            0 => Err(SizeError::Zero),
            bytes if bytes > i64::MAX as u64 => Err(SizeError::Range),
            bytes => Ok(Self(bytes)),
        }
    }

    /// The sum, at most the largest amount.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// `number × factor` exactly, for a decimal number; `None` when the product is no whole number or too large.
fn decimal_times(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u128 = whole.parse().ok()?;
    let mut total = whole.checked_mul(u128::from(factor))?;
    if !fraction.is_empty() {
        let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let part = fraction.parse::<u128>().ok()?.checked_mul(u128::from(factor))?;
        if part % scale != 0 {
            return None;
        }
        total = total.checked_add(part / scale)?;
    }
    u64::try_from(total).ok()
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS
            .iter()
            .skip(5)
            .chain(UNITS[1..5].iter())
            .filter(|(_, factor)| self.0.is_multiple_of(*factor))
            .max_by_key(|(_, factor)| *factor);
        match unit {
            Some((name, factor)) if self.0 > 0 => f.pad(&format!("{} {name}", self.0 / factor)),
            _ => f.pad(&format!("{} B", self.0)),
        }
    }
}

impl TryFrom<String> for ByteSize {
    type Error = SizeError;
    fn try_from(text: String) -> Result<Self, SizeError> {
        Self::parse(&text)
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> String {
        size.to_string()
    }
}

/// An amount of processor, in thousandths of one core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Cpus(u32);

impl Cpus {
    /// From a number of cores, such as `0.5`; `None` when it is not above zero, above 1,024, or finer than a thousandth.
    pub fn from_cores(cores: f64) -> Option<Self> {
        let milli = cores * 1000.0;
        if !(1.0..=1_024_000.0).contains(&milli) || (milli - milli.round()).abs() > 1e-6 {
            return None;
        }
        // In range by the check above, so the conversion is exact.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Some(Self(milli.round() as u32))
    }

    /// From thousandths of one core.
    pub fn from_milli(milli: u32) -> Self {
        Self(milli)
    }

    /// Returns the number of cores.
    pub fn cores(self) -> f64 {
        f64::from(self.0) / 1000.0
    }

    /// Thousandths of one core.
    pub fn milli(self) -> u32 {
        self.0
    }

    /// The sum, at most the largest amount.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        f.pad(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_exactly() {
        assert_eq!(ByteSize::parse("2 GiB"), Ok(ByteSize(2 << 30)));
        assert_eq!(ByteSize::parse("512MB"), Ok(ByteSize(512_000_000)));
        assert_eq!(ByteSize::parse("1.5 gib"), Ok(ByteSize(3 << 29)));
        assert_eq!(ByteSize::parse("0 B"), Err(SizeError::Zero));
        assert_eq!(ByteSize::parse("GiB"), Err(SizeError::NoNumber));
        assert_eq!(ByteSize::parse("1.0.0 GiB"), Err(SizeError::NoNumber));
        assert_eq!(ByteSize::parse("2"), Err(SizeError::Unit { unit: String::new() }));
        assert_eq!(ByteSize::parse("99999999999999999999 TiB"), Err(SizeError::Range));
        assert_eq!(ByteSize::parse("0.3 B"), Err(SizeError::Range));
    }

    #[test]
    fn sizes_print_in_the_unit_that_divides_them() {
        for text in ["2 GiB", "512 MB", "1536 MiB", "7 B", "1 TB"] {
            assert_eq!(ByteSize::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn cores_are_kept_to_a_thousandth() {
        assert_eq!(Cpus::from_cores(0.5).unwrap().to_string(), "0.5");
        assert_eq!(Cpus::from_cores(2.0).unwrap().to_string(), "2");
        assert_eq!(Cpus::from_cores(0.125).unwrap().milli(), 125);
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 0.0001, 5000.0] {
            assert_eq!(Cpus::from_cores(bad), None, "{bad}");
        }
    }
}
