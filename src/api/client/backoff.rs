//! Backoff of retries: exponential with full jitter within a retry window. By hand and not by `backon`, whose jitter only
//! lengthens pauses and whose window cannot depend on the error.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// A server that asks for more than this is asked again sooner.
const LONGEST_ASKED_FOR: Duration = Duration::from_secs(30);

/// Tries that failed in a row.
#[derive(Debug)]
pub(super) struct Backoff {
    since: Instant,
    tries: u32,
}

impl Backoff {
    /// None has failed yet.
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), tries: 0 }
    }

    /// Returns how many have failed.
    pub(super) fn tries(&self) -> u32 {
        self.tries
    }

    /// Returns how long to wait after one more that failed; none when the patience is used up. A server may have asked for
    /// a pause, which is kept to, or it is not asked again at all.
    pub(super) fn pause(&mut self, patience: Duration, asked_for: Option<Duration>) -> Option<Duration> {
        let most = FIRST.saturating_mul(1 << self.tries.min(16)).min(LONGEST);
        self.tries += 1;
        let jittered = most.mul_f64(fraction());
        let pause = match asked_for {
            // So that not all who were sent away come back at the same moment.
            Some(asked_for) => asked_for.min(LONGEST_ASKED_FOR) + jittered.min(FIRST),
            None => jittered,
        };
        (self.since.elapsed() + pause <= patience).then_some(pause)
    }
}

/// Returns a random number from 0 to 1. Without randomness everybody waits the whole time, which is slower and as good.
fn fraction() -> f64 {
    getrandom::u32().map_or(1.0, |number| f64::from(number) / f64::from(u32::MAX))
}

/// Returns the pause that a `Retry-After` asks for; the form with a date is not one that our servers send.
pub(super) fn asked_for(retry_after: Option<&str>) -> Option<Duration> {
    retry_after?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_with_the_patience() {
        let mut backoff = Backoff::new();
        for exponent in 0..12 {
            let pause = backoff.pause(Duration::from_secs(60), None).unwrap();
            assert!(pause <= LONGEST && pause <= FIRST * (1 << exponent), "{pause:?} at {exponent}");
        }
        assert_eq!(backoff.pause(Duration::ZERO, Some(Duration::from_secs(1))), None);
    }

    #[test]
    fn retry_after_is_honoured_up_to_a_maximum() {
        let mut backoff = Backoff::new();
        let patience = Duration::from_secs(90);
        assert!(backoff.pause(patience, Some(Duration::from_secs(7))).unwrap() >= Duration::from_secs(7));
        assert!(backoff.pause(patience, Some(Duration::from_secs(9_999_999))).unwrap() <= Duration::from_secs(31));
        assert_eq!(backoff.pause(Duration::from_secs(5), Some(Duration::from_secs(7))), None);
        assert_eq!(asked_for(Some(" 3 ")), Some(Duration::from_secs(3)));
        assert_eq!(asked_for(Some("Wed, 21 Oct 2026 07:28:00 GMT")), None);
        assert_eq!(asked_for(Some("-1")), None);
    }
}
