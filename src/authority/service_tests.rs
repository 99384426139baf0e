//! What a served control plane asks of the authority: tokens, ceilings, the history, and operations without a client.

use std::collections::{BTreeMap, BTreeSet};

use rstest::rstest;

use super::tests::{NOW, World, alive, holder, me, name, now_key, project, put, remove, simulated, world};
use super::*;
use crate::api::{
    HistoryPage, HistoryVerification, Lease, OperationOutcome, OperationRequest, ResourceLevel, TOKEN_PREFIX, Work,
};
use crate::model::{
    BackendSpec, ByteSize, Cpus, DatabaseReclaim, DowngradeConsent, FieldPath, ProjectName, ProviderKind, ProviderState, Quota,
    Scope, Secret, SecretRef, SecretSource, StepKey, TimeSpan, Timestamp, TokenRequest, VolumeReclaim,
};
use crate::store::Durability;

fn token_for(world: &World, scope: Scope, ttl: Option<TimeSpan>) -> crate::model::IssuedToken {
    let project = (scope != Scope::Operator).then(project);
    let request = TokenRequest { project, scope, note: format!("a {scope} token"), ttl };
    world.authority.create_token(&request, &[], &me(), NOW).unwrap()
}

fn refusal_code(error: AuthorityError) -> String {
    match error {
        AuthorityError::Control(error) => error.report().errors.swap_remove(0).code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_authorizes_its_scope_in_its_project_only() {
    let world = world();
    let other = ProjectName::parse("other").unwrap();
    for scope in Scope::ALL {
        let bearer = world.authority.authenticate(&token_for(&world, scope, None).token, NOW).unwrap();
        assert_eq!(bearer.actor().name, format!("a {scope} token"));
        for asked in Scope::ALL {
            let own = bearer.authorize(asked, Some(&project()));
            assert_eq!(own.is_ok(), asked <= scope, "{scope} asked for {asked}: {own:?}");
            let elsewhere = bearer.authorize(asked, Some(&other));
            assert_eq!(elsewhere.is_ok(), scope == Scope::Operator, "{scope} asked for {asked} elsewhere");
            let everywhere = bearer.authorize(asked, None);
            assert_eq!(
                everywhere.is_ok(),
                scope == Scope::Operator || asked == Scope::Read,
                "{scope} asked for {asked} of all"
            );
        }
    }
    let reader = world.authority.authenticate(&token_for(&world, Scope::Read, None).token, NOW).unwrap();
    let denied = reader.authorize(Scope::Apply, Some(&project())).unwrap_err().report();
    assert_eq!(denied.exit, crate::model::Exit::NotAuthorised);
    assert!(denied.errors[0].message.contains("`read`") && denied.errors[0].message.contains("`apply`"), "{denied:?}");
}

#[test]
fn only_an_intact_unexpired_unrevoked_token_authenticates() {
    let world = world();
    let issued = token_for(&world, Scope::Apply, Some(TimeSpan::from_seconds(60)));
    let text = issued.token.expose().to_owned();
    assert!(text.starts_with(TOKEN_PREFIX));
    let code = |text: &str, at: Timestamp| refusal_code(world.authority.authenticate(&Secret::new(text), at).unwrap_err());
    for cut in 0..text.len() {
        assert_eq!(code(&text[..cut], NOW), "auth.token_malformed", "{cut} characters");
    }
    assert_eq!(code(&format!("{text}0"), NOW), "auth.token_malformed");
    for index in TOKEN_PREFIX.len()..text.len() {
        let other = if text.as_bytes()[index] == b'a' { "b" } else { "a" };
        let altered = format!("{}{other}{}", &text[..index], &text[index + 1..]);
        assert_eq!(code(&altered, NOW), "auth.token_malformed", "character {index}");
    }
    // The right shape and checksum, and nobody's.
    let stranger = token_for(&self::world(), Scope::Apply, None);
    assert_eq!(code(stranger.token.expose(), NOW), "auth.token_unknown");
    assert_eq!(code(&text, NOW.plus_milliseconds(60_000)), "auth.token_expired");
    world.authority.authenticate(&issued.token, NOW.plus_milliseconds(59_999)).unwrap();
    world.authority.revoke_token(&issued.record.id, &me(), NOW).unwrap();
    assert_eq!(code(&text, NOW), "auth.token_revoked");
    let revoked = world.authority.revoke_token(&issued.record.id, &me(), NOW.plus_milliseconds(1)).unwrap();
    assert_eq!(revoked.revoked_at, Some(NOW), "ending it again changes nothing");
    for entry in std::fs::read_dir(world.folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let secret = &text[TOKEN_PREFIX.len() + 11..];
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "the token stands in the store");
    }
}

#[test]
fn a_token_request_needs_a_project_for_every_scope_but_operator() {
    let world = world();
    let ask = |scope, project, note: &str| {
        let request = TokenRequest { project, scope, note: note.to_owned(), ttl: None };
        world.authority.create_token(&request, &[], &me(), NOW).map_err(refusal_code)
    };
    assert_eq!(ask(Scope::Operator, Some(project()), "").unwrap_err(), "token.request");
    assert_eq!(ask(Scope::Read, None, "").unwrap_err(), "token.request");
    assert_eq!(ask(Scope::Read, Some(project()), "two\nlines").unwrap_err(), "token.request");
    assert_eq!(ask(Scope::Read, Some(project()), &"x".repeat(201)).unwrap_err(), "token.request");
    assert!(world.authority.tokens().unwrap().is_empty());
}

fn sized(cpus: f64, memory: u64) -> BackendSpec {
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

#[rstest]
#[case::another_detail("UPDATE events SET detail = 'nothing to see' WHERE sequence = 2")]
#[case::another_actor("UPDATE events SET actor = replace(actor, 'on here', 'on there') WHERE sequence = 3")]
#[case::an_entry_removed("DELETE FROM events WHERE sequence = 2")]
#[case::the_last_entry_removed("DELETE FROM events WHERE sequence = (SELECT max(sequence) FROM events)")]
#[case::the_last_entry_removed_and_the_length_with_it(
    "DELETE FROM events WHERE sequence = (SELECT max(sequence) FROM events); UPDATE chains SET length = length - 1"
)]
#[case::another_time("UPDATE events SET at = at + 1 WHERE sequence = 1")]
#[case::the_head_set_back_without_the_key(
    "DELETE FROM events WHERE position > 1; UPDATE chains SET (length, head) = (SELECT position, hash FROM events) WHERE project = 'gremlin'"
)]
#[case::an_unchained_entry("INSERT INTO events (project, at, kind, detail) VALUES ('gremlin', 5, 'origin_set', '')")]
#[case::an_unchained_entry_before_all_others(
    "INSERT INTO events (sequence, project, at, kind, detail) VALUES (0, 'gremlin', 5, 'origin_set', '')"
)]
#[case::no_links("UPDATE events SET position = NULL, hash = NULL; DELETE FROM chains WHERE project = 'gremlin'")]
#[case::no_links_and_no_actors(
    "UPDATE events SET position = NULL, hash = NULL, actor = NULL, plan = NULL; DELETE FROM chains WHERE project = 'gremlin'"
)]
#[case::no_links_and_a_key_check_that_allows_it(
    "UPDATE events SET position = NULL, hash = NULL, actor = NULL, plan = NULL; DELETE FROM chains; UPDATE key_marks SET unbound = 99"
)]
#[case::no_links_and_no_key_check(
    "UPDATE events SET position = NULL, hash = NULL, actor = NULL, plan = NULL; DELETE FROM chains; DELETE FROM key_marks"
)]
#[case::no_entries("DELETE FROM events; DELETE FROM chains WHERE project = 'gremlin'")]
#[case::no_entries_and_no_key_check("DELETE FROM events; DELETE FROM chains; DELETE FROM key_marks")]
fn tampering_with_the_history_shows(#[case] statements: &str) {
    let (world, lease) = world_with_history();
    let rows = rusqlite::Connection::open(world.folder.path().join("store.sqlite3")).unwrap();
    if !statements.starts_with("INSERT") {
        let kept = rows.execute_batch(statements).unwrap_err();
        assert!(kept.to_string().contains("only ever appended"), "{kept}");
    }
    rows.execute_batch("DROP TRIGGER events_are_not_changed; DROP TRIGGER events_are_not_removed;").unwrap();
    rows.execute_batch(statements).unwrap();
    assert_ne!(breaks(&world, None), Vec::<String>::new());
    // Neither opening the home again nor going on with its work repairs it.
    world.authority.record_key_check().unwrap();
    world.bring_up(&lease, "c", put(sized(1.0, 1)));
    assert_ne!(breaks(&world, None), Vec::<String>::new());
}

