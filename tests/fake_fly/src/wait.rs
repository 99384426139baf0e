//! Waiting for a machine to reach a state. The one request that takes its time.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;

use super::life::State;
use super::machines::Machine;
use super::reply::{Reply, deadline_exceeded, invalid_argument, not_found};
use super::request::Request;
use super::world::World;

/// How often it is looked whether the state is reached.
const GLANCE: Duration = Duration::from_millis(3);
const STATES: [&str; 6] = ["started", "stopped", "suspended", "destroyed", "failed", "settled"];

/// What is waited for.
struct WaitQuery {
    states: Vec<String>,
    version: Option<String>,
    timeout: Duration,
    hurry: u32,
}

impl WaitQuery {
    fn read(world: &World, request: &Request) -> Result<Self, Reply> {
        let seconds: u64 = match request.parameter("timeout") {
            None => 60,
            // The real one takes numbers; Go's words are understood too.
            Some(text) => text.trim_end_matches('s').parse().map_err(|_| out_of_range())?,
        };
        if !(1..=60).contains(&seconds) {
            return Err(out_of_range());
        }
        let words = request.query.iter().filter(|(key, _)| key == "state").flat_map(|(_, value)| value.split(','));
        let mut states: Vec<String> = words.filter(|word| !word.is_empty()).map(str::to_owned).collect();
        if let Some(unknown) = states.iter().find(|state| !STATES.contains(&state.as_str())) {
            return Err(invalid_argument(format!("invalid state \"{unknown}\"")));
        }
        if states.is_empty() {
            states.push("started".to_owned());
        }
        let version = request.parameter("version").or(request.parameter("instance_id")).map(str::to_owned);
        if version.is_none() && states.iter().any(|state| state == "stopped") {
            return Err(invalid_argument("waiting for state stopped requires a version"));
        }
        let hurry = world.settings.hurry.max(1);
        Ok(Self { states, version, timeout: Duration::from_secs(seconds) / hurry, hurry })
    }

    /// The state that ends the waiting, if it is reached.
    fn reached(&self, machine: &Machine) -> Option<State> {
        let is_version = self.version.as_ref().is_none_or(|version| *version == machine.instance_id);
        let is_state = |state: &String| match state.as_str() {
            // What is `created` while its image is pulled goes on by itself.
            "settled" => machine.state.is_settled() && machine.steps.is_empty(),
            word => machine.state.word() == word,
        };
        (is_version && self.states.iter().any(is_state)).then_some(machine.state)
    }
}

fn out_of_range() -> Reply {
    invalid_argument("invalid WaitMachineRequest.Timeout: value must be inside range [1s, 1m0s]")
}

pub async fn wait(world: &Mutex<World>, app: &str, id: &str, request: &Request) -> Result<Reply, Reply> {
    let wanted = WaitQuery::read(&world.lock().unwrap(), request)?;
    if let Ok(machine) = world.lock().unwrap().look_at_app(app)?.machine(id)
        && machine.unseen > 0
    {
        machine.unseen -= 1;
        return Err(not_found("machine"));
    }
    let began = Instant::now();
    loop {
        let state = {
            let mut world = world.lock().unwrap();
            super::settle(&mut world);
            let machine = world.look_at_app(app)?.machine(id)?;
            if let Some(state) = wanted.reached(machine) {
                let event = machine.events.last().map(|event| event.id.clone()).unwrap_or_default();
                return Ok(Reply::ok(json!({
                    "ok": true, "state": state.word(), "event_id": event, "version": machine.instance_id,
                })));
            }
            machine.state
        };
        if state == State::Destroyed {
            return Err(not_found("machine"));
        }
        if began.elapsed() >= wanted.timeout {
            let states = wanted.states.join(",");
            let words = format!("machine failed to reach desired state, {states}, currently {}", state.word());
            return Err(deadline_exceeded(words));
        }
        tokio::time::sleep(GLANCE.max(Duration::from_millis(10) / wanted.hurry)).await;
    }
}
