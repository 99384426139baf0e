//! The words of `convexinfra quota`.

use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand};

use crate::model::{ByteSize, Cpus};

/// The word that lifts a ceiling.
const NONE: &str = "none";

#[derive(Debug, Args)]
pub(crate) struct Quota {
    #[command(subcommand)]
    pub(crate) command: QuotaCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuotaCommand {
    /// Show the ceilings of the project, and how much of them is used.
    Show {
        #[command(flatten)]
        whose: QuotaTarget,
    },
    /// Set ceilings; what is not named stays as it is.
    #[command(
        before_help = "Examples:\n  convexinfra quota set --project shop --backends 10 --memory \"32 GiB\"\n  convexinfra quota set --default --cpus 8\n  convexinfra quota set --project shop --memory none   lift one"
    )]
    Set {
        #[command(flatten)]
        whose: QuotaTarget,
        #[command(flatten)]
        ceilings: QuotaLimits,
    },
}

#[derive(Debug, Args)]
pub(crate) struct QuotaTarget {
    /// The ceilings of every project that has none of its own.
    #[arg(long, env = "CONVEXINFRA_DEFAULT", value_parser = FalseyValueParser::new())]
    pub(crate) default: bool,
}

/// Ceilings as they were typed; what was not typed stays as it is.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct QuotaLimits {
    /// How many backends; `none` lifts the ceiling, here and below.
    #[arg(long, value_name = "N", value_parser = backends, env = "CONVEXINFRA_QUOTA_BACKENDS")]
    pub(crate) backends: Option<QuotaLimit<u32>>,
    /// How many processor cores together.
    #[arg(long, value_name = "N", value_parser = cpus, env = "CONVEXINFRA_QUOTA_CPUS")]
    pub(crate) cpus: Option<QuotaLimit<Cpus>>,
    /// How much memory together, such as `32 GiB`.
    #[arg(long, value_name = "SIZE", value_parser = size, env = "CONVEXINFRA_QUOTA_MEMORY")]
    pub(crate) memory: Option<QuotaLimit<ByteSize>>,
    /// How much disk together, such as `100 GiB`.
    #[arg(long, value_name = "SIZE", value_parser = size, env = "CONVEXINFRA_QUOTA_DISK")]
    pub(crate) disk: Option<QuotaLimit<ByteSize>>,
    /// How many US dollars a month, counted over the backends whose price is known.
    #[arg(long, value_name = "N", value_parser = dollars, env = "CONVEXINFRA_QUOTA_MONTHLY_USD")]
    pub(crate) monthly_usd: Option<QuotaLimit<f64>>,
}

/// A ceiling, or that there is to be none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum QuotaLimit<T> {
    /// So much.
    Limit(T),
    /// None.
    Unlimited,
}

impl<T: Copy> QuotaLimit<T> {
    /// The ceiling after this, where it was `before`.
    pub(crate) fn or_previous(typed: Option<Self>, before: Option<T>) -> Option<T> {
        match typed {
            None => before,
            Some(Self::Limit(value)) => Some(value),
            Some(Self::Unlimited) => None,
        }
    }
}

fn ceiling<T>(text: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<QuotaLimit<T>, String> {
    if text == NONE { Ok(QuotaLimit::Unlimited) } else { read(text).map(QuotaLimit::Limit) }
}

fn backends(text: &str) -> Result<QuotaLimit<u32>, String> {
    ceiling(text, |text| text.parse().map_err(|_| "a number of backends is a whole number, or `none`".to_owned()))
}

fn cpus(text: &str) -> Result<QuotaLimit<Cpus>, String> {
    let read = |text: &str| text.parse().ok().and_then(Cpus::from_cores);
    ceiling(text, |text| read(text).ok_or_else(|| "a number of cores is such as `4` or `0.5`, or `none`".to_owned()))
}

fn size(text: &str) -> Result<QuotaLimit<ByteSize>, String> {
    ceiling(text, |text| ByteSize::parse(text).map_err(|error| error.to_string()))
}

fn dollars(text: &str) -> Result<QuotaLimit<f64>, String> {
    let read = |text: &str| text.parse().ok().filter(|amount: &f64| amount.is_finite() && *amount >= 0.0);
    ceiling(text, |text| read(text).ok_or_else(|| "an amount is such as `60` or `12.50`, or `none`".to_owned()))
}
