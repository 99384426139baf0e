//! Requests that fail, answers that get lost, and other clients at work.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use convexinfra::model::RunState;
use convexinfra::provider::fly::FlyError;
use convexinfra::provider::{Provider, ProviderError};
use serde_json::json;

use super::fixture::{Fixture, provider, timeouts};
use fake_fly::settings::TOKEN;
use fake_fly::{Fault, Reply, Settings};

/// Every request with which something is made.
const MAKES: [&str; 5] =
    ["/v1/apps", "/v1/apps/*/ip_assignments", "/v1/apps/*/secrets", "/v1/apps/*/volumes", "/v1/apps/*/machines"];

#[tokio::test]
async fn lost_answers_make_nothing_twice() {
    for path in MAKES {
        for after in [0, 1] {
            // A second one of these there is only of addresses.
            if after == 1 && path != MAKES[1] {
                continue;
            }
            let mut fixture = Fixture::new();
            fixture.fly.order(Fault::answer_lost("POST", path).after(after));
            fixture.ensure().await;
            assert!(fixture.fly.outstanding().is_empty(), "{path} was not sent");
            fixture.one_of_each();
            assert_eq!(fixture.drift().await, Vec::<String>::new(), "{path}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_says_neither_yes_nor_no_is_looked_into() {
    for path in MAKES {
        for (status, done) in [(408, true), (408, false), (503, true), (502, false)] {
            let mut fixture = Fixture::new();
            let fault = Fault::answer("POST", path, Reply::error(status, "deadline_exceeded: no answer in time"));
            fixture.fly.order(if done { fault.after_the_effect() } else { fault });
            fixture.ensure().await;
            assert!(fixture.fly.outstanding().is_empty(), "{path} was not sent");
            fixture.one_of_each();
        }
    }
}

#[tokio::test]
async fn connections_that_break_are_tried_again() {
    let mut fixture = Fixture::new();
    fixture.fly.order(Fault::dropped("GET", "/v1/apps/**").times(3));
    fixture.fly.order(Fault::dropped("POST", "/v1/apps"));
    fixture.ensure().await;
    fixture.one_of_each();
}

#[tokio::test]
async fn a_rate_limit_is_retried_after_its_delay() {
    let mut fixture = Fixture::with(Settings { retry_after: Some("1".to_owned()), ..Settings::friendly() });
    let mut limited = Reply::error(429, "rate limit exceeded");
    limited.headers.push(("retry-after".to_owned(), "1".to_owned()));
    fixture.fly.order(Fault::answer("POST", "/v1/apps/*/machines", limited));
    let begun = std::time::Instant::now();
    fixture.ensure().await;
    assert!(begun.elapsed() >= Duration::from_secs(1));
    fixture.one_of_each();
}

#[tokio::test]
async fn a_failed_observation_is_not_absence() {
    for path in ["/v1/apps/*", "/v1/apps/*/machines", "/v1/apps/*/volumes", "/v1/apps/*/secrets", "/v1/apps/*/ip_assignments"] {
        for status in [500, 403, 404] {
            // That the app itself is not found is an answer.
            if path == "/v1/apps/*" && status != 500 {
                continue;
            }
            let mut fixture = Fixture::friendly();
            fixture.ensure().await;
            let short = convexinfra::provider::fly::Timeouts { retry: Duration::from_millis(50), ..timeouts() };
            let hasty = provider(&fixture.fly, TOKEN, short);
            fixture.fly.order(Fault::answer("GET", path, Reply::error(status, "unavailable")).always());
            let looked = hasty.observe(&fixture.placement).await;
            assert!(matches!(looked, Err(ProviderError::Fly(_))), "{path} {status}: {looked:?}");
            let writes = fixture.writes();
            fixture.placement.provider_state.remove("volume");
            assert!(hasty.ensure(&fixture.placement, &|_| {}).await.is_err());
            assert_eq!(fixture.writes(), writes, "{path} {status}");
        }
    }
}

#[tokio::test]
async fn a_rejected_token_is_reported_and_not_shown() {
    let fixture = Fixture::friendly();
    let stranger = provider(&fixture.fly, "fm2_nobody-knows-this-one", timeouts());
    let error = stranger.ensure(&fixture.placement, &|_| {}).await.unwrap_err();
    assert!(matches!(error, ProviderError::Fly(FlyError::Token { .. })), "{error:?}");
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("FLY_API_TOKEN") && !shown.contains("nobody-knows"), "{shown}");
    assert!(stranger.observe(&fixture.placement).await.is_err());
}

#[tokio::test]
async fn a_foreign_lease_is_awaited_and_never_broken() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let machine = fixture.machines()[0].clone();
    let lease = format!("/apps/APP/machines/{machine}/lease");
    let held = fixture.meddle("POST", &lease, json!({ "ttl": 600, "description": "somebody" })).await;
    fixture.placement.spec.tuning.max_concurrent_queries = Some(8);
    let hasty = provider(
        &fixture.fly,
        TOKEN,
        convexinfra::provider::fly::Timeouts { lease_wait: Duration::from_millis(100), ..timeouts() },
    );
    let error = hasty.ensure(&fixture.placement, &|_| {}).await.unwrap_err();
    assert!(matches!(error, ProviderError::Fly(FlyError::LeaseHeld { .. })), "{error:?}");
    assert_eq!(fixture.config()["env"].get("APPLICATION_MAX_CONCURRENT_QUERIES"), None);
    assert!(held["data"]["nonce"].is_string());
    // It runs out.
    fixture.fly.world().ahead += Duration::from_secs(601);
    fixture.ensure().await;
    assert_eq!(fixture.config()["env"]["APPLICATION_MAX_CONCURRENT_QUERIES"], "8");
}

#[tokio::test]
async fn a_conflicting_update_is_retried_on_the_current_version() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    fixture.fly.order(Fault::answer(
        "POST",
        "/v1/apps/*/machines/*",
        Reply::error(409, "aborted: machine update failed due to concurrent update"),
    ));
    fixture.placement.spec.tuning.max_concurrent_queries = Some(8);
    fixture.ensure().await;
    assert!(fixture.fly.outstanding().is_empty());
    assert_eq!(fixture.drift().await, Vec::<String>::new());
}

