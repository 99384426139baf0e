//! Machines: made, listed, shown, replaced and destroyed. How they come and go by themselves is in `life`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use serde_json::{Value, json};

use super::checks;
use super::config::{self, Config};
use super::leases::{self, Lease};
use super::life::{self, State, Step};
use super::processes::Process;
use super::reply::{
    Reply, Shortage, bound, deadline_exceeded, failed_precondition, invalid_argument, machine_name_taken, not_found,
};
use super::request::Request;
use super::volumes::Attachment;
use super::world::World;

/// One machine.
pub struct Machine {
    pub id: String,
    pub name: String,
    pub region: String,
    pub host: String,
    /// Another one with every change of the configuration.
    pub instance_id: String,
    pub state: State,
    /// What it still has to go through.
    pub steps: VecDeque<Step>,
    /// When the next of them happens.
    pub due: Instant,
    pub config: Config,
    pub versions: Vec<(String, Value)>,
    pub lease: Option<Lease>,
    pub events: Vec<Event>,
    pub is_cordoned: bool,
    /// How many lists will not show it.
    pub hidden: u32,
    /// How many waits will not find it.
    pub unseen: u32,
    /// How many looks and requests for its lease will not find it.
    pub unknown: u32,
    /// The secrets that it started with.
    pub secrets: BTreeMap<String, String>,
    pub process: Option<Process>,
    pub started: Option<Instant>,
    pub gone: Option<Instant>,
    /// When a program that was asked to stop is killed.
    pub kill_at: Option<Instant>,
    pub restarts: u64,
    pub is_passing: bool,
    pub created: String,
    pub updated: String,
}

/// Something that happened to a machine.
#[derive(Debug, Clone)]
pub struct Event {
    pub id: String,
    pub kind: &'static str,
    pub status: &'static str,
    pub source: &'static str,
    pub timestamp: i64,
    pub request: Value,
}

impl Machine {
    /// Whether it is known already where it is asked for.
    pub fn known(&mut self) -> Result<(), Reply> {
        if self.unknown == 0 {
            return Ok(());
        }
        self.unknown -= 1;
        Err(not_found("machine"))
    }

    /// The volume that it has mounted.
    pub fn volume(&self) -> Option<&str> {
        self.config.volume()
    }
}

pub fn create(world: &mut World, app: &str, request: &Request) -> Result<Reply, Reply> {
    world.look_at_app(app)?;
    let mut config = Config::read(&request.body)?;
    let name = request.text("name").map_or_else(|| format!("machine-{}", world.made), str::to_owned);
    if let Some(other) = world.app(app)?.machines.iter().find(|machine| machine.name == name && !machine.state.is_gone()) {
        return Err(machine_name_taken(&other.id, &name));
    }
    let lags = world.settings.vault_lags;
    let secrets = world.app(app)?.vault.for_machine(request.number("min_secrets_version"), lags)?;
    let (region, host) = place(world, app, &mut config, request)?;
    let id = world.fresh_machine_id();
    let instance_id = world.fresh_ulid();
    if let Some(volume) = config.volume() {
        world.app(app)?.volume(volume)?.attached = Some(Attachment { machine: id.clone(), until: None });
    }
    let mut machine = Machine {
        id: id.clone(),
        name,
        region,
        host,
        versions: vec![(instance_id.clone(), config.value.clone())],
        instance_id,
        state: State::Created,
        steps: VecDeque::new(),
        due: world.instant(),
        config,
        lease: None,
        events: Vec::new(),
        is_cordoned: request.flag("skip_service_registration"),
        hidden: world.settings.list_lag,
        unseen: world.settings.machine_hidden_for,
        unknown: world.settings.machine_unknown_for,
        secrets,
        process: None,
        started: None,
        gone: None,
        kill_at: None,
        restarts: 0,
        is_passing: false,
        created: world.now_text(),
        updated: world.now_text(),
    };
    life::note(world, &mut machine, "launch", "created", "user");
    let mut nonce = None;
    if let Some(ttl) = request.number("lease_ttl").filter(|ttl| *ttl > 0) {
        let lease = Lease::new(world, ttl, "created with the machine");
        nonce = Some(lease.nonce.clone());
        machine.lease = Some(lease);
    }
    if !request.flag("skip_launch") {
        life::launch_anew(world, &mut machine);
    }
    let mut reply = described(world, &machine, &Shown::default());
    // The answer is given before anything has come of it.
    reply["state"] = json!(if request.flag("skip_launch") { "created" } else { "starting" });
    if let Some(nonce) = nonce {
        reply["nonce"] = json!(nonce);
    }
    world.app(app)?.machines.push(machine);
    Ok(Reply::ok(reply))
}

