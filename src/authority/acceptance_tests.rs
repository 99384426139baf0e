//! Requests that are accepted once, within quota and without a cycle.

use super::tests::{NOW, me, name, project, put, refusal_code, remove, simulated, world};
use super::*;
use crate::api::{OperationRequest, ResourceLevel};
use crate::model::{BackendSpec, ByteSize, Cpus, Quota, StepKey};

pub(super) fn sized(cpus: f64, memory: u64) -> BackendSpec {
    let mut spec = simulated();
    spec.settings.simulated.listen = false;
    spec.resources.cpus = Cpus::from_cores(cpus);
    spec.resources.memory = Some(ByteSize::from_bytes(memory << 30));
    spec
}

#[test]
fn work_is_accepted_up_to_the_quota_and_refused_over_it() {
    let world = world();
    let lease = world.lease();
    let everybody = Quota { backends: Some(2), cpus: Cpus::from_cores(2.0), ..Quota::default() };
    world.authority.set_quota(&ResourceLevel::ControlPlane, &everybody, &me(), NOW).unwrap();
    world.bring_up(&lease, "a", put(sized(1.0, 1)));
    let over = world.accept(&lease, "over", "b", put(sized(1.5, 1))).unwrap_err();
    let AuthorityError::Control(ControlError::Refused(finding)) = over else { panic!("{over:?}") };
    assert_eq!(finding.code, "plan.over_quota_cpus");
    assert!(finding.message.contains("would ask for 2.5 of cpus together, and its quota allows 2"), "{}", finding.message);
    world.bring_up(&lease, "b", put(sized(1.0, 1)));
    let third = world.accept(&lease, "third", "c", put(sized(0.1, 1))).unwrap_err();
    assert!(third.to_string().contains("would have 3 backends, and its quota allows 2"), "{third}");
    assert_eq!(world.authority.usage(&project()).unwrap().backends, 2);
    // Its own quota takes the place of everybody's, and one that was lowered lets a project shrink.
    let own = Quota { cpus: Cpus::from_cores(1.0), ..Quota::default() };
    world.authority.set_quota(&ResourceLevel::Project(project()), &own, &me(), NOW).unwrap();
    assert_eq!(world.authority.quota(&ResourceLevel::Project(project())).unwrap(), own);
    world.bring_up(&lease, "a", put(sized(0.5, 1)));
    assert!(world.accept(&lease, "grow", "a", put(sized(0.6, 1))).is_err());
    world.bring_up(&lease, "a", put(sized(0.5, 64)));
}

#[test]
fn a_step_key_is_not_reused_for_other_work() {
    let world = world();
    let lease = world.lease();
    let mut record = simulated();
    record.settings.simulated.listen = false;
    world.accept(&lease, "plan/step", "dev", put(record.clone())).unwrap();
    world.accept(&lease, "plan/step", "dev", put(record.clone())).unwrap();
    for (backend, work) in [("other", put(record)), ("dev", remove())] {
        let refused = world.accept(&lease, "plan/step", backend, work).unwrap_err();
        assert_eq!(refusal_code(refused), "control.step_reused");
    }
    assert_eq!(world.authority.view(&project()).unwrap().backends.len(), 1);
}

#[test]
fn a_dependency_cycle_is_refused() {
    let world = world();
    let lease = world.lease();
    let needs = |others: &[&str]| {
        let mut record = simulated();
        record.settings.simulated.listen = false;
        record.depends_on = others.iter().map(|other| name(other)).collect();
        put(record)
    };
    let code = |step: &str, backend: &str, others: &[&str]| {
        let request =
            OperationRequest { step: StepKey::parse(step), backend: name(backend), work: needs(others), origin: None };
        let accepted = world.authority.accept(&lease, ExecutionMode::ControlPlane, Principal::Trusted(&me()), &request, NOW);
        accepted.err().map(refusal_code)
    };
    let cycle = Some("control.dependency_cycle".to_owned());
    assert_eq!(code("1", "a", &["a"]), cycle);
    assert_eq!(code("2", "a", &["b"]), None, "it may come later");
    assert_eq!(code("3", "b", &["c"]), None);
    assert_eq!(code("4", "c", &["d", "a"]), cycle);
    assert_eq!(code("5", "c", &["d"]), None);
    // The other way round, one after the other.
    assert_eq!(code("6", "a", &[]), None);
    assert_eq!(code("7", "c", &["a"]), None);
}
