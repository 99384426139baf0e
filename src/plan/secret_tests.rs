//! Secrets, variables and certificates in a plan: compared by what is known of them, and never shown.

use super::tests::{actual, codes, desired, effects, existing, lints, planned, spec, wanted};
use super::*;
use crate::model::{
    ActualBackend, CertificateFile, Certificates, DesiredBackend, FingerprintKey, ProviderKind, SecretRef, SecretSource,
    SecretState, ServerStorage, Storage, Tls,
};

#[test]
fn secrets_are_compared_by_fingerprint_and_only_where_they_are() {
    let key = FingerprintKey::new([3; 32]);
    let path = FieldPath::new("env.TOKEN");
    let with = |state: SecretState| {
        let mut spec = spec(ProviderKind::Simulated);
        spec.env.insert("TOKEN".into(), SecretSource::Reference(SecretRef::Env("TOKEN".into())));
        let mut backend = wanted(spec);
        backend.secrets.insert(path.clone(), state);
        backend
    };
    let mut recorded = existing("dev", with(SecretState::Unkeyed).spec);
    recorded.secrets.insert(path.clone(), key.fingerprint("one"));
    let plan_for = |state: SecretState| planned(&desired(&[("dev", with(state))]), &actual(vec![recorded.clone()]));

    assert!(plan_for(SecretState::Known(key.fingerprint("one"))).is_empty());
    let changed = plan_for(SecretState::Known(key.fingerprint("two")));
    assert_eq!(effects(&changed), [("env.TOKEN", ChangeImpact::Live)]);
    assert!(!serde_json::to_string(&changed).unwrap().contains("two"));
    let unseen = plan_for(SecretState::Unavailable(SecretRef::Env("TOKEN".into())));
    assert!(unseen.is_empty());
    assert_eq!(lints(&unseen), ["plan.secret_not_compared"]);
}

/// A backend with one secret and one value of the manifest, and what is known of them.
fn with_values(token: SecretRef, greeting: &str, state: impl Fn(&str) -> SecretState) -> DesiredBackend {
    let mut spec = spec(ProviderKind::Simulated);
    spec.env.insert("TOKEN".into(), SecretSource::Reference(token));
    spec.env.insert("GREETING".into(), SecretSource::Literal(greeting.into()));
    let secrets = [("env.TOKEN", "token"), ("env.GREETING", greeting)];
    let secrets = secrets.into_iter().map(|(path, value)| (FieldPath::new(path), state(value))).collect();
    DesiredBackend { secrets, ..wanted(spec) }
}

fn fingerprinted(value: &str) -> SecretState {
    SecretState::Known(FingerprintKey::new([1; 32]).fingerprint(value))
}

/// The same backend as it was applied.
fn applied(backend: &DesiredBackend) -> ActualBackend {
    let mut existing = existing("dev", backend.spec.clone());
    for (path, state) in &backend.secrets {
        if let SecretState::Known(fingerprint) = state {
            existing.secrets.insert(path.clone(), fingerprint.clone());
        }
    }
    existing
}

#[test]
fn without_the_scope_for_secrets_literals_are_still_compared() {
    let token = || SecretRef::Env("TOKEN".into());
    let before = actual(vec![applied(&with_values(token(), "hello", fingerprinted))]);
    let withheld = |greeting: &str| with_values(token(), greeting, |_| SecretState::Withheld);
    let plan = planned(&desired(&[("dev", withheld("hello"))]), &before);
    assert!(plan.is_empty());
    assert_eq!(lints(&plan), [SECRET_NOT_COMPARED]);
    assert!(plan.lints[0].message.contains("scope `apply`"), "{}", plan.lints[0].message);
    let plan = planned(&desired(&[("dev", withheld("good morning"))]), &before);
    assert_eq!(effects(&plan), [("env.GREETING", ChangeImpact::Live)]);
}

#[test]
fn a_plan_without_compared_secrets_is_stale_once_a_secret_differs() {
    let token = || SecretRef::Env("TOKEN".into());
    let (blind, seeing) =
        (with_values(token(), "hello", |_| SecretState::Withheld), with_values(token(), "hello", fingerprinted));
    let plan = |wanted: &DesiredBackend, there: &ObservedState| planned(&desired(&[("dev", wanted.clone())]), there);
    // New: the values are filled in.
    let nothing = actual(vec![]);
    let promised = plan(&blind, &nothing);
    assert_ne!(promised.digest, plan(&seeing, &nothing).digest);
    assert!(still_matches(&promised, &plan(&seeing, &nothing)));
    // What was pinned stays pinned, and a plan that saw less now does not keep what was promised.
    let other = with_values(token(), "hello", |value| fingerprinted(&format!("other {value}")));
    assert!(!still_matches(&plan(&seeing, &nothing), &plan(&other, &nothing)));
    assert!(!still_matches(&plan(&seeing, &nothing), &promised));
    // A change that was seen, beside a secret that was not compared and is the same.
    let there = actual(vec![applied(&with_values(token(), "before", fingerprinted))]);
    assert!(still_matches(&plan(&blind, &there), &plan(&seeing, &there)));
    // The secret turns out to be another one: a change that nobody has seen.
    let mut changed = applied(&with_values(token(), "before", fingerprinted));
    changed.secrets.insert(FieldPath::new("env.TOKEN"), FingerprintKey::new([1; 32]).fingerprint("an earlier one"));
    let there = actual(vec![changed]);
    assert!(!still_matches(&plan(&blind, &there), &plan(&seeing, &there)));
}

