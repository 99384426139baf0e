//! Contains the panics of libraries that read what strangers send: such a panic is an error of the stranger and no bug here.

use std::cell::Cell;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;

use futures_util::FutureExt;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// A library panicked over what it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what came is nothing that this client can read")]
pub struct ContainedPanic;

/// Runs work whose panics are errors.
///
/// # Errors
/// [`ContainedPanic`] when it panicked; it is dropped then.
pub async fn contained<T>(work: impl Future<Output = T>) -> Result<T, ContainedPanic> {
    let mut work = pin!(AssertUnwindSafe(work).catch_unwind());
    let ended = poll_fn(|context| {
        let _inside = Inside::enter();
        work.as_mut().poll(context)
    });
    ended.await.map_err(|_| ContainedPanic)
}

/// Returns whether a panic of this thread would be an error of [`contained`] work now.
pub fn is_contained() -> bool {
    DEPTH.get() > 0
}

struct Inside;

impl Inside {
    fn enter() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_and_known_to_be_one() {
        let inside = contained(async {
            tokio::task::yield_now().await;
            is_contained()
        });
        assert_eq!(inside.await, Ok(true));
        let panicked = contained(async {
            tokio::task::yield_now().await;
            panic!("the stranger has sent nothing");
        });
        assert_eq!(panicked.await.map(|(): ()| ()), Err(ContainedPanic));
        assert!(!is_contained());
    }
}
