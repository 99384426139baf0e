//! The contract of every driver: each function is one promise, kept on a fixture of its own.
//!
//! A driver has a [`ContractFixture`] and a line `provider_contract!(name, fixture)` in `main.rs`. What only one driver
//! promises is tested beside that driver.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

use std::sync::Mutex;
use std::time::{Duration, Instant};

use convexinfra::model::{DataState, Observation, ResolvedBackend, RunState};
use convexinfra::provider::{LogPosition, Provider, ProviderError};

/// How long anything may take on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_secs(300);

/// One backend at its provider, and the means to look and reach behind the provider's back.
pub trait ContractFixture {
    /// Returns the driver.
    fn provider(&self) -> &dyn Provider;

    /// Returns a driver that cannot reach the place where the backend is.
    fn unreachable_provider(&self) -> Box<dyn Provider>;

    /// Returns the backend as the control plane hands it over.
    fn resolved(&mut self) -> &mut ResolvedBackend;

    /// Lists all that is at the place, each under an identity that another thing of its kind would not have.
    fn inventory(&self) -> Vec<String>;

    /// Ends the backend behind the driver's back.
    async fn kill(&mut self);

    /// Leaves a mark in the backend's data.
    fn mark_data(&self);

    /// Returns whether the mark is in the backend's data.
    fn has_mark(&self) -> bool;

    /// Puts something at the place that looks like the backend's and is not, and returns how the inventory lists it.
    async fn add_foreign(&self) -> String;

    /// Lists texts about the backend that others than its control plane can read.
    fn readable_texts(&self) -> Vec<String>;

    /// Prepares the backend to take up the data that a removal retained, where the driver needs to be told.
    fn take_up_retained(&mut self) {}
}

/// Looks at the backend.
async fn observe(fixture: &mut impl ContractFixture) -> Observation {
    let resolved = fixture.resolved().clone();
    fixture.provider().observe(&resolved).await.unwrap()
}

/// Ensures the backend as a control plane does: what is recorded is handed in again, and what was ready stays known as that.
async fn ensure(fixture: &mut impl ContractFixture) -> Observation {
    let resolved = fixture.resolved().clone();
    fixture.resolved().provider_state = fixture.provider().ensure(&resolved, &|_| {}).await.unwrap();
    let seen = until_running(fixture).await;
    fixture.resolved().has_been_ready = true;
    seen
}