#[test]
fn the_history_names_actor_and_plan_and_verifies() {
    let (world, lease) = world_with_history();
    let level = ResourceLevel::Project(project());
    let HistoryVerification { breaks, head, entries, unbound, noted, .. } =
        world.authority.check_history(&level, None).unwrap();
    assert!(breaks.is_empty(), "{breaks:?}");
    assert_eq!((unbound, noted), (0, None));
    let entry = world.authority.history(&level, HistoryPage::last(1)).unwrap().swap_remove(0);
    assert_eq!((entry.hash, entries), (head, 3));
    assert_eq!((entry.actor, entry.plan.as_deref()), (Some(me()), Some("plan")));
    world.authority.record_key_check().unwrap();
    world.bring_up(&lease, "c", put(sized(1.0, 1)));
    assert!(world.authority.check_history(&level, None).unwrap().breaks.is_empty());
}

#[test]
fn a_damaged_index_ends_a_verification_and_shows() {
    let (world, _) = world_with_history();
    let rows = rusqlite::Connection::open(world.folder.path().join("store.sqlite3")).unwrap();
    // An index whose keys are all after any that is asked for, as one flipped bit makes it: every page finds the first one.
    rows.execute_batch(
        "DROP INDEX events_by_project;
         CREATE INDEX events_by_project ON events (project, sequence + 1000000);
         PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = 'CREATE INDEX events_by_project ON events (project, sequence)'
         WHERE name = 'events_by_project';",
    )
    .unwrap();
    let breaks = world.authority.check_history(&ResourceLevel::Project(project()), None).unwrap().breaks;
    assert!(breaks.iter().any(|text| text.contains("the index of the history is damaged")), "{breaks:?}");
}

