//! The crash matrix over SSH: the command killed at points of the provider, and `ssh` killed under it.

use std::process::Command;

use fixture::crash::{CrashPoint, crash_matrix};

use crate::lab::{Lab, Laptop};
use crate::lab_or_skip;

const DESTROY: [&str; 4] = ["destroy", "--yes", "--allow-destroy", "dev"];

fn points(mut laptop: Laptop, words: &[&str]) -> Vec<CrashPoint> {
    let all = laptop.world.crash_points(words);
    all.into_iter().filter(|point| point.name.starts_with("provider.docker.") && point.pass == 1).collect()
}

fn applied(lab: &'static Lab) -> Laptop {
    let laptop = Laptop::new(lab);
    laptop.world.apply();
    laptop
}

#[test]
fn a_command_killed_anywhere_is_healed_by_the_next() {
    let lab = lab_or_skip!();
    let first = points(Laptop::new(lab), &["apply", "--yes"]);
    let last = points(applied(lab), &DESTROY);
    assert!(first.len() >= 3 && !last.is_empty(), "{first:?} {last:?}");
    crash_matrix("a first apply over SSH", &first, 2, |point| {
        let mut laptop = Laptop::new(lab);
        let killed = laptop.world.run_killed_at(point, &["apply", "--yes"]);
        assert_eq!(killed.signal(), Some(9), "{point}: {killed}");
        laptop.assert_disconnected();
        laptop.world.apply();
        laptop.world.assert_converged();
        true
    });
    crash_matrix("a destroy over SSH", &last, 2, |point| {
        let mut laptop = applied(lab);
        let killed = laptop.world.run_killed_at(point, &DESTROY);
        assert_eq!(killed.signal(), Some(9), "{point}: {killed}");
        laptop.assert_disconnected();
        laptop.world.run_expecting(0, &DESTROY);
        assert_eq!(laptop.everything(), Vec::<String>::new(), "{point}");
        true
    });
}

#[test]
fn a_connection_killed_under_a_command_is_made_again_or_told() {
    let lab = lab_or_skip!();
    let laptop = Laptop::new(lab);
    let mut running = laptop.world.spawn(&["apply", "--yes"]);
    fixture::wait_until("something is made", || !laptop.everything().is_empty());
    for process in laptop.connections().iter().filter(|name| name.parse::<u32>().is_ok()) {
        let _ = Command::new("kill").args(["-KILL", process]).status();
    }
    let _ = &mut running;
    let run = running.end();
    assert!(run.signal().is_none(), "{run}");
    laptop.world.apply();
    laptop.world.assert_converged();
    laptop.world.run_expecting(0, &DESTROY);
    assert_eq!(laptop.everything(), Vec::<String>::new());
}
