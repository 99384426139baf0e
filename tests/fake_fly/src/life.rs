//! How machines come and go: what they go through by themselves, and the requests that make them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::machines::{self, Event, Machine};
use super::processes;
use super::reply::{Reply, failed_precondition, invalid_argument, read_duration};
use super::request::Request;
use super::world::World;

/// The states that this stand-in knows. Nothing is ever suspended here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Created,
    Starting,
    Started,
    Stopping,
    Stopped,
    Restarting,
    Replacing,
    Failed,
    Destroying,
    Destroyed,
}

/// What happens to a machine at a later time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Its image is there; until then it is `created`.
    Pull,
    /// Its program starts.
    Launch,
    /// Its program ends: it was told to, or is killed when its time is over.
    Halt,
    /// It is destroyed.
    Vanish,
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Restarting => "restarting",
            Self::Replacing => "replacing",
            Self::Failed => "failed",
            Self::Destroying => "destroying",
            Self::Destroyed => "destroyed",
        }
    }

    /// Whether its program runs or is about to.
    pub fn is_running(self) -> bool {
        matches!(self, Self::Starting | Self::Started | Self::Restarting | Self::Replacing | Self::Stopping)
    }

    /// Whether its name is free again.
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Destroying | Self::Destroyed)
    }

    /// Whether it stays like this by itself.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Created | Self::Started | Self::Stopped | Self::Failed | Self::Destroyed)
    }
}

/// Lets a machine go through these steps from now on.
pub fn begin(world: &mut World, machine: &mut Machine, state: State, steps: impl IntoIterator<Item = Step>) {
    machine.steps = steps.into_iter().collect();
    machine.state = state;
    machine.due = world.instant() + world.settings.step;
    machine.is_passing = false;
    if machine.steps.front() == Some(&Step::Halt) {
        let (signal, timeout) = machine.config.stop();
        let signal = signal.to_owned();
        ask_to_stop(world, machine, &signal, timeout);
    }
}

/// Lets a machine pull its image and start.
pub fn launch_anew(world: &mut World, machine: &mut Machine) {
    if world.settings.pull_takes.is_zero() {
        return begin(world, machine, State::Starting, [Step::Launch]);
    }
    begin(world, machine, State::Created, [Step::Pull, Step::Launch]);
    machine.due = world.instant() + world.settings.pull_takes;
}

fn ask_to_stop(world: &World, machine: &mut Machine, signal: &str, timeout: Duration) {
    processes::signal(machine, signal);
    machine.kill_at = Some(world.instant() + timeout / world.settings.hurry.max(1));
}

pub fn note(world: &mut World, machine: &mut Machine, kind: &'static str, status: &'static str, source: &'static str) {
    let id = world.fresh_ulid();
    let timestamp = world.now().as_millisecond();
    machine.events.push(Event { id, kind, status, source, timestamp, request: Value::Null });
}

/// Brings every machine to where it is now.
pub fn settle(world: &mut World) {
    let now = world.instant();
    let names: Vec<String> = world.apps.keys().cloned().collect();
    for name in names {
        let Some(app) = world.apps.get_mut(&name) else { continue };
        let mut machines = std::mem::take(&mut app.machines);
        for machine in &mut machines {
            while machine.due <= now && machine.steps.front().is_some() {
                if !take_step(world, &name, machine, now) {
                    break;
                }
            }
            look_after(world, machine, now);
        }
        let shown = world.settings.destroyed_shown;
        machines.retain(|machine| machine.gone.is_none_or(|at| now.duration_since(at) < shown));
        if let Some(app) = world.apps.get_mut(&name) {
            app.machines = machines;
        }
    }
}

/// Whether the step is done.
fn take_step(world: &mut World, app: &str, machine: &mut Machine, now: Instant) -> bool {
    match machine.steps.front() {
        Some(Step::Pull) => machine.state = State::Starting,
        Some(Step::Launch) if world.omens.launches_hang => return false,
        Some(Step::Launch) => launch(world, app, machine, now),
        Some(Step::Halt) => {
            if processes::is_running(machine) && machine.kill_at.is_some_and(|at| now < at) {
                return false;
            }
            processes::kill(machine);
            machine.kill_at = None;
            machine.started = None;
            note(world, machine, "exit", "stopped", "flyd");
            let exit = json!({ "exit_event": { "requested_stop": true, "restarting": machine.steps.len() > 1 } });
            if let Some(last) = machine.events.last_mut() {
                last.request = exit;
            }
            if machine.steps.len() == 1 {
                machine.state = State::Stopped;
            }
        }
        Some(Step::Vanish) if world.omens.destruction_hangs => return false,
        Some(Step::Vanish) => {
            processes::kill(machine);
            machine.state = State::Destroyed;
            machine.gone = Some(now);
            machine.lease = None;
            note(world, machine, "destroy", "destroyed", "flyd");
            let until = Some(now + world.settings.binding_lingers);
            if let (Some(volume), Some(app)) = (machine.volume(), world.apps.get_mut(app))
                && let Ok(volume) = app.volume(volume)
                && let Some(attachment) = volume.attached.as_mut()
            {
                attachment.until = until;
            }
        }
        None => return false,
    }
    machine.steps.pop_front();
    machine.due = now + world.settings.step;
    if machine.steps.front() == Some(&Step::Pull) {
        machine.state = State::Created;
        machine.due = now + world.settings.pull_takes;
    }
    true
}

