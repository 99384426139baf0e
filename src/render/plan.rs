//! A plan for people: what will happen, why, and what refuses it. In proportion to what changes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use similar::{ChangeTag, TextDiff};

use super::plural::counted;
use super::sanitize::{sanitize_block, sanitize_line as harmless};
use super::snapshot::graded_data;
use super::style::Style;
use crate::model::{BackendName, ByteSize, Diagnostic, FinalSnapshot, VolumeReclaim};
use crate::plan::{Action, DataAtStake, FieldChange, NOT_OBSERVED, Plan, PlannedMove, Step, Task, WayBack};

/// What an upgrade with a way back does.
const UPGRADE: &str = "upgrade: it stops, a snapshot is taken, and the new release starts; if that one does not come up, the \
                       release and the data from before come back by themselves";

/// The whole plan.
pub fn plan(plan: &Plan, style: Style) -> String {
    let mut text = String::new();
    if plan.steps.is_empty() && plan.refusals.is_empty() {
        let unseen = plan.lints.iter().any(|lint| lint.code == NOT_OBSERVED);
        let found = if unseen {
            "was last applied as the manifest says, and not all of it could be looked at"
        } else {
            "is as the manifest says"
        };
        let _ = writeln!(text, "nothing to do: `{}` {found}", plan.project);
    } else {
        header(&mut text, plan, style);
    }
    body(&mut text, plan, style);
    text
}

/// A plan that is refused, without the refusals, which are listed as errors.
pub fn refused_plan(plan: &Plan, style: Style) -> String {
    let mut text = String::new();
    if !plan.steps.is_empty() {
        header(&mut text, plan, style);
    }
    body(&mut text, &Plan { refusals: Vec::new(), ..plan.clone() }, style);
    text
}

fn header(text: &mut String, plan: &Plan, style: Style) {
    let _ = writeln!(
        text,
        "{} {}",
        style.bold(&format!("plan for `{}`", plan.project)),
        style.dim(&format!("({}, revision {})", harmless(&plan.control_plane), plan.base))
    );
}

fn body(text: &mut String, plan: &Plan, style: Style) {
    let at_stake: BTreeMap<_, _> = plan.at_stake.iter().map(|stake| (&stake.backend, stake)).collect();
    for step in &plan.steps {
        let stake = at_stake.get(&step.address.backend).filter(|_| step.destroys_data);
        step_lines(text, step, style);
        if let Some(DataAtStake { size, last_snapshot, .. }) = stake {
            let _ = writeln!(text, "      {}", style.removed(&graded_data(size.as_ref(), *last_snapshot)));
        }
        if let Some(said) = stake.and_then(|stake| stake.final_snapshot).and_then(snapshot_words) {
            let _ = writeln!(text, "{}", style.wrap(&format!("      {said}"), 6));
        }
        let is_of = |backend: &BackendName| *backend == step.address.backend && step.action == Action::Update;
        if plan.upgrades.iter().any(|planned| is_of(&planned.backend) && planned.upgrade.way_back == WayBack::Snapshot) {
            let _ = writeln!(text, "{}", style.wrap(&format!("      {UPGRADE}"), 6));
        }
        let planned = plan.data_moves.iter().find(|planned| planned.backend == step.address.backend);
        if let Some(planned) = planned.filter(|_| step.action == Action::Move) {
            move_lines(text, planned, style);
        }
    }
    drift_lines(text, plan, style);
    notes(text, plan, style);
    if !plan.steps.is_empty() {
        if let Some(cost) = &plan.cost {
            let lines = super::cost::lines(cost);
            let _ = writeln!(text, "\n{}", lines.join("\n"));
        }
        let _ = write!(text, "\n{}\n", summary_line(plan));
    }
}

/// Says whether a last snapshot is taken of data that goes, or why none is.
fn snapshot_words(final_snapshot: FinalSnapshot) -> Option<&'static str> {
    match final_snapshot {
        FinalSnapshot::NoData => None,
        FinalSnapshot::Taken => Some("a last snapshot is taken first, and kept"),
        FinalSnapshot::Declined => Some("no last snapshot is taken, as was asked for"),
        FinalSnapshot::Expires => Some("no last snapshot is taken, as it has a `ttl`"),
        FinalSnapshot::Unsupported => Some("no last snapshot can be taken of it here"),
    }
}

/// A move of data: how much, in which phases, what is compared and what is kept.
fn move_lines(text: &mut String, planned: &PlannedMove, style: Style) {
    let PlannedMove { from, to, size, phases, verified, kept, .. } = planned;
    let size = match size {
        Some(size) => {
            let (database, files) =
                (ByteSize::from_bytes(size.database_bytes), counted(usize::try_from(size.files).unwrap_or(usize::MAX), "file"));
            format!("{database} of rows from {from} to {to}; {files} stay where they are")
        }
        None => {
            format!("the rows from {from} to {to}, of a size that is not known before they are read; files stay where they are")
        }
    };
    let name = &planned.backend;
    for (what, words) in [
        ("moves", size),
        ("phases", phases.join(", ")),
        ("stops", format!("`{name}` from the second phase to the last, for as long as the rows are copied and compared")),
        ("compares", verified.clone()),
        ("keeps", kept.clone()),
    ] {
        let _ = writeln!(text, "{}", style.wrap(&format!("      {what:8}  {}", harmless(&words)), 16));
    }
}

