//! Checks: what a machine's list says, and the looks at real programs behind it.

use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::life::State;
use super::machines::Machine;
use super::world::World;

const PATIENCE: Duration = Duration::from_secs(2);

/// The checks of a machine as they are listed. A machine that does not run has none.
pub fn listed(world: &World, machine: &Machine) -> Value {
    if machine.state != State::Started || world.omens.checks_missing {
        return json!([]);
    }
    let is_passing = !world.omens.checks_fail && (machine.process.is_none() || machine.is_passing);
    let (status, output) = match is_passing {
        true => ("passing", "200 OK"),
        false => ("critical", "connection refused"),
    };
    let entry =
        |name: &str, status: &str| json!({ "name": name, "status": status, "output": output, "updated_at": world.now_text() });
    let mut listed: Vec<Value> = machine.config.checks().iter().map(|check| entry(&check.name, status)).collect();
    if world.settings.compatibility_check {
        listed.push(entry("bg_deployments_compat_http", "warning"));
    }
    Value::Array(listed)
}

/// One look at every program that does not answer yet.
pub async fn look(world: &Mutex<World>) {
    let mut open = Vec::new();
    {
        let world = world.lock().unwrap();
        for app in world.apps.values() {
            for machine in app.machines.iter().filter(|machine| machine.state == State::Started && !machine.is_passing) {
                let Some(process) = &machine.process else { continue };
                for check in machine.config.checks() {
                    open.push((app.name.clone(), machine.id.clone(), process.port(check.port), check.path));
                }
            }
        }
    }
    let mut looked: Vec<((String, String), bool)> = Vec::new();
    for (app, machine, port, path) in open {
        let passes = match port {
            Some(port) => matches!(tokio::time::timeout(PATIENCE, ask(port, path.as_deref())).await, Ok(Ok(true))),
            None => false,
        };
        looked.push(((app, machine), passes));
    }
    let mut world = world.lock().unwrap();
    for (place, _) in &looked {
        let all = looked.iter().filter(|(other, _)| other == place).all(|(_, passes)| *passes);
        if let Ok(machine) = world.app(&place.0).and_then(|app| app.machine(&place.1)) {
            machine.is_passing = all;
        }
    }
}

async fn ask(port: u16, path: Option<&str>) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let Some(path) = path else { return Ok(true) };
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: check\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 2"))
}
