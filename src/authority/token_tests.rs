//! Tokens: what each authorizes, and for how long.

use super::tests::{NOW, World, me, project, refusal_code, world};
use crate::api::TOKEN_PREFIX;
use crate::model::{ProjectName, Scope, Secret, TimeSpan, Timestamp, TokenRequest};

pub(super) fn token_for(world: &World, scope: Scope, ttl: Option<TimeSpan>) -> crate::model::IssuedToken {
    let project = (scope != Scope::Operator).then(project);
    let request = TokenRequest { project, scope, note: format!("a {scope} token"), ttl };
    world.authority.create_token(&request, &[], &me(), NOW).unwrap()
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
    // The right shape and checksum, and never issued.
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
