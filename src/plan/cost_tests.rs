//! What a plan costs, and budgets and quotas that it has to stay within.

use super::tests::{actual, codes, desired, everywhere, existing, name, on_fly, planned, spec, wanted};
use super::*;
use crate::model::{ActualBackend, ByteSize, Cpus, Moved, ProviderKind, Usd};

#[test]
fn budgets_are_summed_over_all_backends() {
    let with = |cores: f64| {
        let mut spec = spec(ProviderKind::Docker);
        spec.resources.cpus = Cpus::from_cores(cores);
        wanted(spec)
    };
    let mut two = desired(&[("a", with(1.5)), ("b", with(0.5))]);
    two.budget.cpus = Cpus::from_cores(2.0);
    assert!(planned(&two, &actual(vec![])).refusals.is_empty());
    two.budget.cpus = Cpus::from_cores(1.999);
    assert_eq!(codes(&planned(&two, &actual(vec![])).refusals), ["plan.over_budget_cpus"]);
}

#[test]
fn the_quota_of_the_control_plane_counts_every_backend_of_the_project() {
    let sized = |cpus: f64| {
        let mut spec = spec(ProviderKind::Simulated);
        spec.resources.cpus = Some(Cpus::from_cores(cpus).unwrap());
        spec
    };
    let with_quota = |quota: crate::model::Quota, backends: Vec<ActualBackend>| {
        let mut actual = actual(backends);
        actual.snapshot.quota = quota;
        actual
    };
    let quota = crate::model::Quota { backends: Some(2), cpus: Some(Cpus::from_cores(3.0).unwrap()), ..Default::default() };
    let one = vec![existing("a", sized(1_f64))];
    let plan = planned(&desired(&[("a", wanted(sized(2_f64))), ("b", wanted(sized(1_f64)))]), &with_quota(quota, one.clone()));
    assert_eq!(codes(&plan.refusals), Vec::<&str>::new());
    let wishes = desired(&[("a", wanted(sized(2_f64))), ("b", wanted(sized(1_f64))), ("c", wanted(sized(0.5_f64)))]);
    let plan = planned(&wishes, &with_quota(quota, one));
    assert_eq!(codes(&plan.refusals), ["plan.over_quota_backends", "plan.over_quota_cpus"]);
    assert!(plan.refusals[0].message.starts_with("`gremlin` would have 3 backends, and its quota allows 2"), "{plan:#?}");
    assert!(plan.refusals[1].message.contains("3.5 of cpus together, and its quota allows 3"), "{plan:#?}");
    // What the plan takes away makes room, a rename takes none, and a lowered quota refuses no smaller request.
    let renamed = |new: f64| {
        let mut renamed = desired(&[("c", wanted(sized(2.9_f64))), ("d", wanted(sized(new)))]);
        renamed.moved.push(Moved { from: name("a"), to: name("c") });
        let two = vec![existing("a", sized(3_f64)), existing("b", sized(3_f64))];
        planned(&renamed, &with_quota(quota, two))
    };
    assert_eq!(codes(&renamed(0.1_f64).refusals), ["plan.over_quota_cpus"; 0]);
    // The control plane counts when `d` begins, and then it grows beyond what is allowed, though less is used at the end.
    assert_eq!(codes(&renamed(0.2_f64).refusals), ["plan.over_quota_cpus"]);
}

#[test]
fn a_plan_says_what_it_costs_before_and_after() {
    let fly = on_fly();
    let mut larger = fly.clone();
    larger.resources.memory = ByteSize::parse("2 GiB").ok();
    let kubernetes = spec(ProviderKind::Kubernetes);
    let plan = planned(
        &desired(&[
            ("a", wanted(larger)),
            ("b", wanted(fly.clone())),
            ("c", wanted(kubernetes)),
            ("d", wanted(spec(ProviderKind::Local))),
        ]),
        &everywhere(vec![existing("a", fly.clone()), existing("gone", fly.clone())]),
    );
    let cost = plan.cost.as_ref().unwrap();
    let usd = |dollars: f64| Some(Price { usd: Some(Usd::from_dollars(dollars)), at_most_usd: None });
    let shown: Vec<_> = cost.backends.iter().map(|cost| (cost.backend.as_str(), cost.before, cost.after)).collect();
    assert_eq!(
        shown,
        [
            ("a", usd(8.53), usd(13.53)),
            ("b", None, usd(8.53)),
            ("c", None, Some(Price { usd: None, at_most_usd: None })),
            ("gone", usd(8.53), None)
        ]
    );
    assert_eq!((cost.before.usd, cost.before.unknown.len()), (Usd::from_dollars(17.06), 0));
    assert_eq!((cost.after.usd, cost.after.unknown.as_slice()), (Usd::from_dollars(22.06), [name("c")].as_slice()));
    assert_eq!(cost.prices[0].as_of, "2026-08-05");
    let here = planned(&desired(&[("d", wanted(spec(ProviderKind::Local)))]), &everywhere(vec![]));
    assert_eq!(here.cost, None);
}

