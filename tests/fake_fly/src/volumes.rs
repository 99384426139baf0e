//! Volumes: pinned to a host, bound to a machine, softly deleted. Each is a directory that outlives machines.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::reply::{Reply, Shortage, bound, invalid_argument, not_found};
use super::request::Request;
use super::world::{App, World};

/// How long a deleted volume stays listed.
const KEPT: Duration = Duration::from_secs(24 * 3_600);
const LARGEST_GB: u64 = 500;

/// One volume.
#[derive(Debug)]
pub struct Volume {
    pub id: String,
    pub name: String,
    pub region: String,
    pub host: String,
    pub size_gb: u64,
    pub state: VolumeState,
    /// When it gets further by itself.
    pub ready: Option<Instant>,
    pub deleted: Option<Instant>,
    /// How many lists will not show it.
    pub hidden: u32,
    pub attached: Option<Attachment>,
    pub directory: PathBuf,
    encrypted: bool,
    retention: u64,
    backups: bool,
    created: String,
}

/// A machine that holds a volume, and until when it goes on doing so after its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    pub machine: String,
    pub until: Option<Instant>,
}

/// A copy of a volume.
#[derive(Debug)]
pub struct Snapshot {
    pub id: String,
    volume: String,
    size_gb: u64,
    retention: u64,
    created: String,
    directory: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeState {
    Creating,
    Hydrating,
    Restoring,
    Created,
    PendingDestroy,
}

impl VolumeState {
    fn word(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Hydrating => "hydrating",
            Self::Restoring => "restoring",
            Self::Created => "created",
            Self::PendingDestroy => "pending_destroy",
        }
    }

    pub fn is_live(self) -> bool {
        self != Self::PendingDestroy
    }
}

pub fn create(world: &mut World, root: &Path, app: &str, request: &Request) -> Result<Reply, Reply> {
    world.look_at_app(app)?;
    let name = request.text("name").ok_or_else(|| invalid_argument("volume name is missing"))?;
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') || name.len() > 30 {
        return Err(invalid_argument("volume names are lowercase letters, digits and underscores"));
    }
    let (origin, state, size) = origin(world.app(app)?, request)?;
    let size_gb = request.number("size_gb").unwrap_or(size);
    if size_gb == 0 || size_gb > LARGEST_GB || size_gb < origin.as_ref().map_or(0, |_| size) {
        return Err(invalid_argument(format!("size_gb must be between {size} and {LARGEST_GB}")));
    }
    let (region, host) = place(world, app, name, request)?;
    let id = world.fresh_id("vol");
    let directory = root.join("volumes").join(&id);
    std::fs::create_dir_all(&directory).unwrap();
    if let Some(origin) = origin {
        copy(&origin, &directory);
    }
    let volume = Volume {
        id,
        name: name.to_owned(),
        region,
        host,
        size_gb,
        state,
        ready: Some(world.instant() + world.settings.step),
        deleted: None,
        hidden: world.settings.list_lag,
        attached: None,
        directory,
        encrypted: request.body.get("encrypted").and_then(Value::as_bool).unwrap_or(true),
        retention: request.number("snapshot_retention").unwrap_or(5),
        backups: request.body.get("auto_backup_enabled").and_then(Value::as_bool).unwrap_or(true),
        created: world.now_text(),
    };
    let reply = Reply::ok(described(world, &volume));
    world.app(app)?.volumes.push(volume);
    Ok(reply)
}

/// Where the data of a new volume comes from, the state that it begins with, and the size that it has at least.
fn origin(app: &App, request: &Request) -> Result<(Option<PathBuf>, VolumeState, u64), Reply> {
    if let Some(id) = request.text("snapshot_id") {
        let snapshot = app.snapshots.iter().find(|snapshot| snapshot.id == id).ok_or_else(|| not_found("snapshot"))?;
        return Ok((Some(snapshot.directory.clone()), VolumeState::Restoring, snapshot.size_gb));
    }
    if let Some(id) = request.text("source_volume_id") {
        let volume = app.volumes.iter().find(|volume| volume.id == id && volume.state.is_live());
        let volume = volume.ok_or_else(|| not_found("volume"))?;
        return Ok((Some(volume.directory.clone()), VolumeState::Hydrating, volume.size_gb));
    }
    Ok((None, VolumeState::Creating, 1))
}

/// The region and the host. Only with a compute hint is it a host that has room for the machine too.
fn place(world: &mut World, app: &str, name: &str, request: &Request) -> Result<(String, String), Reply> {
    let expression = request.text("region").unwrap_or("iad").to_owned();
    let regions = World::regions(&expression);
    if regions.is_empty() {
        return Err(invalid_argument(format!("target region {expression} not found")));
    }
    let hinted = request.body.get("compute").is_some_and(Value::is_object);
    let apart = request.flag("require_unique_zone");
    let siblings = world.app(app)?.volumes.iter().filter(|volume| volume.name == name && volume.state.is_live());
    let taken: Vec<String> = siblings.map(|volume| volume.host.clone()).collect();
    let mut refusal = Shortage::VolumeNoCapacity.reply(&expression);
    for region in regions {
        match world.full_regions.get(region) {
            Some(capacity @ Shortage::Quota) => refusal = capacity.reply(region),
            Some(_) => {}
            None => {
                let fits = |host: &String| {
                    world.is_reachable(host)
                        && !(apart && taken.contains(host))
                        && !(hinted && world.full_hosts.contains_key(host))
                };
                if let Some(host) = World::hosts(region).find(fits) {
                    return Ok((region.to_owned(), host));
                }
            }
        }
    }
    Err(refusal)
}