/// A world with two backends and their entries.
fn world_with_history() -> (World, Lease) {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "a", put(sized(1.0, 1)));
    world.bring_up(&lease, "b", put(simulated()));
    (world, lease)
}

#[test]
fn the_beginning_of_a_long_history_is_pruned_and_the_rest_still_holds() {
    let world = world();
    let lease = world.lease();
    let reach = ResourceLevel::Project(project());
    for name in ["a", "b", "c", "d", "e"] {
        world.bring_up(&lease, name, put(sized(0.1, 1)));
    }
    let check = |noted: Option<&str>| world.authority.check_history(&reach, noted).unwrap();
    let numbers =
        |page| -> Vec<u64> { world.authority.history(&reach, page).unwrap().into_iter().map(|entry| entry.sequence).collect() };
    let hash = |number: u64| {
        let page = HistoryPage { limit: 1, before: Some(number + 1) };
        world.authority.history(&reach, page).unwrap().swap_remove(0).hash.unwrap()
    };
    let (first, second, third) = (hash(1), hash(2), hash(3));
    let path = world.folder.path().join("store.sqlite3");
    let rows = rusqlite::Connection::open(&path).unwrap();

    // One that was changed stays, because it is what shows that.
    rows.execute_batch("DROP TRIGGER events_are_not_changed").unwrap();
    rows.execute("UPDATE events SET detail = 'x' WHERE position = 1", []).unwrap();
    world.authority.prune_history(Some(&project()), 3).unwrap();
    assert_eq!(numbers(HistoryPage::last(9)), [1, 2, 3, 4, 5]);
    rows.execute("UPDATE events SET detail = '' WHERE position = 1", []).unwrap();
    assert_eq!(check(None).breaks, Vec::<String>::new());

    world.authority.prune_history(Some(&project()), 3).unwrap();
    assert_eq!(numbers(HistoryPage::last(9)), [3, 4, 5]);
    assert_eq!(numbers(HistoryPage { limit: 2, before: Some(5) }), [3, 4]);
    let after = check(Some(&third));
    assert_eq!((after.pruned, after.entries, after.noted, after.breaks), (2, 3, Some(3), Vec::new()));
    assert_eq!(check(Some(&second)).noted, Some(2), "what it ended with is still known");
    let gone = check(Some(&first)).breaks;
    assert!(gone.len() == 1 && gone[0].contains("one of the first 2 entries, which are not kept any more"), "{gone:?}");
    // It goes on, is pruned again, and nothing else may be deleted.
    world.bring_up(&lease, "f", put(sized(0.1, 1)));
    world.authority.prune_history(Some(&project()), 2).unwrap();
    assert_eq!((numbers(HistoryPage::last(9)), check(None).breaks), (vec![5, 6], Vec::new()));
    assert!(rows.execute("DELETE FROM events WHERE position = 5", []).is_err());
    // Nor is anything pruned by who has no key.
    rows.execute("UPDATE chains SET pruned = 5, pruned_head = head WHERE project = 'gremlin'", []).unwrap();
    rows.execute("DELETE FROM events WHERE position = 5", []).unwrap();
    assert!(!check(None).breaks.is_empty());
}

#[test]
fn operations_are_kept_for_a_time_and_not_without_end() {
    let world = world();
    let lease = world.lease();
    for number in 0..6 {
        world.bring_up(&lease, &format!("b{number}"), put(sized(0.1, 1)));
    }
    let count = || world.authority.operations(&project(), 100).unwrap().len();
    let prune = |before: i64, newest: u32, most: u32, most_before: i64| {
        let kept = crate::store::OperationRetention {
            before: NOW.plus_milliseconds(before),
            newest,
            most,
            most_before: NOW.plus_milliseconds(most_before),
        };
        world.authority.store.write(Durability::NoFsync, |rows| Ok::<_, AuthorityError>(rows.prune_operations(kept)?)).unwrap();
        count()
    };
    assert_eq!(prune(0, 0, 100, 0), 6, "they ended now");
    assert_eq!(prune(1, 5, 100, 0), 5, "old, but for the newest");
    assert_eq!(prune(0, 0, 3, 0), 5, "too many, and not a day old");
    assert_eq!(prune(0, 0, 3, 1), 3, "too many");
    let left: Vec<String> =
        world.authority.operations(&project(), 100).unwrap().iter().map(|operation| operation.backend.to_string()).collect();
    assert_eq!(left, ["b3", "b4", "b5"]);
    // Their numbers grow, and follow from the time.
    let ids: Vec<i64> = world
        .authority
        .operations(&project(), 100)
        .unwrap()
        .iter()
        .map(|operation| operation.id.as_str().parse().unwrap())
        .collect();
    assert!(ids.is_sorted() && ids[0] >= NOW.0 * 1000 && ids[2] < (NOW.0 + 10) * 1000, "{ids:?}");
}

