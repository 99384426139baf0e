//! What backends cost a month at their provider, from price tables that are data with a date.

use std::fmt;
use std::iter::Sum;

use serde::{Deserialize, Serialize};

use super::provider::ProviderKind;

/// An amount of US dollars, kept in millionths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(i64);

impl Usd {
    /// From a number of dollars; what is finer than a millionth is rounded.
    pub fn from_dollars(dollars: f64) -> Self {
        // Beyond the largest amount this is the largest amount.
        #[allow(clippy::cast_possible_truncation)]
        Self((dollars * 1e6).round() as i64)
    }

    /// The amount in millionths of a dollar.
    pub fn millionths(self) -> i64 {
        self.0
    }

    /// The amount in dollars, to the cent.
    pub fn dollars(self) -> f64 {
        // No amount of money is large enough to lose a cent here.
        #[allow(clippy::cast_precision_loss)]
        let cents = self.cents() as f64;
        cents / 100.0
    }

    fn cents(self) -> i64 {
        (self.0.saturating_add(5_000)).div_euclid(10_000)
    }

    /// The difference, at least the smallest amount.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The sum, at most the largest amount.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cents = self.cents();
        f.pad(&format!("${}.{:02}", cents.div_euclid(100), cents.rem_euclid(100)))
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Self::saturating_add)
    }
}

impl Serialize for Usd {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.dollars())
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).map(Self::from_dollars)
    }
}

impl schemars::JsonSchema for Usd {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Usd".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "number", "description": "US dollars, to the cent." })
    }
}

/// What a backend costs a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// It runs on a machine of the user's own, for which no provider bills.
    Unmetered,
    /// So much at its provider.
    Known {
        /// Where it is; in the region of first choice, as long as it is nowhere.
        usd: Usd,
        /// In the dearest of the regions that it may come to be in; the same amount once it is somewhere.
        at_most: Usd,
    },
    /// Its provider sends a bill, and no table here says how much.
    Unknown,
}

impl Cost {
    /// The most that it may come to, where that is known: what ceilings count.
    pub fn at_most(self) -> Option<Usd> {
        match self {
            Self::Known { at_most, .. } => Some(at_most),
            Self::Unmetered | Self::Unknown => None,
        }
    }
}

/// Where prices come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PriceSource {
    /// Whose prices.
    pub provider: ProviderKind,
    /// The day of which they are.
    pub as_of: String,
    /// Where they were read.
    pub source: String,
}

/// The most that is known to be possible together, and how many backends it leaves out because their price is not known.
pub fn monthly_sum(costs: impl Iterator<Item = Cost>) -> (Usd, u32) {
    costs.fold((Usd::default(), 0), |(sum, unknown), cost| match cost {
        Cost::Unmetered => (sum, unknown),
        Cost::Known { at_most, .. } => (sum.saturating_add(at_most), unknown),
        Cost::Unknown => (sum, unknown + 1),
    })
}