pub fn list(world: &mut World, app: &str) -> Result<Reply, Reply> {
    let mut shown = Vec::new();
    for volume in &mut world.look_at_app(app)?.volumes {
        match volume.hidden {
            0 => shown.push(volume.id.clone()),
            _ => volume.hidden -= 1,
        }
    }
    let app = &world.apps[app];
    let volumes = app.volumes.iter().filter(|volume| shown.contains(&volume.id));
    Ok(Reply::ok(volumes.map(|volume| described(world, volume)).collect()))
}

pub fn show(world: &mut World, app: &str, id: &str) -> Result<Reply, Reply> {
    world.look_at_app(app)?.volume(id)?;
    let volume = world.apps[app].volumes.iter().find(|volume| volume.id == id);
    volume.map(|volume| Reply::ok(described(world, volume))).ok_or_else(|| not_found("volume"))
}

/// Deletes softly; a machine that holds the volume stands in the way, running or not.
pub fn delete(world: &mut World, app: &str, id: &str) -> Result<Reply, Reply> {
    let now = world.instant();
    if !world.apps.contains_key(app) {
        // So it was seen, where everything else is a 404.
        return Err(Reply::error(400, "could not find app"));
    }
    let volume = world.look_at_app(app)?.volume(id)?;
    if let Some(attachment) = &volume.attached {
        return Err(bound(&attachment.machine));
    }
    if volume.state.is_live() {
        volume.state = VolumeState::PendingDestroy;
        volume.deleted = Some(now);
    }
    show(world, app, id)
}

pub fn update(world: &mut World, app: &str, id: &str, request: &Request) -> Result<Reply, Reply> {
    let volume = world.look_at_app(app)?.volume(id)?;
    if let Some(days) = request.number("snapshot_retention") {
        if !(1..=60).contains(&days) {
            return Err(invalid_argument("snapshot_retention must be inside range [1, 60]"));
        }
        volume.retention = days;
    }
    if let Some(backups) = request.body.get("auto_backup_enabled").and_then(Value::as_bool) {
        volume.backups = backups;
    }
    show(world, app, id)
}

pub fn extend(world: &mut World, app: &str, id: &str, request: &Request) -> Result<Reply, Reply> {
    let needs_restart = world.omens.extension_needs_restart;
    let size = request.number("size_gb").unwrap_or_default();
    let volume = world.look_at_app(app)?.volume(id)?;
    if size < volume.size_gb || size > LARGEST_GB || !volume.state.is_live() {
        return Err(invalid_argument(format!("size_gb must be between {} and {LARGEST_GB}", volume.size_gb)));
    }
    volume.size_gb = size;
    let needs_restart = needs_restart && volume.attached.is_some();
    let volume = show(world, app, id)?;
    let super::reply::Body::Json(volume) = volume.body else { return Ok(volume) };
    Ok(Reply::ok(json!({ "volume": volume, "needs_restart": needs_restart })))
}

pub fn snapshots(world: &mut World, app: &str, id: &str) -> Result<Reply, Reply> {
    let app = world.look_at_app(app)?;
    app.volume(id)?;
    let of_it = app.snapshots.iter().filter(|snapshot| snapshot.volume == id);
    let described = of_it.map(|snapshot| {
        json!({
            "id": snapshot.id,
            "created_at": snapshot.created,
            "digest": snapshot.id,
            "size": 4_096,
            "volume_size": snapshot.size_gb << 30,
            "retention_days": snapshot.retention,
            "status": "created",
        })
    });
    Ok(Reply::ok(described.collect()))
}

pub fn take_snapshot(world: &mut World, root: &Path, app: &str, id: &str) -> Result<Reply, Reply> {
    let (created, snapshot_id) = (world.now_text(), world.fresh_id("vs"));
    let app = world.look_at_app(app)?;
    let volume = app.volume(id)?;
    let directory = root.join("snapshots").join(&snapshot_id);
    copy(&volume.directory, &directory);
    let (size_gb, retention) = (volume.size_gb, volume.retention);
    app.snapshots.push(Snapshot { id: snapshot_id, volume: id.to_owned(), size_gb, retention, created, directory });
    Ok(Reply::empty(200))
}

/// What comes by itself: new volumes get ready, bindings end, deleted ones disappear after a day.
pub fn settle(world: &mut World) {
    let now = world.instant();
    let is_over = |volume: &Volume| volume.deleted.is_some_and(|at| now.duration_since(at) >= KEPT);
    for app in world.apps.values_mut() {
        for volume in &mut app.volumes {
            if volume.ready.is_some_and(|at| at <= now) && volume.state.is_live() {
                volume.state = VolumeState::Created;
                volume.ready = None;
            }
            if volume.attached.as_ref().is_some_and(|attachment| attachment.until.is_some_and(|until| until <= now)) {
                volume.attached = None;
            }
        }
        app.volumes.retain(|volume| !is_over(volume));
    }
    world.remains.retain(|(_, volume)| !is_over(volume));
}

pub fn described(world: &World, volume: &Volume) -> Value {
    let blocks = volume.size_gb << 18;
    json!({
        "id": volume.id,
        "name": volume.name,
        "state": volume.state.word(),
        "region": volume.region,
        "zone": volume.host,
        "size_gb": volume.size_gb,
        "encrypted": volume.encrypted,
        "fstype": "ext4",
        "attached_machine_id": volume.attached.as_ref().map_or("", |attachment| attachment.machine.as_str()),
        "snapshot_retention": volume.retention,
        "auto_backup_enabled": volume.backups,
        "host_status": world.host_status(&volume.host),
        "created_at": volume.created,
        "blocks": blocks, "blocks_avail": blocks, "blocks_free": blocks, "block_size": 4_096,
        "bytes_total": volume.size_gb << 30, "bytes_used": 0,
        "type": "local",
    })
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