#[tokio::test]
async fn an_update_whose_answer_is_lost_is_not_made_twice() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let versions = |fixture: &Fixture| fixture.fly.world().apps[&fixture.app()].machines[0].versions.len();
    let before = versions(&fixture);
    fixture.fly.order(Fault::answer_lost("POST", "/v1/apps/*/machines/*"));
    fixture.placement.spec.tuning.max_concurrent_queries = Some(8);
    fixture.ensure().await;
    assert!(fixture.fly.outstanding().is_empty());
    assert_eq!(versions(&fixture), before + 1);
}

#[tokio::test]
async fn an_update_that_does_not_come_up_is_taken_back() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let machine = fixture.machines()[0].clone();
    let short = convexinfra::provider::fly::Timeouts { ready: Duration::from_secs(2), ..timeouts() };
    let hasty = provider(&fixture.fly, TOKEN, short);
    fixture.placement.spec.tuning.max_concurrent_queries = Some(8);
    fixture.fly.world().omens.checks_fail = true;
    let error = hasty.ensure(&fixture.placement, &|_| {}).await.unwrap_err();
    assert!(matches!(&error, ProviderError::Fly(FlyError::RolledBack { why, .. }) if why.contains("check")), "{error:?}");
    fixture.fly.world().omens.checks_fail = false;
    assert_eq!(fixture.config()["env"].get("APPLICATION_MAX_CONCURRENT_QUERIES"), None, "the new configuration stayed");
    assert_eq!(fixture.machines(), [machine]);
    assert!(fixture.fly.world().apps[&fixture.app()].machines[0].lease.is_none(), "the lease was kept");
    // What was last asked for is still asked for.
    assert!(fixture.drift().await.iter().any(|line| line.starts_with("env.APPLICATION_MAX_CONCURRENT_QUERIES")));
    fixture.ensure().await;
    assert_eq!(fixture.drift().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_machine_that_ends_at_once_says_how() {
    let fixture = Fixture::friendly();
    fixture.fly.world().omens.launches_fail = true;
    let error = fixture.refusal().await;
    assert!(matches!(&error, FlyError::NotReady { why, .. } if why.contains("failed")), "{error:?}");
    assert!(error.help().unwrap().contains("fly logs --app"));
    assert_eq!(fixture.machines().len(), 1);
}

#[tokio::test]
async fn unlisted_checks_have_not_passed_and_are_awaited_for_a_bounded_time() {
    let mut fixture = Fixture::friendly();
    fixture.fly.world().omens.checks_missing = true;
    let begun = std::time::Instant::now();
    fixture.ensure().await;
    assert!(begun.elapsed() >= timeouts().unchecked);
    assert_eq!(fixture.observe().await.state, RunState::Running);
}

#[tokio::test]
async fn a_server_that_takes_secrets_one_by_one_gets_them_so() {
    let mut fixture = Fixture::friendly();
    fixture.fly.order(Fault::answer("POST", "/v1/apps/*/secrets", Reply::error(404, "not found")).always());
    fixture.ensure().await;
    let expected = fixture.placement.instance_secret.expose().to_owned();
    assert_eq!(fixture.fly.world().apps[&fixture.app()].machines[0].secrets["INSTANCE_SECRET"], expected);
    assert_eq!(fixture.drift().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_binding_that_lingers_is_waited_for() {
    let mut fixture = Fixture::with(Settings { binding_lingers: Duration::from_millis(300), ..Settings::friendly() });
    fixture.ensure().await;
    fixture.remove().await;
    assert!(fixture.fly.world().apps.is_empty());
}

#[tokio::test]
async fn a_removal_whose_answers_are_lost_ends_all_the_same() {
    for path in ["/v1/apps/*/machines/*", "/v1/apps/*/volumes/*", "/v1/apps/*"] {
        let mut fixture = Fixture::new();
        fixture.ensure().await;
        fixture.fly.order(Fault::answer_lost("DELETE", path));
        fixture.remove().await;
        assert!(fixture.fly.outstanding().is_empty(), "{path}");
        assert!(fixture.fly.world().apps.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn an_app_that_does_not_show_yet_is_not_taken_for_none() {
    let fixture = Fixture::with(Settings { app_hidden_for: 5, ..Settings::friendly() });
    // Nobody knows whether this request was carried out.
    fixture.meddle("POST", "/apps", json!({ "app_name": fixture.app(), "org_slug": "acme", "network": fixture.app() })).await;
    fixture.remove().await;
    assert!(fixture.fly.world().apps.is_empty(), "an app was left for ever");
}

#[tokio::test]
async fn a_list_without_some_regions_is_not_taken_for_none() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let page = json!({ "volumes": [], "next_cursor": "", "error_regions": ["fra"] });
    fixture.fly.order(Fault::answer("GET", "/v1/orgs/*/volumes", Reply::ok(page)).always());
    let short = convexinfra::provider::fly::Timeouts { deletion: Duration::from_millis(500), ..timeouts() };
    let hasty = provider(&fixture.fly, TOKEN, short);
    let error = hasty.remove(&fixture.placement, &|_| {}).await.unwrap_err();
    assert!(matches!(&error, ProviderError::Fly(FlyError::Unreachable { said, .. }) if said.contains("fra")), "{error:?}");
    fixture.fly.clear_faults();
    fixture.remove().await;
}

#[tokio::test]
async fn a_volume_that_a_machine_has_is_not_swept_away() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    fixture.fly.order(Fault::answer("GET", "/v1/apps/*", Reply::error(404, "not found")).always());
    let short = convexinfra::provider::fly::Timeouts {
        deletion: Duration::from_millis(200),
        visibility: Duration::from_millis(200),
        ..timeouts()
    };
    let hasty = provider(&fixture.fly, TOKEN, short);
    let writes = fixture.writes();
    let error = hasty.remove(&fixture.placement, &|_| {}).await.unwrap_err();
    assert!(matches!(error, ProviderError::Fly(FlyError::NotDeleted { .. })), "{error:?}");
    assert_eq!(fixture.writes(), writes);
    fixture.one_of_each();
}

#[tokio::test]
async fn a_time_to_wait_that_is_longer_than_patience_is_waited_out() {
    let mut fixture = Fixture::friendly();
    let mut limited = Reply::error(429, "rate limit exceeded");
    limited.headers.push(("retry-after".to_owned(), "2".to_owned()));
    fixture.fly.order(Fault::answer("POST", "/v1/apps/*/machines", limited));
    let short = convexinfra::provider::fly::Timeouts { retry: Duration::from_secs(1), ..timeouts() };
    let begun = std::time::Instant::now();
    fixture.provider = provider(&fixture.fly, TOKEN, short);
    fixture.ensure().await;
    assert!(begun.elapsed() >= Duration::from_secs(2));
    fixture.one_of_each();

    // A server's `retry-after` is bounded.
    let mut limited = Reply::error(429, "rate limit exceeded");
    limited.headers.push(("retry-after".to_owned(), "86400".to_owned()));
    fixture.fly.order(Fault::answer("GET", "/v1/apps/*", limited));
    assert!(matches!(fixture.refusal().await, FlyError::Unreachable { .. }));
}

#[tokio::test]
async fn a_vault_that_lags_behind_is_waited_for() {
    let mut fixture = Fixture::friendly();
    let behind = Reply::error(412, "failed_precondition: app secrets are not up to date");
    fixture.fly.order(Fault::answer("POST", "/v1/apps/*/machines", behind.clone()).times(2));
    fixture.ensure().await;
    fixture.fly.order(Fault::answer("POST", "/v1/apps/*/machines/*", behind));
    fixture.placement.instance_secret = convexinfra::model::Secret::new("ab".repeat(32));
    fixture.ensure().await;
    assert!(fixture.fly.outstanding().is_empty());
    fixture.one_of_each();
    assert_eq!(fixture.drift().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_volume_that_fly_does_not_find_is_looked_for_again() {
    let not_found = || Fault::answer("POST", "/v1/apps/*/machines", Reply::error(400, "invalid_argument: volume not found"));
    let mut fixture = Fixture::friendly();
    fixture.fly.order(not_found().times(2));
    fixture.ensure().await;
    assert!(fixture.fly.outstanding().is_empty());
    fixture.one_of_each();

    // Data that is gone in between is not replaced by none.
    let (machine, volumes) = (fixture.machines()[0].clone(), fixture.volumes());
    fixture.meddle("DELETE", &format!("/apps/APP/machines/{machine}?force=true"), serde_json::Value::Null).await;
    fixture.fly.order(not_found());
    fixture.ensure().await;
    assert_eq!(fixture.volumes(), volumes);
}

#[tokio::test]
async fn a_machine_that_cannot_be_started_as_it_is_is_looked_at_again() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    let machine = fixture.machines()[0].clone();
    fixture.meddle("POST", &format!("/apps/APP/machines/{machine}/stop"), json!({})).await;
    while fixture.observe().await.state != RunState::Stopped {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let refused = Reply::error(412, "failed_precondition: unable to start machine from current state: 'stopping'");
    fixture.fly.order(Fault::answer("POST", "/v1/apps/*/machines/*/start", refused.clone()));
    // Once more, when it was started all the same.
    fixture.fly.order(Fault::answer("POST", "/v1/apps/*/machines/*/start", refused).after_the_effect());
    fixture.ensure().await;
    assert!(fixture.fly.outstanding().is_empty());
    assert_eq!((fixture.observe().await.state, fixture.machines()), (RunState::Running, vec![machine]));
}

#[tokio::test]
async fn checks_that_vanish_have_not_passed() {
    let mut fixture = Fixture::friendly();
    fixture.ensure().await;
    fixture.fly.world().omens.checks_missing = true;
    let seen = fixture.observe().await;
    assert_eq!((seen.state, seen.drift), (RunState::Unready, Vec::new()));
}