#[test]
fn the_numbers_of_a_history_say_nothing_of_other_histories() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "a", put(sized(0.1, 1)));
    let other = ResourceLevel::Project(ProjectName::parse("other").unwrap());
    for cpus in [1.0, 2.0, 3.0] {
        let quota = Quota { cpus: Cpus::from_cores(cpus), ..Quota::default() };
        world.authority.set_quota(&ResourceLevel::Project(project()), &quota, &me(), NOW).unwrap();
        world.authority.set_quota(&other, &quota, &me(), NOW).unwrap();
    }
    let numbers = |reach: &ResourceLevel, page| -> Vec<u64> {
        world.authority.history(reach, page).unwrap().into_iter().map(|entry| entry.sequence).collect()
    };
    assert_eq!(numbers(&other, HistoryPage::last(9)), [1, 2, 3]);
    assert_eq!(numbers(&other, HistoryPage { limit: 1, before: Some(3) }), [2]);
    let own = numbers(&ResourceLevel::Project(project()), HistoryPage::last(9));
    assert_eq!(own, (1..=u64::try_from(own.len()).unwrap()).collect::<Vec<_>>());
    // Nor do what is wrong with one.
    let rows = rusqlite::Connection::open(world.folder.path().join("store.sqlite3")).unwrap();
    rows.execute_batch(
        "DROP TRIGGER events_are_not_changed; UPDATE events SET detail = 'x' WHERE project = 'other' AND position = 2",
    )
    .unwrap();
    let broken = world.authority.check_history(&other, None).unwrap().breaks;
    assert!(broken.len() == 1 && broken[0].starts_with("entry 2 is not as it was written"), "{broken:?}");
}

/// What `check_history` says of the project.
fn breaks(world: &World, noted: Option<&str>) -> Vec<String> {
    world.authority.check_history(&ResourceLevel::Project(project()), noted).unwrap().breaks
}

#[test]
fn an_expected_head_reveals_a_history_that_was_rolled_back() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "a", put(sized(1.0, 1)));
    let path = world.folder.path().join("store.sqlite3");
    let rows = rusqlite::Connection::open(&path).unwrap();
    let chain = "SELECT length, head, seal FROM chains WHERE project = 'gremlin'";
    let as_once: (i64, String, String) = rows.query_row(chain, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    world.bring_up(&lease, "b", put(sized(1.0, 1)));
    let checked = world.authority.check_history(&ResourceLevel::Project(project()), None).unwrap();
    let noted = checked.head.unwrap();
    let again = world.authority.check_history(&ResourceLevel::Project(project()), Some(&noted)).unwrap();
    assert_eq!((again.noted, again.breaks), (Some(checked.entries), Vec::new()));
    world.bring_up(&lease, "c", put(sized(1.0, 1)));
    assert_eq!(breaks(&world, Some(&noted)), Vec::<String>::new(), "what came later changes nothing");
    rows.execute_batch("DROP TRIGGER events_are_not_removed").unwrap();
    rows.execute("DELETE FROM events WHERE position > ?1", [as_once.0]).unwrap();
    rows.execute("UPDATE chains SET length = ?1, head = ?2, seal = ?3 WHERE project = 'gremlin'", as_once).unwrap();
    assert_eq!(breaks(&world, None), Vec::<String>::new());
    let broken = breaks(&world, Some(&noted));
    assert!(broken.len() == 1 && broken[0].contains("no entry has the hash that was noted"), "{broken:?}");
}

#[test]
fn a_home_without_sealed_heads_is_trusted_once() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "a", put(sized(1.0, 1)));
    let path = world.folder.path().join("store.sqlite3");
    let rows = rusqlite::Connection::open(&path).unwrap();
    rows.execute(
        "UPDATE key_marks SET mark = ?1, unbound = NULL, seal = NULL",
        [world.authority.vault().legacy_key_check_value()],
    )
    .unwrap();
    // Before entries were bound at all, nobody wrote down who did something.
    rows.execute_batch(
        "UPDATE chains SET seal = NULL; DELETE FROM chains WHERE project = '';
         INSERT INTO events (sequence, project, at, kind, detail) SELECT sequence + 9, project, at, kind, detail FROM events;
         DROP TRIGGER events_are_not_changed;
         UPDATE events SET sequence = -sequence; UPDATE events SET sequence = sequence + 20;",
    )
    .unwrap();
    let check = || world.authority.check_history(&ResourceLevel::Project(project()), None).unwrap();
    world.authority.check_key().unwrap();
    let before = check();
    assert_eq!((before.breaks.clone(), before.unbound, before.entries), (Vec::new(), 1, 1));
    world.authority.record_key_check().unwrap();
    assert_eq!(check(), before);
    world.bring_up(&lease, "b", put(sized(1.0, 1)));
    let after = check();
    assert_eq!((after.breaks, after.unbound, after.entries), (Vec::new(), 1, 2));
    assert_eq!(world.authority.check_history(&ResourceLevel::ControlPlane, None).unwrap().breaks, Vec::<String>::new());
    rows.execute("UPDATE chains SET seal = NULL", []).unwrap();
    assert_eq!(breaks(&world, None).len(), 1);
}

impl World {
    fn record(&self, step: &str) -> crate::model::OperationRecord {
        let operations = self.authority.operations(&project(), 1000).unwrap();
        operations.into_iter().find(|operation| operation.step == StepKey::parse(step)).unwrap()
    }

