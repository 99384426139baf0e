//! Limits how often an address may show tokens that open nothing, in a server and in the gateway in front of shards.
//!
//! By hand and not by `governor`: an address is checked before a token is looked up, and charged only when it is refused.

use std::collections::HashMap;
use std::time::Duration;

/// How many addresses are remembered; beyond that all of them are forgotten, which errs on the side of answering.
const MAX_ADDRESSES: usize = 4096;

/// Limits refused tokens by address with token buckets.
#[derive(Debug)]
pub struct RefusalLimiter {
    burst: f64,
    per_second: f64,
    addresses: HashMap<String, (f64, Duration)>,
}

impl Default for RefusalLimiter {
    /// Returns the limits of a gateway, where each refused token costs a request to another shard.
    fn default() -> Self {
        Self::new(20.0, 1.0)
    }
}

impl RefusalLimiter {
    /// Returns a limiter of so many refused tokens at once, and so many per second after that.
    pub(super) fn new(burst: f64, per_second: f64) -> Self {
        Self { burst, per_second, addresses: HashMap::new() }
    }

    /// Returns how long an address has to wait before its next token is looked up, if it has to.
    pub fn wait(&self, address: &str, now: Duration) -> Option<Duration> {
        let (left, at) = self.addresses.get(address)?;
        let left = left + now.saturating_sub(*at).as_secs_f64() * self.per_second;
        (left < 1.0).then(|| Duration::from_secs_f64((1.0 - left) / self.per_second))
    }

    /// Counts one refused token.
    pub fn count(&mut self, address: &str, now: Duration) {
        if self.addresses.len() >= MAX_ADDRESSES && !self.addresses.contains_key(address) {
            self.addresses.clear();
        }
        let (left, at) = self.addresses.entry(address.to_owned()).or_insert((self.burst, now));
        *left = (*left + now.saturating_sub(*at).as_secs_f64() * self.per_second).min(self.burst) - 1.0;
        *at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_tokens_are_limited_by_address() {
        let mut limiter = RefusalLimiter::default();
        let at = Duration::from_secs;
        for _ in 0..20 {
            assert_eq!(limiter.wait("a", at(1)), None);
            limiter.count("a", at(1));
        }
        assert!(limiter.wait("a", at(1)).is_some_and(|wait| wait <= at(1)));
        assert_eq!(limiter.wait("b", at(1)), None, "another address waits for none of that");
        assert_eq!(limiter.wait("a", at(2)), None, "one more after a second");
        for address in 0..10_000 {
            limiter.count(&address.to_string(), at(3));
        }
        assert!(limiter.addresses.len() <= MAX_ADDRESSES);
    }
}