async fn until_running(fixture: &mut impl ContractFixture) -> Observation {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let seen = observe(fixture).await;
        if seen.state == RunState::Running {
            return seen;
        }
        assert!(Instant::now() < deadline, "not running: {seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn remove(fixture: &mut impl ContractFixture) {
    let resolved = fixture.resolved().clone();
    fixture.provider().remove(&resolved, &|_| {}).await.unwrap();
}

/// Observing makes nothing, and ensuring twice makes one.
pub async fn ensured_however_often_it_is_one(mut fixture: impl ContractFixture) {
    let before = fixture.inventory();
    let seen = observe(&mut fixture).await;
    assert_eq!((seen.state, seen.data), (RunState::Absent, DataState::None));
    assert_eq!(fixture.inventory(), before, "observing made something");
    let seen = ensure(&mut fixture).await;
    assert_eq!((seen.data, seen.drift), (DataState::Present, Vec::new()));
    let made = fixture.inventory();
    assert_ne!(made, before, "the inventory lists nothing of the backend");
    assert_eq!(ensure(&mut fixture).await.drift, Vec::new());
    assert_eq!(fixture.inventory(), made);
}

/// What was made before its record was lost is adopted.
pub async fn a_lost_record_makes_no_second_one(mut fixture: impl ContractFixture) {
    let unrecorded = fixture.resolved().clone();
    ensure(&mut fixture).await;
    let made = fixture.inventory();
    *fixture.resolved() = unrecorded;
    ensure(&mut fixture).await;
    assert_eq!(fixture.inventory().len(), made.len());
}

/// Two ensures at once make one.
pub async fn two_ensures_at_once_make_one(mut fixture: impl ContractFixture) {
    let resolved = fixture.resolved().clone();
    let provider = fixture.provider();
    let (one, two) = tokio::join!(provider.ensure(&resolved, &|_| {}), provider.ensure(&resolved, &|_| {}));
    let state = one.or(two).unwrap();
    fixture.resolved().provider_state = state;
    until_running(&mut fixture).await;
    let made = fixture.inventory();
    ensure(&mut fixture).await;
    assert_eq!(fixture.inventory(), made);
    remove(&mut fixture).await;
    assert_eq!(fixture.inventory(), Vec::<String>::new(), "a second one is left");
}

/// A backend that was killed is seen to be down, and started again with its data.
pub async fn a_killed_backend_is_started_again_with_its_data(mut fixture: impl ContractFixture) {
    ensure(&mut fixture).await;
    fixture.mark_data();
    fixture.kill().await;
    let deadline = Instant::now() + DEADLINE;
    loop {
        let seen = observe(&mut fixture).await;
        assert!(matches!(seen.state, RunState::Stopped | RunState::Unready), "{seen:?}");
        assert_eq!(seen.data, DataState::Present);
        if !seen.drift.is_empty() {
            break;
        }
        // Lists of a platform lag behind.
        assert!(Instant::now() < deadline, "nothing says that it is down: {seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ensure(&mut fixture).await.drift, Vec::new());
    assert!(fixture.has_mark());
}

/// A driver that stops backends leaves their data, and one that does not says so and leaves them running.
pub async fn a_stopped_backend_starts_again_with_its_data(mut fixture: impl ContractFixture) {
    ensure(&mut fixture).await;
    fixture.mark_data();
    let resolved = fixture.resolved().clone();
    let stopped = fixture.provider().stop(&resolved).await;
    if !fixture.provider().kind().descriptor().stops {
        assert!(matches!(stopped, Err(ProviderError::Unsupported(_))), "{stopped:?}");
        assert_eq!(observe(&mut fixture).await.state, RunState::Running);
        return;
    }
    stopped.unwrap();
    let seen = observe(&mut fixture).await;
    assert_eq!((seen.state, seen.data), (RunState::Stopped, DataState::Present));
    fixture.provider().stop(&resolved).await.unwrap();
    assert_eq!(ensure(&mut fixture).await.drift, Vec::new());
    assert!(fixture.has_mark());
}

/// Removed is gone, however often, and another one can be made in its place.
pub async fn removed_is_gone(mut fixture: impl ContractFixture) {
    remove(&mut fixture).await;
    ensure(&mut fixture).await;
    remove(&mut fixture).await;
    assert_eq!(fixture.inventory(), Vec::<String>::new());
    remove(&mut fixture).await;
    fixture.resolved().has_been_ready = false;
    assert_eq!(observe(&mut fixture).await.state, RunState::Absent);
    ensure(&mut fixture).await;
}

/// Data that a removal retains is taken up by the next one.
pub async fn retained_data_is_taken_up_again(mut fixture: impl ContractFixture) {
    ensure(&mut fixture).await;
    fixture.mark_data();
    let resolved = fixture.resolved().clone();
    fixture.provider().remove_keeping_data(&resolved, &|_| {}).await.unwrap();
    assert_ne!(observe(&mut fixture).await.state, RunState::Running);
    fixture.provider().remove_keeping_data(&resolved, &|_| {}).await.unwrap();
    fixture.take_up_retained();
    assert_eq!(ensure(&mut fixture).await.data, DataState::Present);
    assert!(fixture.has_mark());
}

/// A lookup that fails is unknown or an error, and nothing is taken to be gone because of it.
pub async fn what_cannot_be_looked_at_is_not_absent(mut fixture: impl ContractFixture) {
    ensure(&mut fixture).await;
    let resolved = fixture.resolved().clone();
    let blind = fixture.unreachable_provider();
    match blind.observe(&resolved).await {
        Ok(seen) => assert_eq!((seen.state, seen.data), (RunState::Unknown, DataState::Unknown)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert!(blind.remove(&resolved, &|_| {}).await.is_err(), "what cannot be reached was called removed");
    assert_eq!(observe(&mut fixture).await.state, RunState::Running);
}

/// What is not the backend's is neither used nor removed.
pub async fn foreign_things_are_left_alone(mut fixture: impl ContractFixture) {
    let foreign = fixture.add_foreign().await;
    let resolved = fixture.resolved().clone();
    // It may be in the way. Then that is said, and nothing is made of it.
    let made = fixture.provider().ensure(&resolved, &|_| {}).await;
    assert!(fixture.inventory().contains(&foreign), "{made:?}");
    if let Ok(state) = made {
        fixture.resolved().provider_state = state;
    }
    remove(&mut fixture).await;
    assert_eq!(fixture.inventory(), [foreign]);
}

/// No secret is in anything that a control plane records or that others can read.
pub async fn secrets_are_not_observable(mut fixture: impl ContractFixture) {
    let said = Mutex::new(Vec::new());
    let resolved = fixture.resolved().clone();
    let notice = |text: String| said.lock().unwrap().push(text);
    let state = fixture.provider().ensure(&resolved, &notice).await.unwrap();
    fixture.resolved().provider_state = state.clone();
    let seen = until_running(&mut fixture).await;
    let mut texts = fixture.readable_texts();
    texts.extend(said.into_inner().unwrap());
    texts.extend([format!("{state:?}"), format!("{seen:?}"), format!("{resolved:?}")]);
    if let Ok(log) = fixture.provider().logs(&resolved, LogPosition::Tail(1000)).await {
        texts.push(log.text);
    }
    let key = resolved.admin_key.expose();
    for secret in [resolved.instance_secret.expose(), key, key.rsplit('|').next().unwrap()] {
        assert!(!texts.iter().any(|text| text.contains(secret)), "a secret is readable");
    }
}

/// A log has its last lines, or the command that shows it elsewhere.
pub async fn the_log_is_readable(mut fixture: impl ContractFixture) {
    ensure(&mut fixture).await;
    let resolved = fixture.resolved().clone();
    match fixture.provider().logs(&resolved, LogPosition::Tail(1)).await {
        Ok(chunk) => {
            assert_eq!(chunk.text.lines().count(), 1);
            let rest = fixture.provider().logs(&resolved, LogPosition::Byte(chunk.next)).await.unwrap();
            assert!(rest.next >= chunk.next);
        }
        Err(ProviderError::Unsupported(message)) => assert!(message.contains('`'), "no command: {message}"),
        Err(other) => panic!("{other:?}"),
    }
}

/// Makes one test of each promise for a driver. The fixture is an expression, evaluated for each.
macro_rules! provider_contract {
    ($driver:ident, $fixture:expr) => {
        provider_contract! { @tests $driver, $fixture;
            ensured_however_often_it_is_one
            a_lost_record_makes_no_second_one
            two_ensures_at_once_make_one
            a_killed_backend_is_started_again_with_its_data
            a_stopped_backend_starts_again_with_its_data
            removed_is_gone
            retained_data_is_taken_up_again
            what_cannot_be_looked_at_is_not_absent
            foreign_things_are_left_alone
            secrets_are_not_observable
            the_log_is_readable
        }
    };
    (@tests $driver:ident, $fixture:expr; $($promise:ident)+) => {
        mod $driver {
            use super::*;

            $(
                #[tokio::test]
                async fn $promise() {
                    crate::promises::$promise($fixture).await;
                }
            )+
        }
    };
}