    fn begin(&self, lease: &Lease, step: &str, backend: &str, work: Work) -> (Operation, Transition) {
        let request = OperationRequest { step: StepKey::parse(step), backend: name(backend), work, origin: None };
        let (operation, next) =
            self.authority.accept(lease, ExecutionMode::ControlPlane, Principal::Trusted(&me()), &request, NOW).unwrap();
        (operation.unwrap(), next)
    }

    fn resumed(&self) -> Vec<(Operation, Transition)> {
        let resumed = self.authority.resume(&BTreeSet::new(), NOW).unwrap();
        assert!(resumed.failed.is_empty(), "{:?}", resumed.failed);
        resumed.resumed.into_iter().map(|(_, operation, next)| (operation, next)).collect()
    }

    fn expire(&self, backend: &str, now: Timestamp) -> Option<(Option<Operation>, Transition)> {
        self.authority.expire(&project(), &name(backend), &holder(1), now).unwrap()
    }

    /// Begins a removal that is due, and has it fail.
    fn fail_to_expire(&self, backend: &str, now: Timestamp) {
        let (operation, next) = self.expire(backend, now).expect("it is due");
        assert!(matches!(next, Transition::Perform(Effect::Remove(_))), "{next:?}");
        let finding = crate::model::Diagnostic::new("test.obstacle", "something is in the way");
        let end = EffectResult::Failed(EffectFailure { finding, conflict: None });
        let next = self.authority.advance(&mut operation.unwrap(), end, now).unwrap();
        assert!(matches!(next, Transition::Ended(OperationOutcome::Failed { .. })), "{next:?}");
    }

    fn through(&self, operation: &mut Operation, mut next: Transition) -> OperationOutcome {
        loop {
            let end = match next {
                Transition::Ended(outcome) => return outcome,
                Transition::Perform(Effect::Ensure(_)) => EffectResult::Ensured(ProviderState::new()),
                Transition::Perform(Effect::AwaitReady(_)) => EffectResult::Ready,
                Transition::Perform(Effect::SetEnvironment(..)) => EffectResult::EnvironmentSet,
                Transition::Perform(Effect::Stop(_)) => EffectResult::Stopped,
                Transition::Perform(Effect::SetAside(_)) => EffectResult::SetAside,
                Transition::Perform(Effect::Remove(_)) => EffectResult::Removed(None),
                Transition::Perform(Effect::PrepareStorage(_)) => EffectResult::StoragePrepared,
                Transition::Perform(Effect::ReleaseStorage(..)) => {
                    EffectResult::StorageReleased(crate::authority::DatabaseState::Present)
                }
                Transition::Perform(other) => panic!("{other:?} is tested in `data_tests`"),
            };
            next = self.authority.advance(operation, end, NOW).unwrap();
        }
    }
}

#[test]
fn an_operation_of_the_control_plane_continues_without_its_lease() {
    let world = world();
    let lease = world.lease();
    let (mut operation, next) = world.begin(&lease, "plan/create", "dev", put(simulated()));
    world.authority.release(&lease, NOW).unwrap();
    world.authority.acquire(&project(), &holder(7), NOW, alive).unwrap();
    assert!(matches!(world.through(&mut operation, next), OperationOutcome::Done { .. }));
    assert!(world.resumed().is_empty());
    let record = world.record("plan/create");
    assert_eq!((record.state, record.actor), (crate::model::OperationState::Done, me()));
}

#[test]
fn an_interrupted_operation_is_resumed_from_every_step() {
    // After acceptance, after each effect, and twice in a row.
    for effects in 0..3 {
        let world = world();
        let lease = world.lease();
        let mut spec = simulated();
        spec.env.insert("A".into(), SecretSource::Literal("b".into()));
        let secrets = BTreeMap::from([(FieldPath::new("env.A"), Secret::new("b"))]);
        let work = Work::Put { spec: Box::new(spec), secrets, renamed_from: None, downgrade: DowngradeConsent::Missing };
        let (mut operation, mut next) = world.begin(&lease, "plan/create", "dev", work);
        for _ in 0..effects {
            let end = match next {
                Transition::Perform(Effect::Ensure(_)) => EffectResult::Ensured(ProviderState::new()),
                Transition::Perform(Effect::AwaitReady(_)) => EffectResult::Ready,
                other => panic!("{other:?}"),
            };
            next = world.authority.advance(&mut operation, end, NOW).unwrap();
        }
        let running = BTreeSet::from([operation.id().clone()]);
        assert!(world.authority.resume(&running, NOW).unwrap().resumed.is_empty(), "what runs is let be");
        drop(operation);
        world.resumed();
        let mut resumed = world.resumed();
        assert_eq!(resumed.len(), 1);
        let (mut operation, next) = resumed.remove(0);
        assert!(matches!(&next, Transition::Perform(Effect::Ensure(_))), "{next:?}");
        assert!(matches!(world.through(&mut operation, next), OperationOutcome::Done { .. }));
        assert!(world.resumed().is_empty());
        assert!(world.authority.check_history(&ResourceLevel::Project(project()), None).unwrap().breaks.is_empty());
    }
}