/// The region and the host: those of the volume, or where there is room.
fn place(world: &mut World, app: &str, config: &mut Config, request: &Request) -> Result<(String, String), Reply> {
    let asked = request.text("region").map(str::to_owned);
    if let Some(id) = config.volume().map(str::to_owned) {
        let volume = world.app(app)?.volumes.iter().find(|volume| volume.id == id && volume.state.is_live());
        let volume = volume.ok_or_else(|| Reply::error(400, "volume not found"))?;
        if let Some(attachment) = &volume.attached {
            return Err(bound(&attachment.machine));
        }
        let (region, host) = (volume.region.clone(), volume.host.clone());
        config.fill_mount(volume);
        if asked.is_some_and(|asked| !World::regions(&asked).contains(&region.as_str())) {
            return Err(Reply::error(400, "volume not found"));
        }
        if !world.is_reachable(&host) {
            return Err(deadline_exceeded("host unreachable"));
        }
        if world.full_hosts.contains_key(&host) {
            return Err(Shortage::VolumeHost.reply(&region));
        }
        return Ok((region, host));
    }
    let expression = asked.unwrap_or_else(|| "iad".to_owned());
    let regions = World::regions(&expression);
    if regions.is_empty() {
        return Err(invalid_argument(format!("target region {expression} not found")));
    }
    let mut refusal = Shortage::NoCandidateHost.reply(&expression);
    for region in regions {
        match (world.full_regions.get(region), world.roomy_host(region)) {
            (Some(Shortage::VolumeNoCapacity) | None, Some(host)) => return Ok((region.to_owned(), host)),
            (Some(capacity), _) => refusal = capacity.reply(region),
            (None, None) => {}
        }
    }
    Err(refusal)
}

/// Which parts of a machine are shown.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    is_summary: bool,
    with_lease: bool,
}

pub fn list(world: &mut World, app: &str, request: &Request) -> Result<Reply, Reply> {
    let mut seen = Vec::new();
    for machine in &mut world.look_at_app(app)?.machines {
        match machine.hidden {
            0 => seen.push(machine.id.clone()),
            _ => machine.hidden -= 1,
        }
    }
    let shown = Shown { is_summary: request.is_set("summary"), with_lease: request.is_set("include_leases") };
    let with_gone = request.is_set("include_deleted");
    let fits = |machine: &&Machine| {
        let metadata = request.query.iter().filter_map(|(key, value)| Some((key.strip_prefix("metadata.")?, value)));
        seen.contains(&machine.id)
            && (with_gone || !machine.state.is_gone())
            && request.parameter("region").is_none_or(|region| region == machine.region)
            && request.parameter("state").is_none_or(|states| states.split(',').any(|state| state == machine.state.word()))
            && metadata.into_iter().all(|(key, value)| machine.config.metadata(key) == Some(value.as_str()))
    };
    let machines = world.apps[app].machines.iter().filter(fits);
    Ok(Reply::ok(machines.map(|machine| described(world, machine, &shown)).collect()))
}

pub fn show(world: &mut World, app: &str, id: &str) -> Result<Reply, Reply> {
    let times_out = world.settings.unreachable_times_out;
    world.look_at_app(app)?.machine(id)?.known()?;
    let machine = world.apps[app].machines.iter().find(|machine| machine.id == id).ok_or_else(|| not_found("machine"))?;
    if !world.is_reachable(&machine.host) && times_out {
        return Err(deadline_exceeded("host unreachable"));
    }
    Ok(Reply::ok(described(world, machine, &Shown::default())))
}