#[test]
fn a_spec_that_convex_rejects_is_refused_while_planning() {
    let mut one = wanted(spec(ProviderKind::Simulated));
    one.spec.env.insert("A".into(), SecretSource::Reference(SecretRef::Env("A".into())));
    one.secrets.insert(FieldPath::new("env.A"), SecretState::Unusable("too large".into()));
    let plan = build(&desired(&[("dev", one)]), &actual(Vec::new()), &PlanOptions::default());
    assert_eq!(codes(&plan.refusals), ["plan.value_unusable"]);
    assert_eq!(plan.refusals[0].message, "`env.A` is of no use: too large");
}

#[test]
fn certificates_are_compared_by_content_and_an_old_row_by_the_file_that_it_names() {
    let pem = |body: &str| {
        let text = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        Tls::Pem(Certificates::parse(&text).unwrap())
    };
    let on_server = |tls: Tls| {
        let mut spec = spec(ProviderKind::Docker);
        spec.storage = Storage::Postgres(ServerStorage { url: Some(SecretRef::Env("U".into())), tls, ..Default::default() });
        spec
    };
    let changed = |tls: Tls, file: &str, recorded: Tls| {
        let mut one = wanted(on_server(tls));
        one.certificate_file = Some(CertificateFile { path: file.to_owned(), problem: None });
        one.secrets.insert(FieldPath::new("storage.url"), SecretState::Unavailable(SecretRef::Env("U".into())));
        let actual = actual(vec![existing("dev", on_server(recorded))]);
        let plan = build(&desired(&[("dev", one)]), &actual, &PlanOptions::default());
        let changes = plan.steps.into_iter().flat_map(|step| step.changes);
        let changes = changes.filter(|change| change.path.as_str() == "storage.tls");
        changes.map(|change| (change.before.unwrap_or_default(), change.after.unwrap_or_default())).collect::<Vec<_>>()
    };
    let shown = |tls: &Tls| if let Tls::Pem(found) = tls { format!("ca {found}") } else { String::new() };
    let (one, two) = (pem("AAAA"), pem("BBBB"));
    assert_eq!(changed(one.clone(), "/here/ca.pem", one.clone()), []);
    let sealed = |tls: &Tls| {
        let mut recorded = on_server(tls.clone());
        assert!(recorded.storage.take_certificates().is_some());
        recorded.storage.server().unwrap().tls.clone()
    };
    assert_eq!(changed(one.clone(), "/here/ca.pem", sealed(&one)), []);
    assert_eq!(changed(two.clone(), "/here/ca.pem", sealed(&one)), [(shown(&one), shown(&two))]);
    assert_eq!(changed(two.clone(), "/here/ca.pem", one.clone()), [(shown(&one), shown(&two))]);
    // A row of a control plane up to 0.1 is no reason to touch anything, and is written anew with the next change.
    assert_eq!(changed(one.clone(), "/here/ca.pem", Tls::Ca("/here/ca.pem".into())), []);
    let elsewhere = Tls::Ca("/there/ca.pem".into());
    assert_eq!(changed(one.clone(), "/here/ca.pem", elsewhere), [("ca /there/ca.pem".to_owned(), shown(&one))]);

    let mut broken = wanted(on_server(Tls::Ca("/here/ca.pem".into())));
    let problem = Some("there is no such file".to_owned());
    broken.certificate_file = Some(CertificateFile { path: "/here/ca.pem".into(), problem });
    let plan = build(&desired(&[("dev", broken)]), &actual(Vec::new()), &PlanOptions::default());
    assert_eq!(codes(&plan.refusals), ["database.ca_file"]);
    assert!(plan.refusals[0].message.ends_with("`/here/ca.pem`: there is no such file"), "{}", plan.refusals[0].message);
}

#[test]
fn unmanaged_variables_are_named_and_left_alone() {
    let mut spec = spec(ProviderKind::Simulated);
    spec.env.insert("OURS".into(), SecretSource::Literal("x".into()));
    let mut there = existing("dev", spec.clone());
    there.secrets.insert(FieldPath::new("env.OURS"), FingerprintKey::new([1; 32]).fingerprint("x"));
    there.unmanaged_env = ["OURS_SOON".to_owned(), "THEIRS".to_owned()].into();
    let mut now = wanted(spec);
    let known = || SecretState::Known(FingerprintKey::new([1; 32]).fingerprint("x"));
    now.secrets.insert(FieldPath::new("env.OURS"), known());
    let look = |now: &DesiredBackend| {
        let plan = build(&desired(&[("dev", now.clone())]), &actual(vec![there.clone()]), &PlanOptions::default());
        (plan.steps.len(), plan.lints.first().map(|lint| lint.message.clone()).unwrap_or_default())
    };
    let (steps, said) = look(&now);
    assert!(steps == 0 && said.contains("`OURS_SOON`, `THEIRS`"), "{said}");
    now.spec.env.insert("OURS_SOON".into(), SecretSource::Literal("y".into()));
    now.secrets.insert(FieldPath::new("env.OURS_SOON"), known());
    let (steps, said) = look(&now);
    assert!(steps == 1 && said.contains("has `THEIRS`, "), "{said}");
}

#[test]
fn a_secret_that_is_a_template_is_named_and_not_shown() {
    let mut backend = with_values(SecretRef::File("token".into()), "hello", fingerprinted);
    backend.templates.insert(FieldPath::new("env.TOKEN"), "${NAME}");
    let plan = planned(&desired(&[("dev", backend)]), &actual(vec![]));
    assert_eq!((lints(&plan), plan.refusals.len()), (vec!["plan.secret_template"], 0));
    assert!(
        plan.lints[0].message.starts_with("`env.TOKEN` comes from file `token`, and looks like"),
        "{}",
        plan.lints[0].message
    );
}
