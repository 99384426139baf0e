//! Limits by token: its rate of requests, the tokens that are known to be good, and how many event streams a token and an
//! operation may have.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use sha2::{Digest as _, Sha256};

use crate::host::Host;
use crate::model::{OperationId, Secret, TokenId};

/// The number of checks after which keys that were not used lately are dropped.
const CHECKS_PER_PRUNE: u32 = 1024;
/// The number of tokens that are remembered as good.
const MAX_KNOWN_TOKENS: usize = 4096;
/// The number of event streams that one token may have open.
const MAX_STREAMS_PER_TOKEN: usize = 64;
/// The number of event streams that one operation may have open.
const MAX_STREAMS_PER_OPERATION: usize = 32;

/// The clock of the host: not every platform has one in its standard library.
pub(super) struct HostClock(Arc<Host>);

impl Clock for HostClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.uptime()
    }
}

/// Limits the rate of something by key, and forgets keys that are not used any more.
pub(super) struct KeyedLimiter<K: Hash + Eq + Clone> {
    limiter: RateLimiter<K, HashMapStateStore<K>, HostClock, NoOpMiddleware<Duration>>,
    checks: AtomicU32,
    host: Arc<Host>,
}

impl<K: Hash + Eq + Clone> KeyedLimiter<K> {
    pub(super) fn new(rate: NonZeroU32, burst: NonZeroU32, host: &Arc<Host>) -> Self {
        let quota = Quota::per_second(rate).allow_burst(burst);
        let limiter = RateLimiter::new(quota, HashMapStateStore::default(), HostClock(Arc::clone(host)));
        Self { limiter, checks: AtomicU32::new(0), host: Arc::clone(host) }
    }

    /// Counts one more for a key.
    ///
    /// # Errors
    /// There were too many lately; after so many whole seconds another one may pass.
    pub(super) fn check(&self, key: &K) -> Result<(), u64> {
        if self.checks.fetch_add(1, Ordering::Relaxed) % CHECKS_PER_PRUNE == CHECKS_PER_PRUNE - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        self.limiter.check_key(key).map_err(|until| {
            let wait = until.wait_time_from(self.host.uptime());
            (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).clamp(1, 60)
        })
    }

    /// Returns the number of keys that are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.limiter.len()
    }
}

/// The tokens that were good lately, as hashes: their requests do not count as attempts.
#[derive(Default)]
pub(super) struct KnownTokens(Mutex<HashSet<[u8; 32]>>);

impl KnownTokens {
    pub(super) fn contains(&self, token: &Secret) -> bool {
        lock(&self.0).contains(&digest(token))
    }

    pub(super) fn insert(&self, token: &Secret) {
        let mut known = lock(&self.0);
        if known.len() >= MAX_KNOWN_TOKENS {
            known.clear();
        }
        known.insert(digest(token));
    }

    pub(super) fn remove(&self, token: &Secret) {
        lock(&self.0).remove(&digest(token));
    }
}

fn digest(token: &Secret) -> [u8; 32] {
    Sha256::digest(token.expose()).into()
}

/// The event streams that are open.
#[derive(Default)]
pub(super) struct OpenStreams(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    tokens: HashMap<TokenId, usize>,
    operations: HashMap<OperationId, usize>,
}

impl OpenStreams {
    /// Counts a stream until the guard is dropped; none when the token or the operation has too many.
    pub(super) fn open(self: &Arc<Self>, token: TokenId, operation: OperationId) -> Option<StreamGuard> {
        let mut counts = lock(&self.0);
        let is_full = counts.tokens.get(&token).is_some_and(|count| *count >= MAX_STREAMS_PER_TOKEN)
            || counts.operations.get(&operation).is_some_and(|count| *count >= MAX_STREAMS_PER_OPERATION);
        if is_full {
            return None;
        }
        *counts.tokens.entry(token.clone()).or_default() += 1;
        *counts.operations.entry(operation.clone()).or_default() += 1;
        Some(StreamGuard { streams: Arc::clone(self), token, operation })
    }
}

/// One open event stream.
pub(super) struct StreamGuard {
    streams: Arc<OpenStreams>,
    token: TokenId,
    operation: OperationId,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let mut counts = lock(&self.streams.0);
        decrement(&mut counts.tokens, &self.token);
        decrement(&mut counts.operations, &self.operation);
    }
}

fn decrement<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the address that identifies one client: an IPv6 host has a network of 2^64 addresses for itself.
pub(super) fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_counted_by_token_and_by_operation_and_given_back() {
        let streams = Arc::new(OpenStreams::default());
        let (token, operation) =
            (|number: usize| TokenId::new(number.to_string()), |number: usize| OperationId::new(number.to_string()));
        let mut open: Vec<_> =
            (0..MAX_STREAMS_PER_TOKEN).map(|number| streams.open(token(0), operation(number)).unwrap()).collect();
        assert!(streams.open(token(0), operation(99)).is_none());
        assert!(streams.open(token(1), operation(99)).is_some());
        open.pop();
        assert!(streams.open(token(0), operation(99)).is_some());
        let _busy: Vec<_> =
            (0..MAX_STREAMS_PER_OPERATION - 1).map(|number| streams.open(token(number + 2), operation(0)).unwrap()).collect();
        assert!(streams.open(token(98), operation(0)).is_none());
        drop(open);
        assert!(streams.open(token(98), operation(0)).is_some());
    }
}
