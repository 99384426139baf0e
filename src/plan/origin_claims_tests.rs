//! Who holds an origin while a plan is carried out.

use std::collections::BTreeSet;

use crate::model::{BackendName, BackendSpec, Moved, ProviderKind};
use crate::plan::tests::{actual, codes, desired, existing, ids, name, spec, wanted};
use crate::plan::{BackendSelection, Plan, PlanOptions, StepId, build, validate};

fn at(host: &str) -> BackendSpec {
    let mut spec = spec(ProviderKind::Simulated);
    spec.origins.api = Some(format!("https://{host}"));
    spec.origins.site = Some(format!("https://{host}/http"));
    spec
}

type Specs<'a> = &'a [(&'a str, BackendSpec)];

fn plan_with(there: Specs<'_>, wishes: Specs<'_>, moved: &[(&str, &str)], options: &PlanOptions) -> Plan {
    let wishes: Vec<_> = wishes.iter().map(|(key, spec)| (*key, wanted(spec.clone()))).collect();
    let mut desired = desired(&wishes);
    desired.moved = moved.iter().map(|(from, to)| Moved { from: name(from), to: name(to) }).collect();
    let plan = build(&desired, &actual(there.iter().map(|(key, spec)| existing(key, spec.clone())).collect()), options);
    assert_eq!(validate(&plan), Ok(()));
    plan
}

fn plan_of(there: Specs<'_>, wishes: Specs<'_>) -> Plan {
    plan_with(there, wishes, &[], &PlanOptions::default())
}

/// What the steps wait for, without those that wait for nothing.
fn waits(plan: &Plan) -> Vec<(&str, Vec<&str>)> {
    let waiting = plan.steps.iter().filter(|step| !step.after.is_empty());
    waiting.map(|step| (step.id.as_str(), step.after.iter().map(StepId::as_str).collect())).collect()
}

#[test]
fn an_origin_is_given_up_before_it_is_claimed() {
    // By a backend that changes, one that goes, and along a chain.
    let plan = plan_of(&[("a", at("x.dev")), ("b", at("y.dev"))], &[("a", at("y.dev")), ("b", at("z.dev"))]);
    assert_eq!((codes(&plan.refusals), waits(&plan)), (vec![], vec![("update:backend.a", vec!["update:backend.b"])]));
    let plan = plan_of(&[("old", at("X.dev:443"))], &[("new", at("x.dev"))]);
    assert_eq!((codes(&plan.refusals), waits(&plan)), (vec![], vec![("create:backend.new", vec!["destroy:backend.old"])]));
    let there = [("a", at("1.dev")), ("b", at("2.dev")), ("c", at("3.dev"))];
    let plan = plan_of(&there, &[("a", at("2.dev")), ("b", at("3.dev")), ("c", at("4.dev"))]);
    assert_eq!(ids(&plan), ["update:backend.c", "update:backend.b", "update:backend.a"]);
    assert_eq!(codes(&plan.refusals), Vec::<&str>::new());
    // What is renamed keeps its own, and what already stands is no new claim.
    let plan = plan_with(&[("a", at("x.dev"))], &[("b", at("x.dev"))], &[("a", "b")], &PlanOptions::default());
    assert_eq!((codes(&plan.refusals), waits(&plan)), (vec![], vec![]));
    let both = [("a", at("x.dev")), ("b", at("x.dev"))];
    assert_eq!(codes(&plan_of(&both, &both).refusals), Vec::<&str>::new());
}

#[test]
fn an_exchange_says_the_step_in_between_that_makes_it_possible() {
    let there = [("a", at("x.dev")), ("b", at("y.dev"))];
    let plan = plan_of(&there, &[("a", at("y.dev")), ("b", at("x.dev"))]);
    assert_eq!(codes(&plan.refusals), ["plan.exchanged_origins"]);
    assert!(plan.refusals[0].message.contains("`backend.a`, `backend.b`"), "{:?}", plan.refusals);
    // The way that it names: one of them steps aside first.
    let aside = [("a", spec(ProviderKind::Simulated)), ("b", at("x.dev"))];
    let first = plan_of(&there, &aside);
    assert_eq!((codes(&first.refusals), waits(&first)), (vec![], vec![("update:backend.b", vec!["update:backend.a"])]));
    let then = plan_of(&aside, &[("a", at("y.dev")), ("b", at("x.dev"))]);
    assert_eq!((codes(&then.refusals), ids(&then)), (vec![], vec!["update:backend.a"]));
    // A dependency can close the circle as well.
    let mut follower = at("y.dev");
    follower.depends_on.insert(name("a"));
    let plan = plan_of(&[("a", at("x.dev")), ("b", at("z.dev"))], &[("a", at("z.dev")), ("b", follower)]);
    assert_eq!(codes(&plan.refusals), ["plan.exchanged_origins"]);
}

#[test]
fn an_origin_that_no_step_gives_up_is_refused() {
    let there = [("blue", at("x.dev")), ("green", at("y.dev"))];
    let wishes = [("blue", at("z.dev")), ("green", at("x.dev"))];
    let green: BTreeSet<BackendName> = [name("green")].into();
    let options = PlanOptions { selection: BackendSelection::Only(green), ..PlanOptions::default() };
    let plan = plan_with(&there, &wishes, &[], &options);
    assert_eq!(codes(&plan.refusals), ["manifest.shared_origin"]);
    assert!(plan.refusals[0].message.contains("`blue`"), "{:?}", plan.refusals);
}
