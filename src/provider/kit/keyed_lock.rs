//! One mutex per key, for work that must not overlap on one thing and may on different ones.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// Mutexes by key. Those that nothing holds or waits for are dropped, so the map does not grow with every key ever used.
#[derive(Debug)]
pub struct KeyedLock<K>(Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>);

impl<K> Default for KeyedLock<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash> KeyedLock<K> {
    /// Waits for the mutex of a key and locks it until the guard is dropped.
    pub async fn lock(&self, key: &K) -> OwnedMutexGuard<()> {
        let mutex = {
            let mut mutexes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            mutexes.retain(|_, mutex| Arc::strong_count(mutex) > 1);
            Arc::clone(mutexes.entry(key.clone()).or_default())
        };
        mutex.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_key_excludes_itself_and_nothing_else() {
        let locks = KeyedLock::default();
        let first = locks.lock(&"a").await;
        let other = locks.lock(&"b").await;
        let again = locks.lock(&"a");
        tokio::pin!(again);
        assert!(futures_util::poll!(&mut again).is_pending());
        drop(first);
        let _again = again.await;
        drop(other);
    }

    #[tokio::test]
    async fn keys_that_nothing_holds_are_forgotten() {
        let locks = KeyedLock::default();
        for key in 0..100 {
            drop(locks.lock(&key).await);
        }
        let _held = locks.lock(&100).await;
        assert_eq!(locks.0.lock().unwrap().len(), 1);
    }
}