fn launch(world: &mut World, app: &str, machine: &mut Machine, now: Instant) {
    if world.omens.launches_fail {
        machine.state = State::Failed;
        note(world, machine, "launch", "failed", "flyd");
        return;
    }
    let data = machine.volume().and_then(|id| {
        let volume = world.apps.get(app)?.volumes.iter().find(|volume| volume.id == id)?;
        Some(volume.directory.clone())
    });
    processes::start(world, machine, data);
    note(world, machine, "start", "started", "flyd");
    machine.started = Some(now);
    machine.state = State::Started;
    if world.omens.programs_end {
        ended(world, machine, Some(1));
        machine.state = State::Stopped;
    }
}

/// Starts a program again that ended by itself, as often as its policy says.
fn look_after(world: &mut World, machine: &mut Machine, now: Instant) {
    if machine.state != State::Started || processes::is_running(machine) || machine.process.is_none() {
        return;
    }
    let code = processes::exit_code(machine);
    processes::kill(machine);
    let (policy, retries) = machine.config.restart_policy();
    let again = match policy {
        "always" => true,
        "on-failure" => code != Some(0) && machine.restarts < retries,
        _ => false,
    };
    ended(world, machine, code);
    machine.state = State::Stopped;
    if again {
        machine.restarts += 1;
        machine.state = State::Starting;
        machine.steps = [Step::Launch].into();
        machine.due = now + world.settings.step;
    }
}

fn ended(world: &mut World, machine: &mut Machine, code: Option<i32>) {
    machine.started = None;
    machine.is_passing = false;
    note(world, machine, "exit", "stopped", "flyd");
    // What is zero is left out.
    let mut exit = json!({ "exit_event": {} });
    if let Some(code) = code.filter(|code| *code != 0) {
        exit["exit_event"]["exit_code"] = json!(code);
    }
    if let Some(last) = machine.events.last_mut() {
        last.request = exit;
    }
}

pub fn start(world: &mut World, app: &str, id: &str, request: &Request) -> Result<Reply, Reply> {
    machines::reach(world, app, id, request)?;
    let machine = world.app(app)?.machine(id)?;
    let (before, host, region) = (machine.state, machine.host.clone(), machine.region.clone());
    match before {
        State::Started | State::Starting => {}
        State::Stopped | State::Failed => {
            if let Some(capacity) = world.full_hosts.get(&host) {
                return Err(capacity.reply(&region));
            }
            let mut machine = machines::take(world, app, id)?;
            machine.restarts = 0;
            begin(world, &mut machine, State::Starting, [Step::Launch]);
            world.app(app)?.machines.push(machine);
        }
        _ => {
            let state = before.word();
            return Err(failed_precondition(format!("unable to start machine from current state: '{state}'")));
        }
    }
    Ok(Reply::ok(json!({ "previous_state": before.word(), "migrated": false, "new_host": "" })))
}

pub fn stop(world: &mut World, app: &str, id: &str, request: &Request) -> Result<Reply, Reply> {
    machines::reach(world, app, id, request)?;
    // An empty body is an error: at least `{}` has to be sent.
    if !request.body.is_object() {
        return Err(invalid_argument("request body is not a JSON object"));
    }
    let mut machine = machines::take(world, app, id)?;
    if machine.state.is_running() && machine.state != State::Stopping {
        halt(world, &mut machine, State::Stopping, [Step::Halt], request.text("signal"), request.body.get("timeout"));
    }
    world.app(app)?.machines.push(machine);
    Ok(Reply::ok(json!({ "ok": true })))
}

pub fn restart(world: &mut World, app: &str, id: &str, request: &Request) -> Result<Reply, Reply> {
    machines::reach(world, app, id, request)?;
    let mut machine = machines::take(world, app, id)?;
    let timeout = request.parameter("timeout").map(|text| json!(text));
    let signal = if request.is_set("force_stop") { Some("SIGKILL") } else { request.parameter("signal") };
    halt(world, &mut machine, State::Restarting, [Step::Halt, Step::Launch], signal, timeout.as_ref());
    world.app(app)?.machines.push(machine);
    Ok(Reply::ok(json!({ "ok": true })))
}

/// Stops with what the request says, or else the configuration.
fn halt(
    world: &mut World,
    machine: &mut Machine,
    state: State,
    steps: impl IntoIterator<Item = Step>,
    signal: Option<&str>,
    timeout: Option<&Value>,
) {
    let (own_signal, own_timeout) = machine.config.stop();
    let own_signal = own_signal.to_owned();
    begin(world, machine, state, std::iter::empty());
    machine.steps = steps.into_iter().collect();
    let timeout = timeout.and_then(read_duration).unwrap_or(own_timeout);
    ask_to_stop(world, machine, signal.unwrap_or(&own_signal), timeout);
}

pub fn cordon(world: &mut World, app: &str, id: &str, cordoned: bool, request: &Request) -> Result<Reply, Reply> {
    machines::reach(world, app, id, request)?;
    world.app(app)?.machine(id)?.is_cordoned = cordoned;
    Ok(Reply::ok(json!({ "ok": true })))
}

/// Ends what runs in the machines of an app, as a crash would.
pub fn kill_program(world: &mut World, app: &str) {
    for machine in world.apps.get_mut(app).into_iter().flat_map(|app| &mut app.machines) {
        processes::signal(machine, "SIGKILL");
    }
}
