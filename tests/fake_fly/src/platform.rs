//! What concerns no single app: regions, trials of capacity, and everything of an organization in one list.

use serde_json::{Value, json};

use super::machines::{self, Shown};
use super::reply::{Reply, forbidden, invalid_argument};
use super::request::Request;
use super::tokens::Token;
use super::volumes;
use super::world::{HOSTS, REGIONS, World};

pub fn regions() -> Reply {
    let rows = REGIONS.iter().map(|(code, name, alias)| {
        json!({
            "code": code, "name": name, "geo_region": alias, "deprecated": false, "gateway_available": true,
            "requires_paid_plan": false, "latitude": 0.0, "longitude": 0.0,
        })
    });
    Reply::ok(json!({ "nearest": "iad", "regions": rows.collect::<Vec<_>>() }))
}

/// Where there would be room, without taking it.
pub fn placements(world: &World, token: &Token, request: &Request) -> Result<Reply, Reply> {
    if request.text("org_slug") != Some(token.org.as_str()) {
        return Err(forbidden());
    }
    let expression = request.text("region").unwrap_or("any");
    let named = World::regions(expression);
    if named.is_empty() {
        return Err(invalid_argument(format!("target region {expression} not found")));
    }
    let wanted = request.number("count").unwrap_or_default();
    let roomy = named.into_iter().filter_map(|region| {
        let is_full = world.full_regions.contains_key(region);
        let hosts = World::hosts(region).filter(|host| world.is_reachable(host) && !world.full_hosts.contains_key(host));
        let hosts = hosts.count().min(HOSTS);
        (!is_full && hosts > 0).then(|| json!({ "region": region, "count": wanted, "concurrency": hosts }))
    });
    Ok(Reply::ok(json!({ "regions": roomy.collect::<Vec<_>>() })))
}

/// All machines of an organization, in pages.
pub fn machines(world: &World, token: &Token, org: &str, request: &Request) -> Result<Reply, Reply> {
    let with_gone = request.is_set("include_deleted");
    let mut rows = Vec::new();
    for app in world.apps.values().filter(|app| app.org == org) {
        for machine in app.machines.iter().filter(|machine| machine.hidden == 0 && (with_gone || !machine.state.is_gone())) {
            let mut row = machines::described(world, machine, &Shown::default());
            let config = &machine.config.value;
            let overview = json!({ "guest": config["guest"], "image": config["image"], "metadata": config["metadata"] });
            let fields = row.as_object_mut().into_iter();
            for fields in fields {
                for key in ["events", "cordoned", "host_status", "checks", "image_ref", "incomplete_config"] {
                    fields.remove(key);
                }
                fields.insert("config".to_owned(), without_nulls(&overview));
                fields.insert("app_name".to_owned(), json!(app.name));
                fields.insert("version".to_owned(), json!(machine.instance_id));
            }
            rows.push(row);
        }
    }
    let (page, next) = page(token, org, rows, request)?;
    Ok(Reply::ok(json!({
        "machines": page, "next_cursor": next, "error_regions": [], "last_machine_id": "", "last_updated_at": world.now_text(),
    })))
}

/// All volumes of an organization, in pages, those of deleted apps too.
pub fn volumes(world: &World, token: &Token, org: &str, request: &Request) -> Result<Reply, Reply> {
    let of_apps = world.apps.values().filter(|app| app.org == org);
    let of_apps = of_apps.flat_map(|app| app.volumes.iter().map(move |volume| (&app.name, volume)));
    let remains = world.remains.iter().map(|(app, volume)| (app, volume));
    let rows = of_apps.chain(remains).filter(|(_, volume)| volume.hidden == 0).map(|(app, volume)| {
        let mut row = volumes::described(world, volume);
        row["app_name"] = json!(app);
        row["updated_at"] = row["created_at"].clone();
        row
    });
    let (page, next) = page(token, org, rows.collect(), request)?;
    Ok(Reply::ok(json!({
        "volumes": page, "next_cursor": next, "last_volume_id": "", "last_updated_at": world.now_text(),
    })))
}

fn page(token: &Token, org: &str, rows: Vec<Value>, request: &Request) -> Result<(Vec<Value>, String), Reply> {
    if org != token.org {
        return Err(forbidden());
    }
    let number = |name: &str| request.parameter(name).and_then(|text| text.parse::<usize>().ok());
    let (from, limit) = (number("cursor").unwrap_or_default(), number("limit").unwrap_or(1_000).min(1_000));
    let fits = |row: &&Value| {
        ["region", "state"].iter().all(|key| request.parameter(key).is_none_or(|wanted| row[*key] == json!(wanted)))
    };
    let all: Vec<&Value> = rows.iter().filter(fits).collect();
    let page: Vec<Value> = all.iter().skip(from).take(limit).map(|row| (*row).clone()).collect();
    let next = if from + page.len() < all.len() { (from + page.len()).to_string() } else { String::new() };
    Ok((page, next))
}

fn without_nulls(value: &Value) -> Value {
    let fields = value.as_object().into_iter().flatten().filter(|(_, field)| !field.is_null());
    Value::Object(fields.map(|(key, field)| (key.clone(), field.clone())).collect())
}
