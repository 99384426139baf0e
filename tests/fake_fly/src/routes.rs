//! Which request is answered by whom.

use std::path::Path;
use std::sync::Mutex;

use super::limits::Limits;
use super::reply::{Reply, invalid_argument, not_found};
use super::request::Request;
use super::tokens;
use super::world::World;
use super::{addresses, apps, certificates, leases, life, machines, metadata, platform, secrets, volumes, wait};

/// Answers one request, with everything that stands before it: its body, its token, its rate.
pub async fn answer(world: &Mutex<World>, limits: &Mutex<Limits>, root: &Path, request: &Request) -> Reply {
    let segments = request.segments();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    if let ("GET", ["apps", app, "machines", id, "wait"]) = (request.method.as_str(), parts.as_slice()) {
        let admitted = admit(&mut world.lock().unwrap(), limits, request, &parts).map(drop);
        return match admitted {
            Ok(()) => wait::wait(world, app, id, request).await.unwrap_or_else(|refusal| refusal),
            Err(refusal) => refusal,
        };
    }
    let mut world = world.lock().unwrap();
    super::settle(&mut world);
    let reply = at_once(&mut world, limits, root, request, &parts).unwrap_or_else(|refusal| refusal);
    super::settle(&mut world);
    reply
}

/// Checks that a request has a token of sufficient reach and is within the rate limit.
fn admit(world: &mut World, limits: &Mutex<Limits>, request: &Request, parts: &[&str]) -> Result<tokens::Token, Reply> {
    let token = tokens::of(world, request)?;
    let (kind, about) = match parts {
        ["apps", app] => {
            tokens::reach(world, &token, app)?;
            ("app".to_owned(), *app)
        }
        ["apps", app, "machines", id, rest @ ..] => {
            tokens::reach(world, &token, app)?;
            (["machine"].iter().chain(rest.first()).copied().collect::<Vec<_>>().join(" "), *id)
        }
        ["apps", app, rest @ ..] => {
            tokens::reach(world, &token, app)?;
            (rest.first().copied().unwrap_or_default().to_owned(), *app)
        }
        _ => (parts.join(" "), ""),
    };
    // Making apps, and what concerns no app at all, is not known to be limited.
    if !about.is_empty() {
        limits.lock().unwrap().count(&world.settings, &format!("{} {kind}", request.method), about)?;
    }
    if request.is_garbled {
        return Err(invalid_argument("request body is not JSON"));
    }
    Ok(token)
}

fn at_once(world: &mut World, limits: &Mutex<Limits>, root: &Path, request: &Request, parts: &[&str]) -> Result<Reply, Reply> {
    let token = admit(world, limits, request, parts)?;
    match (request.method.as_str(), parts) {
        ("POST", ["apps"]) => apps::create(world, &token, request),
        ("GET", ["apps"]) => apps::list(world, &token, request),
        ("GET", ["apps", app]) => apps::show(world, app),
        ("DELETE", ["apps", app]) => apps::delete(world, &token, app, request),
        ("POST", ["apps", app, "deploy_token"]) => tokens::make_deploy_token(world, &token, app),
        ("GET", ["tokens", "current"]) => Ok(tokens::current(&token)),
        ("GET", ["platform", "regions"]) => Ok(platform::regions()),
        ("POST", ["platform", "placements"]) => platform::placements(world, &token, request),
        ("GET", ["orgs", org, "machines"]) => platform::machines(world, &token, &world.real_org(org), request),
        ("GET", ["orgs", org, "volumes"]) => platform::volumes(world, &token, &world.real_org(org), request),
        (method, ["apps", app, "ip_assignments", rest @ ..]) => match (method, rest) {
            ("GET", []) => addresses::list(world, app),
            ("POST", []) => addresses::assign(world, app, request),
            ("DELETE", [ip]) => addresses::release(world, app, ip),
            _ => Err(unknown(request)),
        },
        (method, ["apps", app, "certificates", rest @ ..]) => match (method, rest) {
            ("GET", []) => certificates::list(world, app),
            ("POST", ["acme"]) => certificates::request(world, app, request),
            ("GET", [hostname]) => certificates::show(world, app, hostname),
            ("DELETE", [hostname]) => certificates::remove(world, app, hostname),
            ("POST", [hostname, "check"]) => certificates::check(world, app, hostname),
            _ => Err(unknown(request)),
        },
        (method, ["apps", app, "secrets", rest @ ..]) => match (method, rest) {
            ("GET", []) => secrets::list(world, app, request),
            ("POST", []) => secrets::change(world, app, request),
            ("GET", [name]) => secrets::show(world, app, name, request),
            ("POST", [name]) => secrets::set(world, app, name, request),
            ("DELETE", [name]) => secrets::remove(world, app, name),
            _ => Err(unknown(request)),
        },
        (method, ["apps", app, "volumes", rest @ ..]) => match (method, rest) {
            ("GET", []) => volumes::list(world, app),
            ("POST", []) => volumes::create(world, root, app, request),
            ("GET", [id]) => volumes::show(world, app, id),
            ("PUT", [id]) => volumes::update(world, app, id, request),
            ("DELETE", [id]) => volumes::delete(world, app, id),
            ("PUT", [id, "extend"]) => volumes::extend(world, app, id, request),
            ("GET", [id, "snapshots"]) => volumes::snapshots(world, app, id),
            ("POST", [id, "snapshots"]) => volumes::take_snapshot(world, root, app, id),
            _ => Err(unknown(request)),
        },
        (method, ["apps", app, "machines", rest @ ..]) => of_machines(world, method, app, rest, request),
        _ => Err(unknown(request)),
    }
}

fn of_machines(world: &mut World, method: &str, app: &str, rest: &[&str], request: &Request) -> Result<Reply, Reply> {
    match (method, rest) {
        ("GET", []) => machines::list(world, app, request),
        ("POST", []) => machines::create(world, app, request),
        ("GET", [id]) => machines::show(world, app, id),
        ("POST", [id]) => machines::update(world, app, id, request),
        ("DELETE", [id]) => machines::delete(world, app, id, request),
        ("POST", [id, "start"]) => life::start(world, app, id, request),
        ("POST", [id, "stop"]) => life::stop(world, app, id, request),
        ("POST", [id, "restart"]) => life::restart(world, app, id, request),
        ("POST", [id, "cordon"]) => life::cordon(world, app, id, true, request),
        ("POST", [id, "uncordon"]) => life::cordon(world, app, id, false, request),
        ("GET", [id, "lease"]) => leases::show(world, app, id),
        ("POST", [id, "lease"]) => leases::acquire(world, app, id, request),
        ("DELETE", [id, "lease"]) => leases::release(world, app, id, request),
        ("GET", [id, "events"]) => metadata::events(world, app, id, request),
        ("GET", [id, "versions"]) => metadata::versions(world, app, id),
        ("GET", [id, "metadata"]) => metadata::list(world, app, id),
        ("PUT" | "PATCH", [id, "metadata"]) => metadata::change(world, app, id, request),
        ("GET", [id, "metadata", key]) => metadata::show(world, app, id, key),
        ("POST", [id, "metadata", key]) => metadata::set(world, app, id, key, request),
        ("DELETE", [id, "metadata", key]) => metadata::remove(world, app, id, key, request),
        _ => Err(unknown(request)),
    }
}

/// What the real one may know and this one does not.
fn unknown(request: &Request) -> Reply {
    match request.path.starts_with("/v1/") {
        true => Reply::error(501, format!("the stand-in does not know `{} {}`", request.method, request.path)),
        false => not_found("page"),
    }
}
