//! Addresses of apps. An app that has none is not routed to.

use serde_json::{Value, json};

use super::reply::{Reply, invalid_argument, not_found};
use super::request::Request;
use super::world::World;

/// One address that an app has.
#[derive(Debug, Clone)]
pub struct Address {
    pub ip: String,
    pub kind: Kind,
    created: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    SharedV4,
    V4,
    V6,
    PrivateV6,
}

impl Kind {
    const ALL: [(Self, &str); 4] =
        [(Self::SharedV4, "shared_v4"), (Self::V4, "v4"), (Self::V6, "v6"), (Self::PrivateV6, "private_v6")];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }

    /// Whether the world outside reaches it.
    pub fn is_public(self) -> bool {
        self != Self::PrivateV6
    }
}

pub fn list(world: &mut World, app: &str) -> Result<Reply, Reply> {
    let ips: Vec<Value> = world.look_at_app(app)?.addresses.iter().map(described).collect();
    Ok(Reply::ok(json!({ "ips": ips })))
}

pub fn assign(world: &mut World, app: &str, request: &Request) -> Result<Reply, Reply> {
    let word = request.text("type").unwrap_or_default();
    let Some((kind, _)) = Kind::ALL.into_iter().find(|(_, known)| *known == word) else {
        return Err(invalid_argument(format!("invalid ip type \"{word}\"")));
    };
    let (number, digits) = world.fresh();
    let (created, duplicate) = (world.now_text(), world.settings.duplicate_address);
    let app = world.look_at_app(app)?;
    let second = app.addresses.iter().find(|address| address.kind == kind && kind == Kind::SharedV4);
    if let Some(address) = second {
        return match duplicate {
            200 => Ok(Reply::ok(described(address))),
            status => Err(Reply::error(status, "Validation failed: app already has a shared IPv4")),
        };
    }
    let ip = match kind {
        Kind::SharedV4 => "66.241.124.1".to_owned(),
        Kind::V4 => format!("137.66.{}.{}", number / 250 % 250, number % 250 + 1),
        Kind::V6 => format!("2a09:8280:1::{}:{:x}:0", &digits[..4], number),
        Kind::PrivateV6 => format!("fdaa:0:{}::{:x}", &digits[..4], number),
    };
    let address = Address { ip, kind, created };
    let reply = Reply::ok(described(&address));
    app.addresses.push(address);
    Ok(reply)
}

pub fn release(world: &mut World, app: &str, ip: &str) -> Result<Reply, Reply> {
    let app = world.look_at_app(app)?;
    let at = app.addresses.iter().position(|address| address.ip == ip).ok_or_else(|| not_found("ip address"))?;
    app.addresses.remove(at);
    Ok(Reply::empty(204))
}

fn described(address: &Address) -> Value {
    json!({
        "ip": address.ip,
        "type": address.kind.word(),
        "region": if address.kind == Kind::SharedV4 { "" } else { "global" },
        "service_name": "",
        "shared": address.kind == Kind::SharedV4,
        "created_at": address.created,
    })
}
