//! Spans of time as users write them, and points in time as the record keeps them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A span of time in whole seconds, written `7d`, `2d12h`, `90m` or `30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct TimeSpan(u64);

/// Why a text is not a span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeSpanError {
    /// Not a sequence of numbers and units.
    #[error("a duration is numbers with units, largest first, such as `7d`, `2d12h`, `90m` or `30s`")]
    Shape,
    /// A unit that is not one of w, d, h, m, s.
    #[error("`{unit}` is not a unit of time; the units are w, d, h, m and s")]
    Unit {
        /// The unit as written.
        unit: String,
    },
    /// A unit that repeats or comes after a smaller one.
    #[error("the units of a duration go from large to small, each at most once: w, d, h, m, s")]
    Order,
    /// Nothing at all.
    #[error("a duration is more than zero")]
    Zero,
    /// More than a hundred years.
    #[error("a duration is at most 100 years")]
    Range,
}

const UNITS: [(&str, u64); 5] = [("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
const LONGEST: u64 = 100 * 366 * 86_400;

impl TimeSpan {
    /// A span of so many seconds.
    pub fn from_seconds(seconds: u64) -> Self {
        Self(seconds)
    }

    /// The span in seconds.
    pub fn seconds(self) -> u64 {
        self.0
    }

    /// Parses `7d`, `2d12h`; blanks between the parts are allowed.
    ///
    /// # Errors
    /// [`TimeSpanError`] says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, TimeSpanError> {
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(TimeSpanError::Shape);
        }
        let mut total: u64 = 0;
        let mut smallest = usize::MAX;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            if digits == 0 {
                return Err(TimeSpanError::Shape);
            }
            let number: u64 = rest[..digits].parse().map_err(|_| TimeSpanError::Range)?;
            rest = rest[digits..].trim_start();
            let letters = rest.find(|c: char| c.is_ascii_digit() || c.is_whitespace()).unwrap_or(rest.len());
            let unit = &rest[..letters];
            if unit.is_empty() {
                return Err(TimeSpanError::Shape);
            }
            let index = UNITS
                .iter()
                .position(|(name, _)| *name == unit)
                .ok_or_else(|| TimeSpanError::Unit { unit: unit.to_owned() })?;
            if smallest != usize::MAX && index <= smallest {
                return Err(TimeSpanError::Order);
            }
            smallest = index;
            total = number.checked_mul(UNITS[index].1).and_then(|part| total.checked_add(part)).ok_or(TimeSpanError::Range)?;
            rest = rest[letters..].trim_start();
        }
        match total {
            0 => Err(TimeSpanError::Zero),
            total if total > LONGEST => Err(TimeSpanError::Range),
            total => Ok(Self(total)),
        }
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0;
        let mut text = String::new();
        // Weeks are accepted but never printed: `7d` is how everybody writes it.
        for (name, seconds) in &UNITS[1..] {
            if left >= *seconds {
                text.push_str(&format!("{}{name}", left / seconds));
                left %= seconds;
            }
        }
        f.pad(if text.is_empty() { "0s" } else { &text })
    }
}

impl TryFrom<String> for TimeSpan {
    type Error = TimeSpanError;
    fn try_from(text: String) -> Result<Self, TimeSpanError> {
        Self::parse(&text)
    }
}

impl From<TimeSpan> for String {
    fn from(span: TimeSpan) -> String {
        span.to_string()
    }
}

/// A point in time, in milliseconds since 1970-01-01 UTC. It is always handed in, never read here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This point and so many seconds more.
    #[must_use]
    pub fn plus(self, span: TimeSpan) -> Self {
        self.plus_milliseconds(i64::try_from(span.0.saturating_mul(1000)).unwrap_or(i64::MAX))
    }

    /// This point and so many milliseconds more.
    #[must_use]
    pub fn plus_milliseconds(self, milliseconds: i64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }

    /// Milliseconds from `earlier` to this point; negative when the clock went backwards.
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => f.pad(&format!("{time:.3}")),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_printed() {
        assert_eq!(TimeSpan::parse("7d").unwrap().seconds(), 604_800);
        assert_eq!(TimeSpan::parse("1w").unwrap().to_string(), "7d");
        assert_eq!(TimeSpan::parse("2d12h").unwrap().seconds(), 216_000);
        assert_eq!(TimeSpan::parse("2d 12h").unwrap().to_string(), "2d12h");
        assert_eq!(TimeSpan::parse("90m").unwrap().to_string(), "1h30m");
        assert_eq!(TimeSpan::parse("12h2d"), Err(TimeSpanError::Order));
        assert_eq!(TimeSpan::parse("1d1d"), Err(TimeSpanError::Order));
        assert_eq!(TimeSpan::parse("7"), Err(TimeSpanError::Shape));
        assert_eq!(TimeSpan::parse("d"), Err(TimeSpanError::Shape));
        assert_eq!(TimeSpan::parse("7y"), Err(TimeSpanError::Unit { unit: "y".into() }));
        assert_eq!(TimeSpan::parse("0s"), Err(TimeSpanError::Zero));
        assert_eq!(TimeSpan::parse("99999999999999999999s"), Err(TimeSpanError::Range));
    }
}