#[test]
fn an_interrupted_replacement_is_resumed_with_its_spec_and_secrets() {
    let world = world();
    let lease = world.lease();
    world.begin(&lease, "plan/first", "dev", put(BackendSpec::new(ProviderKind::Local)));
    let mut spec = simulated();
    spec.env.insert("TOKEN".into(), SecretSource::Reference(SecretRef::Env("TOKEN".into())));
    let secrets = BTreeMap::from([(FieldPath::new("env.TOKEN"), Secret::new("hunter2-hunter2"))]);
    let work = Work::Put { spec: Box::new(spec), secrets, renamed_from: None, downgrade: DowngradeConsent::Missing };
    let (_, next) = world.begin(&lease, "plan/second", "dev", work);
    assert!(matches!(&next, Transition::Perform(Effect::Remove(_))), "another provider: what is there goes first; {next:?}");
    let bytes = std::fs::read(world.folder.path().join("store.sqlite3-wal")).unwrap();
    assert!(!bytes.windows(15).any(|window| window == b"hunter2-hunter2"), "what is pending is sealed");

    let mut resumed = world.resumed();
    let (mut operation, next) = resumed.remove(0);
    assert!(resumed.is_empty(), "the first one was superseded");
    assert!(matches!(&next, Transition::Perform(Effect::Remove(_))), "{next:?}");
    assert!(matches!(world.through(&mut operation, next), OperationOutcome::Done { .. }));
    let place = world.authority.resolve_backend(&project(), &name("dev")).unwrap();
    assert_eq!(place.spec.provider, ProviderKind::Simulated);
    assert_eq!(place.secrets[&FieldPath::new("env.TOKEN")].expose(), "hunter2-hunter2");
}

#[test]
fn a_later_request_supersedes_an_abandoned_one() {
    let world = world();
    let lease = world.lease();
    let (mut left, _) = world.begin(&lease, "plan-1/create", "dev", put(simulated()));
    let (mut later, next) = world.begin(&lease, "plan-2/create", "dev", put(simulated()));
    let late = world.authority.advance(&mut left, EffectResult::Ensured(ProviderState::new()), NOW);
    assert!(matches!(late, Err(AuthorityError::Control(ControlError::LeaseLost { .. }))), "{late:?}");
    assert!(matches!(world.through(&mut later, next), OperationOutcome::Done { .. }));
    let first = world.record("plan-1/create");
    assert_eq!(first.error.map(|finding| finding.code).as_deref(), Some("control.superseded"));
}

#[test]
fn an_interrupted_removal_is_finished() {
    let world = world();
    let lease = world.lease();
    world.bring_up(&lease, "dev", put(simulated()));
    world.begin(
        &lease,
        "plan/remove",
        "dev",
        Work::Remove { volume: VolumeReclaim::Delete, database: DatabaseReclaim::Retain },
    );
    let (mut operation, next) = world.resumed().remove(0);
    assert!(matches!(&next, Transition::Perform(Effect::Remove(_))), "{next:?}");
    assert!(matches!(world.through(&mut operation, next), OperationOutcome::Done { .. }));
    assert!(world.authority.view(&project()).unwrap().backends.is_empty());
    assert!(world.resumed().is_empty());
}

#[test]
fn an_expired_backend_is_removed_unless_it_is_protected_or_extended() {
    let world = world();
    let lease = world.lease();
    let with_ttl = |protected: bool| {
        let mut spec = simulated();
        (spec.ttl, spec.protected) = (Some(TimeSpan::from_seconds(60)), protected);
        put(spec)
    };
    world.bring_up(&lease, "old", with_ttl(false));
    world.bring_up(&lease, "kept", with_ttl(true));
    world.bring_up(&lease, "young", put(simulated()));
    let later = NOW.plus_milliseconds(60_000);
    assert!(world.authority.expired(NOW.plus_milliseconds(59_999)).unwrap().is_empty());
    assert_eq!(world.authority.expired(later).unwrap(), [(project(), name("old"))]);
    let held = world.authority.expire(&project(), &name("old"), &holder(2), later.plus_milliseconds(-50_000));
    assert!(held.unwrap().is_none(), "whoever has the lease is not even asked before the time is over");
    world.authority.release(&lease, NOW).unwrap();
    assert!(world.expire("young", later).is_none() && world.expire("kept", later).is_none());
    assert!(world.expire("old", NOW).is_none());
    let (operation, next) = world.expire("old", later).unwrap();
    assert!(matches!(world.through(&mut operation.unwrap(), next), OperationOutcome::Done { .. }));
    assert!(world.authority.expired(later).unwrap().is_empty());
    let last = world.authority.history(&ResourceLevel::Project(project()), HistoryPage::last(1)).unwrap().swap_remove(0);
    assert_eq!((last.kind.as_str(), last.actor), ("backend_removed", Some(crate::model::Actor::control_plane())));
}

/// A backend that lives for a minute, and the moment at which that is over; nobody holds the lease.
fn short_lived(world: &World) -> Timestamp {
    let lease = world.lease();
    let mut spec = simulated();
    spec.ttl = Some(TimeSpan::from_seconds(60));
    world.bring_up(&lease, "dev", put(spec));
    world.authority.release(&lease, NOW).unwrap();
    NOW.plus_milliseconds(60_000)
}