/// Replaces the whole configuration; nothing is merged.
pub fn update(world: &mut World, app: &str, id: &str, request: &Request) -> Result<Reply, Reply> {
    reach(world, app, id, request)?;
    let mut config = Config::read(&request.body)?;
    let lags = world.settings.vault_lags;
    let machine = world.app(app)?.machine(id)?;
    if request.text("current_version").is_some_and(|version| version != machine.instance_id) {
        return Err(failed_precondition(format!("machine version mismatch, current version is {}", machine.instance_id)));
    }
    if request.text("name").is_some_and(|name| name != machine.name) {
        return Err(invalid_argument("machine name cannot be changed"));
    }
    if request.text("region").is_some_and(|region| region != machine.region) {
        return Err(invalid_argument("machine region cannot be changed"));
    }
    if config.volume() != machine.volume() {
        return Err(invalid_argument("volume of a machine cannot be changed"));
    }
    let (host, region, volume) = (machine.host.clone(), machine.region.clone(), machine.volume().map(str::to_owned));
    let secrets = world.app(app)?.vault.for_machine(request.number("min_secrets_version"), lags)?;
    if let Some(capacity) = world.full_hosts.get(&host) {
        return Err(capacity.reply(&region));
    }
    if let Some(volume) = volume {
        config.fill_mount(world.app(app)?.volume(&volume)?);
    }
    let instance_id = world.fresh_ulid();
    let updated = world.now_text();
    let mut machine = take(world, app, id)?;
    machine.instance_id.clone_from(&instance_id);
    machine.versions.push((instance_id, config.value.clone()));
    machine.config = config;
    machine.secrets = secrets;
    machine.updated = updated;
    machine.restarts = 0;
    life::note(world, &mut machine, "update", "replaced", "user");
    let stays_down = request.flag("skip_launch");
    match (machine.state.is_running(), stays_down) {
        (true, false) => life::begin(world, &mut machine, State::Replacing, [Step::Halt, Step::Pull, Step::Launch]),
        (true, true) => life::begin(world, &mut machine, State::Replacing, [Step::Halt]),
        (false, false) => life::launch_anew(world, &mut machine),
        (false, true) => {}
    }
    let reply = described(world, &machine, &Shown::default());
    world.app(app)?.machines.push(machine);
    Ok(Reply::ok(reply))
}

pub fn delete(world: &mut World, app: &str, id: &str, request: &Request) -> Result<Reply, Reply> {
    reach(world, app, id, request)?;
    let forced = request.is_set("force") || request.is_set("kill");
    let machine = world.app(app)?.machine(id)?;
    if machine.state.is_running() && !forced {
        let state = machine.state.word();
        return Err(failed_precondition(format!(
            "unable to destroy machine, not currently stopped or suspended: current state is '{state}'"
        )));
    }
    let mut machine = take(world, app, id)?;
    life::begin(world, &mut machine, State::Destroying, [Step::Vanish]);
    world.app(app)?.machines.push(machine);
    Ok(Reply::ok(json!({ "ok": true })))
}

/// What stands before every change of a machine: it is there, its host answers, and no other holds its lease.
pub fn reach(world: &mut World, app: &str, id: &str, request: &Request) -> Result<(), Reply> {
    let second = world.second();
    let machine = world.look_at_app(app)?.machine(id)?;
    if machine.state == State::Destroyed {
        return Err(not_found("machine"));
    }
    leases::permit(machine, request.nonce(), second)?;
    let host = machine.host.clone();
    match world.is_reachable(&host) {
        true => Ok(()),
        false => Err(deadline_exceeded("host unreachable")),
    }
}

/// A machine out of its app, to be put back.
pub fn take(world: &mut World, app: &str, id: &str) -> Result<Machine, Reply> {
    let app = world.app(app)?;
    let at = app.machines.iter().position(|machine| machine.id == id).ok_or_else(|| not_found("machine"))?;
    Ok(app.machines.remove(at))
}

pub fn described(world: &World, machine: &Machine, shown: &Shown) -> Value {
    let mut described = json!({
        "id": machine.id,
        "name": machine.name,
        "state": machine.state.word(),
        "region": machine.region,
        "instance_id": machine.instance_id,
        "private_ip": format!("fdaa:0:1:a7b:{}::2", &machine.id[..4]),
        "image_ref": config::image_ref(machine.config.image()),
        "created_at": machine.created,
        "updated_at": machine.updated,
        "events": machine.events.iter().rev().map(event).collect::<Vec<_>>(),
        "cordoned": machine.is_cordoned,
    });
    if !shown.is_summary {
        described["host_status"] = world.host_status(&machine.host);
        if world.is_reachable(&machine.host) {
            described["config"] = machine.config.value.clone();
            described["checks"] = checks::listed(world, machine);
        } else {
            described["incomplete_config"] = json!({ "image": machine.config.image() });
        }
    }
    if let (true, Some(lease)) = (shown.with_lease, &machine.lease) {
        described["lease"] = lease.described(machine);
    }
    described
}

pub fn event(event: &Event) -> Value {
    let mut described = json!({
        "id": event.id, "type": event.kind, "status": event.status, "source": event.source, "timestamp": event.timestamp,
    });
    if event.request.is_object() {
        described["request"] = event.request.clone();
    }
    described
}
