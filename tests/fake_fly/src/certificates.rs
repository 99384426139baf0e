//! Certificates for hostnames of one's own: what has to be in the domain name system, and whether it is there.

use serde_json::{Value, json};

use super::addresses::Kind;
use super::reply::{Reply, not_found};
use super::request::Request;
use super::world::{App, World};

/// A hostname that an app wants a certificate for.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub hostname: String,
    /// Whether the records were there when it was last looked.
    pub is_configured: bool,
    created: String,
}

pub fn request(world: &mut World, app: &str, request: &Request) -> Result<Reply, Reply> {
    world.look_at_app(app)?;
    let hostname = request.text("hostname").unwrap_or_default().to_lowercase();
    if !hostname.contains('.') || hostname.contains(['/', ':', ' ']) {
        return Err(Reply::error(422, format!("Validation failed: Hostname {hostname} is not a hostname")));
    }
    let is_taken = world.apps.values().any(|app| app.certificates.iter().any(|known| known.hostname == hostname));
    if is_taken || hostname.ends_with(".fly.dev") {
        return Err(Reply::error(422, "Validation failed: Hostname has already been taken"));
    }
    let created = world.now_text();
    let app = world.app(app)?;
    app.certificates.push(Certificate { hostname: hostname.clone(), is_configured: false, created });
    Ok(Reply::json(201, described(app, &hostname)))
}

pub fn list(world: &mut World, app: &str) -> Result<Reply, Reply> {
    let app = world.look_at_app(app)?;
    let summaries: Vec<Value> = app.certificates.iter().map(summary).collect();
    Ok(Reply::ok(json!({ "certificates": summaries, "total_count": summaries.len(), "next_cursor": "" })))
}

pub fn show(world: &mut World, app: &str, hostname: &str) -> Result<Reply, Reply> {
    let app = world.look_at_app(app)?;
    position(app, hostname)?;
    Ok(Reply::ok(described(app, hostname)))
}

/// Looks whether the records are there.
pub fn check(world: &mut World, app: &str, hostname: &str) -> Result<Reply, Reply> {
    let records = world.dns.get(hostname).cloned().unwrap_or_default();
    let app = world.look_at_app(app)?;
    let at = position(app, hostname)?;
    let needed: Vec<String> = app.addresses.iter().filter(|address| address.kind.is_public()).map(|a| a.ip.clone()).collect();
    let is_alias = records.contains(&target(app));
    app.certificates[at].is_configured = is_alias || (!needed.is_empty() && needed.iter().all(|ip| records.contains(ip)));
    let mut reply = described(app, hostname);
    let (mut a, mut aaaa, mut cname) = (Vec::new(), Vec::new(), Vec::new());
    for record in &records {
        match record.parse() {
            Ok(std::net::IpAddr::V4(_)) => a.push(record),
            Ok(std::net::IpAddr::V6(_)) => aaaa.push(record),
            Err(_) => cname.push(record),
        }
    }
    reply["dns_records"] = json!({ "a": a, "aaaa": aaaa, "cname": cname });
    Ok(Reply::ok(reply))
}

pub fn remove(world: &mut World, app: &str, hostname: &str) -> Result<Reply, Reply> {
    let app = world.look_at_app(app)?;
    let at = position(app, hostname)?;
    app.certificates.remove(at);
    Ok(Reply::empty(204))
}

fn position(app: &App, hostname: &str) -> Result<usize, Reply> {
    let at = app.certificates.iter().position(|certificate| certificate.hostname == hostname);
    at.ok_or_else(|| not_found("certificate"))
}

/// The name that a hostname is made an alias of.
fn target(app: &App) -> String {
    format!("{}.{}.fly.dev", &app.id[..7], app.name)
}

fn word(certificate: &Certificate) -> &'static str {
    if certificate.is_configured { "Ready" } else { "Awaiting configuration" }
}

fn summary(certificate: &Certificate) -> Value {
    let is_there = certificate.is_configured;
    json!({
        "hostname": certificate.hostname,
        "created_at": certificate.created,
        "updated_at": certificate.created,
        "status": word(certificate),
        "configured": is_there,
        "acme_requested": true,
        "acme_alpn_configured": is_there, "acme_dns_configured": false, "acme_http_configured": is_there,
        "ownership_txt_configured": false,
        "has_custom_certificate": false, "has_fly_certificate": is_there,
        "dns_provider": "unknown",
    })
}

fn described(app: &App, hostname: &str) -> Value {
    let Some(certificate) = app.certificates.iter().find(|known| known.hostname == hostname) else { return Value::Null };
    let is_there = certificate.is_configured;
    let of_kind = |v4: bool| -> Vec<&str> {
        let public = app.addresses.iter().filter(|address| address.kind.is_public());
        public.filter(|address| (address.kind != Kind::V6) == v4).map(|address| address.ip.as_str()).collect()
    };
    let entry = json!({
        "source": "fly",
        "status": if is_there { "active" } else { "pending_validation" },
        "created_at": certificate.created,
        "issuer": "Let's Encrypt",
        "issued": [],
    });
    json!({
        "hostname": hostname,
        "status": word(certificate),
        "configured": is_there,
        "acme_requested": true,
        "dns_provider": "unknown",
        "certificates": [entry],
        "dns_requirements": {
            "a": of_kind(true),
            "aaaa": of_kind(false),
            "cname": target(app),
            "acme_challenge": {
                "name": format!("_acme-challenge.{hostname}"),
                "target": format!("{hostname}.{}.flydns.net", &app.id[..7]),
            },
            "ownership": {
                "name": format!("_fly-ownership.{hostname}"),
                "app_value": format!("app-{}", &app.id[..7]),
                "org_value": format!("org-{}", app.org),
            },
        },
        "validation": {
            "alpn_configured": is_there, "dns_configured": false, "http_configured": is_there,
            "ownership_txt_configured": false,
        },
        "validation_errors": [],
    })
}