/// The counts of a plan in one line.
pub fn summary_line(plan: &Plan) -> String {
    let summary = &plan.summary;
    let parts: Vec<String> = [
        (summary.create, "to create"),
        (summary.update, "to update"),
        (summary.moves, "to move"),
        (summary.destroy, "to destroy"),
        (summary.write, "to write"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, words)| format!("{count} {words}"))
    .collect();
    if parts.is_empty() { "nothing to do".to_owned() } else { parts.join(", ") }
}

fn glyph(action: Action, style: Style) -> String {
    match action {
        Action::Create => style.added("+"),
        Action::Update => style.changed("~"),
        Action::Move => style.error("!"),
        Action::Destroy => style.removed("-"),
        Action::Write => style.changed(">"),
    }
}

/// The file that a step writes, which its address does not tell.
fn file(step: &Step) -> String {
    match &step.task {
        Some(Task::WriteEnvFile { target, .. } | Task::ClearEnvFile { target, .. }) => format!(" ({})", harmless(&target.path)),
        Some(Task::Put { .. } | Task::Remove { .. }) | None => String::new(),
    }
}

fn step_lines(text: &mut String, step: &Step, style: Style) {
    let data = match &step.task {
        _ if step.destroys_data => style.removed(", and its data is lost"),
        Some(Task::Remove { volume: VolumeReclaim::Retain, .. }) => ", and its data is kept".to_owned(),
        _ => String::new(),
    };
    let _ = writeln!(
        text,
        "\n  {} {}{}  {}{data}",
        glyph(step.action, style),
        style.bold(&step.address.to_string()),
        file(step),
        style.dim(&format!("{}: {}", step.action.as_str(), step.reason)),
    );
    if let Some(difference) = &step.difference {
        return difference_lines(text, difference, style);
    }
    let width = step.changes.iter().map(|change| change.path.as_str().len()).max().unwrap_or(0);
    for change in &step.changes {
        change_lines(text, step.action, change, width, style);
    }
}

/// A unified diff without the line numbers, which say nothing in a file of a few lines.
fn difference_lines(text: &mut String, difference: &str, style: Style) {
    for line in difference.lines().filter(|line| !line.starts_with("@@")).map(harmless) {
        let shown = match line.as_bytes().first() {
            Some(b'+') => style.added(&line),
            Some(b'-') => style.removed(&line),
            _ => line.into_owned(),
        };
        let _ = writeln!(text, "      {}", shown.trim_end());
    }
}

fn change_lines(text: &mut String, action: Action, change: &FieldChange, width: usize, style: Style) {
    let path = format!("{:width$}", harmless(change.path.as_str()));
    match (&change.before, &change.after) {
        (Some(before), Some(after)) if before.contains('\n') || after.contains('\n') => {
            let _ = writeln!(text, "      {path}");
            for line in TextDiff::from_lines(before, after).iter_all_changes() {
                let value = harmless(line.value().trim_end_matches('\n'));
                let shown = match line.tag() {
                    ChangeTag::Delete => style.removed(&format!("- {value}")),
                    ChangeTag::Insert => style.added(&format!("+ {value}")),
                    ChangeTag::Equal => format!("  {value}"),
                };
                let _ = writeln!(text, "        {shown}");
            }
        }
        (before, after) => {
            let value = match (before, after) {
                (None, Some(after)) if action == Action::Create => style.added(&harmless(after)),
                (before, after) => {
                    let shown = |value: &Option<String>| harmless(value.as_deref().unwrap_or("(none)")).into_owned();
                    format!("{} → {}", style.removed(&shown(before)), style.added(&shown(after)))
                }
            };
            let effect = match action {
                Action::Update | Action::Move => style.dim(&format!("  ({})", change.effect)),
                Action::Create | Action::Destroy | Action::Write => String::new(),
            };
            let _ = writeln!(text, "      {path}  {value}{effect}");
        }
    }
}

fn drift_lines(text: &mut String, plan: &Plan, style: Style) {
    if plan.drift.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}", style.warning("drift, changed outside of convexinfra:"));
    for drift in &plan.drift {
        let _ = writeln!(text, "  {}", super::drift::drift_line(&drift.address, &drift.path, &drift.recorded, &drift.observed));
    }
}

fn notes(text: &mut String, plan: &Plan, style: Style) {
    if !plan.refusals.is_empty() {
        let _ = writeln!(text, "\n{}", style.error(&format!("refused, {} in the way:", counted(plan.refusals.len(), "thing"))));
        for refusal in &plan.refusals {
            note(text, refusal, style);
        }
    }
    if !plan.lints.is_empty() {
        let _ = writeln!(text, "\n{}", style.warning("worth a look:"));
        for lint in &plan.lints {
            note(text, lint, style);
        }
    }
}

fn note(text: &mut String, finding: &Diagnostic, style: Style) {
    let address = finding.address.as_ref().map(|address| format!("{address}: ")).unwrap_or_default();
    let (message, code) = (sanitize_block(&finding.message, 4), style.dim(&format!("[{}]", harmless(&finding.code))));
    let _ = writeln!(text, "{}", style.wrap(&format!("  {address}{message} {code}"), 4));
    if let Some(help) = &finding.help {
        let _ = writeln!(text, "{}", style.wrap(&format!("    help: {}", sanitize_block(help, 4)), 6));
    }
}