#[test]
fn a_budget_in_dollars_counts_known_prices_and_names_unknown_ones() {
    let fly = on_fly();
    let mut two = desired(&[("a", wanted(fly.clone())), ("b", wanted(fly)), ("c", wanted(spec(ProviderKind::Kubernetes)))]);
    two.budget.monthly_usd = Some(17.06);
    let plan = planned(&two, &everywhere(vec![]));
    assert_eq!(codes(&plan.refusals), Vec::<&str>::new());
    let lint = plan.lints.iter().find(|lint| lint.code == "plan.cost_unknown").unwrap();
    assert!(lint.message.contains("`c`") && !lint.message.contains("`a`"), "{}", lint.message);
    two.budget.monthly_usd = Some(17.05);
    let plan = planned(&two, &everywhere(vec![]));
    assert_eq!(codes(&plan.refusals), ["plan.over_budget_monthly_usd"]);
    assert!(plan.refusals[0].message.contains("at least $17.06"), "{}", plan.refusals[0].message);
}

#[test]
fn a_backend_costs_the_most_expensive_of_its_possible_regions() {
    let mut fly = on_fly();
    fly.settings.fly.fallback_regions = vec!["fra".into()];
    let mut one = desired(&[("a", wanted(fly.clone()))]);
    one.budget.monthly_usd = Some(9.0);
    let costs = |plan: &Plan| {
        let after = plan.cost.as_ref().unwrap().after.clone();
        (after.usd.to_string(), after.at_most_usd.map(|most| most.to_string()))
    };
    // $8.53 with 5 GB in iad, and $9.73 in fra: a ceiling holds wherever there is room.
    let new = planned(&one, &everywhere(vec![]));
    assert_eq!(costs(&new), ("$8.53".to_owned(), Some("$9.73".to_owned())));
    assert_eq!(codes(&new.refusals), ["plan.over_budget_monthly_usd"]);
    assert!(new.refusals[0].message.contains("up to $9.73"), "{}", new.refusals[0].message);

    let mut there = existing("a", fly.clone());
    for (region, cost, refused) in [("iad", "$8.53", 0), ("fra", "$9.73", 1)] {
        there.region = Some(region.into());
        let plan = planned(&one, &everywhere(vec![there.clone()]));
        assert_eq!(costs(&plan), (cost.to_owned(), None));
        assert_eq!(plan.refusals.len(), refused, "{:?}", plan.refusals);
    }
}

#[test]
fn a_quota_in_dollars_is_looked_at_while_planning() {
    let fly = on_fly();
    let two = desired(&[("a", wanted(fly.clone())), ("b", wanted(fly.clone()))]);
    let refused = |limit: f64, there: &[&str]| {
        let mut actual = everywhere(there.iter().map(|name| existing(name, fly.clone())).collect());
        actual.snapshot.quota.monthly_usd = Some(limit);
        planned(&two, &actual).refusals
    };
    assert_eq!(codes(&refused(17.06, &["a"])), Vec::<&str>::new());
    let refusals = refused(17.05, &["a"]);
    assert_eq!(codes(&refusals), ["plan.over_quota_monthly_usd"]);
    assert!(refusals[0].message.contains("would cost $17.06 a month together"), "{}", refusals[0].message);
    // A lowered quota refuses no smaller request.
    assert_eq!(codes(&refused(1.0, &["a", "b"])), Vec::<&str>::new());
}