#[test]
fn a_failed_removal_is_retried_with_growing_backoff() {
    let world = world();
    let mut now = short_lived(&world);
    assert_eq!(world.authority.next_expiry().unwrap(), Some(now));
    let mut pauses = Vec::new();
    for attempt in 0..9 {
        assert_eq!(world.authority.expired(now).unwrap().len(), 1, "attempt {attempt}");
        world.fail_to_expire("dev", now);
        let next = world.authority.next_expiry().unwrap().unwrap();
        let before = next.plus_milliseconds(-1);
        assert!(world.authority.expired(before).unwrap().is_empty(), "attempt {attempt}");
        assert!(world.expire("dev", before).is_none(), "attempt {attempt}");
        pauses.push(next.since(now) / 1000);
        now = next;
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    // The obstacle is gone.
    let (operation, next) = world.expire("dev", now).unwrap();
    assert!(matches!(world.through(&mut operation.unwrap(), next), OperationOutcome::Done { .. }));
    assert_eq!(world.authority.next_expiry().unwrap(), None);
    let history = world.authority.history(&ResourceLevel::Project(project()), HistoryPage::last(100)).unwrap();
    let count = |kind: &str| history.iter().filter(|entry| entry.kind == kind).count();
    assert_eq!((count("removal_accepted"), count("operation_failed"), count("backend_removed")), (10, 9, 1));
}

#[test]
fn an_expiry_that_does_not_begin_takes_no_lease() {
    let world = world();
    let end = short_lived(&world);
    let fence = || {
        let lease = world.authority.acquire(&project(), &holder(1), end, |_| Liveness::Dead).unwrap();
        world.authority.release(&lease, end).unwrap();
        // The low bits are random.
        lease.fence >> 31
    };
    let begun = fence();
    world.fail_to_expire("dev", end);
    assert_eq!(fence(), begun + 2, "an attempt takes it");
    for second in 0..5 {
        assert!(world.expire("dev", end.plus_milliseconds(second * 1000 - 1)).is_none());
    }
    assert_eq!(fence(), begun + 3, "waiting does not");
    // A holder that is changing the project keeps the lease.
    let due = end.plus_milliseconds(5_000);
    let lease = world.authority.acquire(&project(), &holder(7), due, alive).unwrap();
    let refused = world.authority.expire(&project(), &name("dev"), &holder(1), due);
    assert!(matches!(refused, Err(AuthorityError::Control(ControlError::LeaseHeld { .. }))), "{refused:?}");
    world.authority.renew(&lease, due).unwrap();
    // What a human asks for goes on meanwhile as ever: here, to remove it at once.
    let remove = Work::Remove { volume: VolumeReclaim::Delete, database: DatabaseReclaim::Retain };
    assert!(matches!(world.bring_up(&lease, "dev", remove), OperationOutcome::Done { .. }));
    assert_eq!(world.authority.next_expiry().unwrap(), None);
}

#[test]
fn an_interrupted_expiry_is_resumed_and_not_started_twice() {
    let world = world();
    let end = short_lived(&world);
    world.fail_to_expire("dev", end);
    let due = end.plus_milliseconds(5_000);
    world.expire("dev", due).unwrap();
    assert!(world.authority.expired(due.plus_milliseconds(3_600_000)).unwrap().is_empty());
    assert_eq!(world.authority.next_expiry().unwrap(), None);
    let (mut operation, next) = world.resumed().remove(0);
    assert!(matches!(world.through(&mut operation, next), OperationOutcome::Done { .. }));
    assert!(world.authority.view(&project()).unwrap().backends.is_empty());
}

#[test]
fn an_expiry_retains_a_volume_that_was_to_be_retained() {
    let world = world();
    let lease = world.lease();
    let mut short = BackendSpec::new(ProviderKind::Fly);
    short.region = Some("iad".into());
    short.ttl = Some(TimeSpan::from_seconds(60));
    world.bring_up(&lease, "dev", put(short));
    let keep = Work::Remove { volume: VolumeReclaim::Retain, database: DatabaseReclaim::Retain };
    world.accept(&lease, "keep", "dev", keep).unwrap();
    world.authority.release(&lease, NOW).unwrap();
    let (_, next) = world.expire("dev", NOW.plus_milliseconds(60_000)).unwrap();
    let Transition::Perform(Effect::Remove(placement)) = next else { panic!("{next:?}") };
    assert_eq!(crate::authority::volume_disposal(&placement.provider_state), VolumeReclaim::Retain);
}

#[test]
fn notices_are_numbered_and_pruned_after_their_operation_ended() {
    let world = world();
    let lease = world.lease();
    let (mut operation, next) = world.begin(&lease, "plan/create", "dev", put(simulated()));
    let id = operation.id().clone();
    assert_eq!(world.authority.append_notice(&id, "one").unwrap(), 1);
    assert_eq!(world.authority.append_notice(&id, "two").unwrap(), 2);
    assert_eq!(world.authority.notices(&id, 1).unwrap(), [(2, "two".to_owned())]);
    assert!(world.authority.notices(&id, u64::MAX).unwrap().is_empty());
    world.authority.prune_notices(NOW.plus_milliseconds(1)).unwrap();
    assert_eq!(world.authority.notices(&id, 0).unwrap().len(), 2, "it has not ended");
    world.through(&mut operation, next);
    world.authority.prune_notices(NOW.plus_milliseconds(1)).unwrap();
    assert!(world.authority.notices(&id, 0).unwrap().is_empty());
}

#[test]
fn an_earlier_ttl_needs_the_scope_to_destroy() {
    let world = world();
    let lease = world.lease();
    let with = |ttl: Option<u64>, protected: bool| {
        let mut spec = simulated();
        (spec.ttl, spec.protected) = (ttl.map(TimeSpan::from_seconds), protected);
        OperationRequest {
            step: StepKey::parse(&format!("plan/{}", now_key())),
            backend: name("dev"),
            work: put(spec),
            origin: None,
        }
    };
    let bearer = |scope| world.authority.authenticate(&token_for(&world, scope, None).token, NOW).unwrap();
    let (applies, destroys) = (bearer(Scope::Apply), bearer(Scope::Destroy));
    let refused = |request: &OperationRequest| {
        let accepted = world.authority.accept(&lease, ExecutionMode::ControlPlane, Principal::Token(&applies), request, NOW);
        accepted.map_err(refusal_code).map_or_else(|code| code == ControlError::SCOPE_MISSING, |_| false)
    };
    assert!(!refused(&with(Some(1), false)), "what is new has nothing to lose");
    world.bring_up(&lease, "dev", with(Some(60), false).work);
    assert!(refused(&with(Some(59), false)));
    assert!(!refused(&with(Some(60), false)) && !refused(&with(Some(61), false)));
    world.bring_up(&lease, "dev", with(Some(60), true).work);
    assert!(refused(&with(Some(60), false)), "without its protection its time is over");
    world.bring_up(&lease, "dev", with(Some(60), false).work);
    // Under a name that was free a moment ago it is still the same backend.
    let renamed = OperationRequest {
        step: StepKey::parse("plan/rename"),
        backend: name("new"),
        work: with(Some(60), false).work,
        origin: None,
    };
    let Work::Put { spec, secrets, .. } = renamed.work else { panic!() };
    let renamed = OperationRequest {
        work: Work::Put { spec, secrets, renamed_from: Some(name("dev")), downgrade: DowngradeConsent::Missing },
        ..renamed
    };
    assert!(!refused(&renamed));
    let sooner = OperationRequest { backend: name("new"), step: StepKey::parse("plan/sooner"), ..with(Some(1), false) };
    assert!(refused(&sooner));
    let gone = OperationRequest { step: StepKey::parse("plan/gone"), backend: name("new"), work: remove(), origin: None };
    assert!(!refused(&gone), "what has a `ttl` may go before it ends");
    world.bring_up(&lease, "other", with(None, false).work);
    let gone = OperationRequest { step: StepKey::parse("plan/other"), backend: name("other"), ..gone };
    assert!(refused(&gone));
    world.authority.accept(&lease, ExecutionMode::ControlPlane, Principal::Token(&destroys), &gone, NOW).unwrap();
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

#[test]
fn a_renewed_lease_delays_an_expiry_by_a_bounded_time() {
    let world = world();
    let end = short_lived(&world);
    let lease = world.authority.acquire(&project(), &holder(7), end, alive).unwrap();
    let try_at = |now: Timestamp| {
        world.authority.renew(&lease, now).unwrap();
        world.authority.expire(&project(), &name("dev"), &holder(1), now)
    };
    let refused = try_at(end.plus_milliseconds(60_000));
    assert!(matches!(refused, Err(AuthorityError::Control(ControlError::LeaseHeld { .. }))), "{refused:?}");
    let late = end.plus_milliseconds(60_001);
    let (operation, next) = try_at(late).unwrap().unwrap();
    assert!(matches!(world.through(&mut operation.unwrap(), next), OperationOutcome::Done { .. }));
    assert!(world.authority.view(&project()).unwrap().backends.is_empty());
    // The holder of before has it still.
    world.authority.renew(&lease, late).unwrap();
}

#[test]
fn an_unreadable_operation_does_not_block_the_others() {
    let world = world();
    let lease = world.lease();
    world.begin(&lease, "plan/one", "one", put(simulated()));
    world.begin(&lease, "plan/two", "two", put(simulated()));
    world
        .authority
        .store
        .write(Durability::NoFsync, |rows| {
            let mut row = rows.backend(&project(), &name("one")).unwrap().unwrap();
            row.sealed = vec![0];
            rows.put_backend(&row)
        })
        .unwrap();
    let Resumption { resumed, failed, .. } = world.authority.resume(&BTreeSet::new(), NOW).unwrap();
    assert_eq!(resumed.into_iter().map(|(place, ..)| place).collect::<Vec<_>>(), [(project(), name("two"))]);
    let failed: Vec<_> =
        failed.into_iter().map(|(place, error)| (place, refusal_code(ControlError::from(error).into()))).collect();
    assert_eq!(failed, [((project(), name("one")), "store.sealed".to_owned())]);
}
