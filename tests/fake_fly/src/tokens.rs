//! Who may do what: tokens of organizations, of one app, and those that are worth nothing.

use serde_json::{Value, json};

use super::reply::{Reply, forbidden, unauthenticated};
use super::request::Request;
use super::world::World;

/// One token that the stand-in knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    /// The slug of the organization that it belongs to.
    pub org: String,
    pub scope: Scope,
}

/// What a token reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything of its organization.
    Organization,
    /// One app; it can neither make nor delete one.
    App(String),
    /// Nothing any more.
    Expired,
}

/// The token that a request carries: either scheme is taken, and of several tokens the first one that is known.
pub fn of(world: &World, request: &Request) -> Result<Token, Reply> {
    let header = request.header("authorization").ok_or_else(unauthenticated)?;
    let texts = header.strip_prefix("Bearer ").or_else(|| header.strip_prefix("FlyV1 ")).ok_or_else(unauthenticated)?;
    let known = texts.split(',').find_map(|text| world.tokens.iter().find(|token| token.text == text.trim()));
    match known {
        Some(token) if token.scope != Scope::Expired => Ok(token.clone()),
        _ => Err(unauthenticated()),
    }
}

/// Whether a token reaches an app. Names of others' apps are answered with 403, names that are free with 404.
pub fn reach(world: &World, token: &Token, app: &str) -> Result<(), Reply> {
    if world.foreign_apps.contains(app) {
        return Err(forbidden());
    }
    match world.apps.get(app) {
        Some(known) if known.org != token.org => Err(forbidden()),
        _ => match &token.scope {
            Scope::App(own) if own != app => Err(forbidden()),
            _ => Ok(()),
        },
    }
}

pub fn current(token: &Token) -> Reply {
    let apps = match &token.scope {
        Scope::App(app) => vec![app.clone()],
        _ => Vec::new(),
    };
    let token: Value = json!({
        "apps": apps, "org_slug": token.org, "organization": token.org, "token_id": "stand-in", "user": "someone@example.com",
    });
    Reply::ok(json!({ "tokens": [token] }))
}

/// A token for one app.
pub fn make_deploy_token(world: &mut World, token: &Token, app: &str) -> Result<Reply, Reply> {
    if token.scope != Scope::Organization {
        return Err(forbidden());
    }
    world.app(app)?;
    let text = format!("fm2_{}", world.fresh().1);
    world.tokens.push(Token { text: text.clone(), org: token.org.clone(), scope: Scope::App(app.to_owned()) });
    Ok(Reply::ok(json!({ "token": format!("FlyV1 {text}") })))
}
