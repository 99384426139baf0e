//! The nodes that answer for the API: for a while a new app is known to the node alone that made it, and a cookie with the
//! path of the app leads back there.

use serde_json::Value;

use super::reply::{Reply, not_found, unauthenticated};
use super::request::Request;
use super::world::World;

const NODES: usize = 2;
const COOKIE: &str = "fly-node=";

/// The node that a request comes to.
fn node(world: &mut World, request: &Request) -> usize {
    let cookies = request.header("cookie").unwrap_or_default();
    let named = cookies.split(';').find_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.parse().ok());
    named.unwrap_or_else(|| {
        world.strays += 1;
        world.strays % NODES
    })
}

fn app_of(request: &Request) -> Option<String> {
    request.segments().get(1).filter(|_| request.segments()[0] == "apps").cloned()
}

/// The refusal of a node that does not know the app yet.
pub fn refuse(world: &mut World, request: &Request) -> (usize, Option<Reply>) {
    let node = node(world, request);
    let now = world.instant();
    let strays = world.strays;
    let unknown =
        app_of(request).and_then(|app| world.apps.get(&app)).is_some_and(|app| app.node != node && now < app.known_elsewhere);
    // Both were seen.
    let refusal = || if strays.is_multiple_of(4) { unauthenticated() } else { not_found("app") };
    (node, unknown.then(refusal))
}

/// Notes which node made an app, and gives the cookie along.
pub fn answered(world: &mut World, request: &Request, node: usize, reply: Reply) -> Reply {
    if world.settings.app_on_one_node_for.is_zero() {
        return reply;
    }
    let is_creation = request.method == "POST" && request.path == "/v1/apps" && reply.status == 201;
    let created = is_creation.then(|| request.body.get("name").and_then(Value::as_str).unwrap_or_default().to_owned());
    if let Some(app) = created.as_ref().and_then(|name| world.apps.get_mut(name)) {
        app.node = node;
    }
    match created.or_else(|| app_of(request)) {
        Some(app) => reply.with_header("set-cookie", &format!("{COOKIE}{node}; Path=/v1/apps/{app}; HttpOnly")),
        None => reply,
    }
}
