//! Leases on machines: a nonce, an owner and an end. Their answers are wrapped, though the document says otherwise.

use serde_json::{Value, json};

use super::machines::Machine;
use super::reply::{Reply, lease_held, not_found};
use super::request::Request;
use super::world::World;

/// The right to change one machine.
#[derive(Debug, Clone)]
pub struct Lease {
    pub nonce: String,
    owner: String,
    description: String,
    /// In seconds since 1970.
    expires: i64,
}

impl Lease {
    pub fn new(world: &mut World, ttl: u64, description: &str) -> Self {
        let nonce = world.fresh().1[..12].to_owned();
        let expires = world.second() + i64::try_from(ttl).unwrap_or(i64::MAX / 2);
        Self { nonce, owner: "someone@example.com".to_owned(), description: description.to_owned(), expires }
    }

    pub fn described(&self, machine: &Machine) -> Value {
        json!({
            "nonce": self.nonce,
            "expires_at": self.expires,
            "owner": self.owner,
            "description": self.description,
            "version": machine.instance_id,
        })
    }

    fn is_alive(&self, second: i64) -> bool {
        self.expires > second
    }

    fn refusal(&self, machine: &str) -> Reply {
        let expires = jiff::Timestamp::from_second(self.expires).map(|time| time.to_string()).unwrap_or_default();
        lease_held(machine, &self.owner, &expires)
    }
}

/// Whether a request with this nonce may change the machine now.
pub fn permit(machine: &Machine, nonce: Option<&str>, second: i64) -> Result<(), Reply> {
    match &machine.lease {
        Some(lease) if lease.is_alive(second) && nonce != Some(lease.nonce.as_str()) => Err(lease.refusal(&machine.id)),
        _ => Ok(()),
    }
}

/// Takes a lease, or prolongs the one whose nonce was sent.
pub fn acquire(world: &mut World, app: &str, id: &str, request: &Request) -> Result<Reply, Reply> {
    let ttl = request.number("ttl").or_else(|| request.parameter("ttl")?.parse().ok()).unwrap_or(30);
    let description = request.text("description").unwrap_or_default().to_owned();
    let second = world.second();
    let fresh = Lease::new(world, ttl, &description);
    let machine = world.look_at_app(app)?.machine(id)?;
    if machine.state.is_gone() {
        return Err(not_found("machine"));
    }
    machine.known()?;
    permit(machine, request.nonce(), second)?;
    match &mut machine.lease {
        Some(lease) if lease.is_alive(second) => lease.expires = fresh.expires,
        _ => machine.lease = Some(fresh),
    }
    let lease = machine.lease.as_ref().map(|lease| lease.described(machine));
    Ok(Reply::json(201, json!({ "status": "success", "data": lease })))
}

pub fn show(world: &mut World, app: &str, id: &str) -> Result<Reply, Reply> {
    let second = world.second();
    let machine = world.look_at_app(app)?.machine(id)?;
    let lease = machine.lease.as_ref().filter(|lease| lease.is_alive(second)).ok_or_else(|| not_found("lease"))?;
    let mut described = lease.described(machine);
    // Only its holder knows the nonce.
    described.as_object_mut().map(|fields| fields.remove("nonce"));
    Ok(Reply::ok(json!({ "status": "success", "data": described })))
}

pub fn release(world: &mut World, app: &str, id: &str, request: &Request) -> Result<Reply, Reply> {
    let second = world.second();
    let machine = world.look_at_app(app)?.machine(id)?;
    if !machine.lease.as_ref().is_some_and(|lease| lease.is_alive(second)) {
        return Err(not_found("lease"));
    }
    permit(machine, request.nonce(), second)?;
    machine.lease = None;
    Ok(Reply::ok(json!({ "ok": true })))
}
