//! Pauses between attempts: exponential, with jitter, from `backon`. Its loop around attempts is not used: drivers end at
//! deadlines of a clock that they are given, and keep to what a server asks for.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Pauses that double until the longest. Each is up to twice as long, so that many who were turned away together do not come
/// back together.
pub struct Backoff {
    pauses: ExponentialBackoff,
    longest: Duration,
}

impl Backoff {
    /// Creates pauses from the first to the longest; `seed` tells one caller's jitter from another's.
    pub fn new(first: Duration, longest: Duration, seed: u64) -> Self {
        let builder = ExponentialBuilder::new().with_min_delay(first).with_max_delay(longest).without_max_times();
        Self { pauses: builder.with_jitter().with_jitter_seed(seed).build(), longest }
    }

    /// Returns the next pause.
    pub fn next_pause(&mut self) -> Duration {
        self.pauses.next().unwrap_or(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_longest_and_differ_by_seed() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(1));
        let pauses = |seed| {
            let mut backoff = Backoff::new(first, longest, seed);
            (0..12).map(|_| backoff.next_pause()).collect::<Vec<_>>()
        };
        for (exponent, pause) in pauses(1).into_iter().enumerate() {
            let least = (first * (1 << exponent.min(10))).min(longest);
            assert!(pause >= least && pause <= least * 2, "{pause:?} at {exponent}");
        }
        assert_ne!(pauses(1), pauses(2));
    }
}
