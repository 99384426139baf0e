//! The arguments of `log`.

use clap::builder::FalseyValueParser;
use clap::{Args, value_parser};

#[derive(Debug, Args)]
pub(crate) struct Log {
    /// How many of the last entries.
    #[arg(long, short = 'n', value_name = "ENTRIES", default_value_t = 50, env = "CONVEXINFRA_LIMIT", value_parser = value_parser!(u32).range(..=1_000_000))]
    pub(crate) limit: u32,
    /// Check that every entry is as it was written; exits 1 when one is not.
    #[arg(long, env = "CONVEXINFRA_VERIFY", value_parser = FalseyValueParser::new())]
    pub(crate) verify: bool,
    /// A hash that `--verify` printed earlier and that was noted elsewhere; one entry must still have it.
    #[arg(long, value_name = "HASH", requires = "verify", value_parser = history_hash, env = "CONVEXINFRA_HEAD")]
    pub(crate) head: Option<String>,
    /// The entries about the control plane itself, such as tokens of operators, instead of the project's.
    #[arg(long, env = "CONVEXINFRA_EVERYWHERE", value_parser = FalseyValueParser::new())]
    pub(crate) everywhere: bool,
}

fn history_hash(text: &str) -> Result<String, String> {
    let hash = text.trim().to_ascii_lowercase();
    if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(hash);
    }
    Err("a hash of the history is 64 hex digits, as `convexinfra log --verify` prints it".to_owned())
}
