//! Finds the process that listens on a port of this machine, for the message about a taken port.

#[cfg(target_os = "linux")]
use std::path::Path;

#[cfg(target_os = "linux")]
use crate::system::read_regular_text;

/// How large a table of sockets may be in bytes.
#[cfg(target_os = "linux")]
const MAX_TABLE_BYTES: u64 = 16 << 20;

/// Returns the process that listens on a TCP port, such as `` `node` (process 4711) ``; none where the system does not tell.
#[cfg(target_os = "linux")]
pub(super) fn port_holder(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| read_regular_text(Path::new(table), MAX_TABLE_BYTES).ok());
    let sockets: Vec<String> = tables.flat_map(|table| listening_sockets(&table, port)).collect();
    let processes = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pid: u32 = processes.into_iter().find(|pid: &u32| {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets.any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
    })?;
    Some(described(pid, &read_regular_text(Path::new(&format!("/proc/{pid}/comm")), 4096).unwrap_or_default()))
}

/// Returns the process that listens on a TCP port, such as `` `node` (process 4711) ``; none where the system does not tell.
#[cfg(not(target_os = "linux"))]
pub(super) fn port_holder(port: u16) -> Option<String> {
    let output = crate::system::command("lsof")
        .args(["-nP", &format!("-iTCP:{port}"), "-sTCP:LISTEN", "-Fpc"])
        .stderr(std::process::Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let field = |letter: char| text.lines().find_map(|line| line.strip_prefix(letter));
    Some(described(field('p')?.parse().ok()?, field('c').unwrap_or_default()))
}

/// Returns the sockets of a table of the kernel that listen on a port, as links below `/proc/PID/fd` name them.
#[cfg(target_os = "linux")]
fn listening_sockets(table: &str, port: u16) -> Vec<String> {
    const LISTENING: &str = "0A";
    let suffix = format!(":{port:04X}");
    let rows = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let listening =
        rows.filter(|row| row.get(1).is_some_and(|local| local.ends_with(&suffix)) && row.get(3) == Some(&LISTENING));
    listening.filter_map(|row| Some(format!("socket:[{}]", row.get(9)?))).collect()
}

/// Describes a process by its command's name only: arguments may contain secrets of others.
fn described(pid: u32, command: &str) -> String {
    let command: String = command.trim().chars().filter(|c| !c.is_control() && *c != '`').collect();
    format!("`{command}` (process {pid})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_this_process() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine without IPv6 has nothing to try in the second round.
            let Ok(listener) = std::net::TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            let holder = port_holder(port).unwrap();
            assert!(holder.ends_with(&format!("(process {})", std::process::id())), "{holder}");
            drop(listener);
            assert_eq!(port_holder(port), None);
        }
    }
}
