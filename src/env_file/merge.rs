//! The new content of an env file: a block put in or taken out, and every other byte kept.
//!
//! An assignment of a variable that the block sets is turned off, not deleted, and turned on again when the block goes. The
//! content is decided by the arguments alone.

use std::collections::{BTreeMap, BTreeSet};

use super::block::{ADMIN_KEY, Block, BlockLayout, BlockLead, BlockOwner, ClientKind, LineOwner, URL, is_credential};
use super::notes::CLOUD_DEPLOYMENT;
use super::notes::{self, Note};
use super::parse::{Document, without_break};

/// The outcome of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The new content.
    pub bytes: Vec<u8>,
    /// What is different, in the order of the lines; empty exactly when the content stays the same.
    pub changes: Vec<EnvFileEdit>,
    /// What the merge could not put right.
    pub warnings: Vec<String>,
}

/// One difference. Lines count from 1, in the old content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvFileEdit {
    /// The file had no block of this project.
    BlockAdded,
    /// The block said something else, or was damaged.
    BlockRewritten,
    /// The block of another backend of the project made way.
    BlockTaken {
        /// `backend of project`.
        from: String,
    },
    /// A marker without its partner, or a second block, was taken out.
    MarkerRemoved {
        /// Its line.
        line: usize,
    },
    /// An assignment of a variable that the block sets, or that the client refuses beside it, was turned off.
    TurnedOff {
        /// The first line of it.
        line: usize,
        /// The variable.
        name: String,
    },
}

/// How often a merge is repeated until it changes nothing more.
const ROUNDS: usize = 8;

/// Puts a block into a file that may be there: in the place of the one that is in it, else at the end. One that is there and
/// empty is marked, so that it stays when the block goes.
pub(super) fn merge_into(content: Option<&[u8]>, block: &Block) -> Merged {
    match content {
        Some([]) => {
            let bytes = Merger::new(&Document::parse(b""), block, BlockLead::EmptyFile).run().bytes;
            Merged { bytes, changes: vec![EnvFileEdit::BlockAdded], warnings: Vec::new() }
        }
        content => merge(content.unwrap_or_default(), block),
    }
}

/// Puts a block into a file: in the place of the one that is there, else at the end.
///
/// Merging twice changes nothing more.
pub fn merge(existing: &[u8], block: &Block) -> Merged {
    let before = Document::parse(existing);
    let mut merged = Merger::new(&before, block, BlockLead::BlankLine).run();
    // Lone `\r` and `\n` that meet where a block was taken out are one break more or less for the next reader.
    for _ in 0..ROUNDS {
        let again = Merger::new(&Document::parse(&merged.bytes), block, BlockLead::BlankLine).run();
        if again.bytes == merged.bytes {
            break;
        }
        merged.bytes = again.bytes;
    }
    if merged.bytes == existing {
        merged.changes.clear();
    } else {
        if merged.changes.is_empty() {
            merged.changes.push(EnvFileEdit::BlockRewritten);
        }
        for name in changed_values(&before, &Document::parse(&merged.bytes)) {
            merged.warnings.push(format!("quotes that are never closed make `{name}` read differently afterwards; close them"));
        }
    }
    merged
}

/// Returns whether the block of a backend was put into a file that was there and empty.
pub(super) fn was_empty(existing: &[u8], owner: &BlockOwner) -> bool {
    let layout = BlockLayout::of(&Document::parse(existing), None);
    layout.blocks.iter().any(|found| found.owner == owner.label() && found.lead == BlockLead::EmptyFile)
}

/// Takes the block of one backend out of a file, with what was put before it, and turns on again what had made room for
/// it. A block of another backend stays, and so does what others changed inside of this one: with `written`, the URLs that
/// were written into it, every other one is kept, and the key beside it.
pub fn without_block(existing: &[u8], owner: &BlockOwner, written: Option<&[String]>) -> Vec<u8> {
    let document = Document::parse(existing);
    let layout = BlockLayout::of(&document, None);
    let label = owner.label();
    let is_own = |line: usize| match layout.roles.get(line) {
        Some(LineOwner::Block(number)) => layout.blocks.get(*number).is_some_and(|found| found.owner == label),
        _ => false,
    };
    if !(0..layout.roles.len()).any(is_own) {
        return existing.to_vec();
    }
    let kept = foreign_lines(&document, written, &is_own);
    let in_other_block = |line: usize| matches!(layout.roles.get(line), Some(LineOwner::Block(_))) && !is_own(line);
    let other_is_live = document.assignments().iter().any(|found| in_other_block(found.lines.start));
    let own_values: BTreeMap<&str, &str> = document
        .assignments()
        .iter()
        .filter(|found| is_own(found.lines.start) && !kept.contains(&found.lines.start))
        .map(|found| (found.name.as_str(), found.value.as_str()))
        .collect();
    let notes = notes::notes(&document);
    let is_copy = |note: &Note| own_values.get(note.name.as_str()) == Some(&note.value.as_str());
    let keys_differ = notes.iter().any(|note| note.name == ADMIN_KEY && !is_copy(note));
    let mut restored: BTreeMap<usize, Option<&Note>> = BTreeMap::new();
    for note in notes.iter().filter(|note| !other_is_live && !is_own(note.line)) {
        // A copy of what the block says was never anything else; of a pair, a copy has the same key.
        let copy = is_copy(note) && (!is_credential(&note.name) || !keys_differ);
        for line in note.line..=note.line + note.count {
            restored.insert(line, Some(note).filter(|_| !copy));
        }
    }
    let mut bytes = Vec::with_capacity(existing.len());
    let mut previous: &[u8] = b"";
    // Where the last line ended without a break, unless something follows it now, or it is gone.
    let mut open_end = None;
    let mut drops_last = false;
    for (index, line) in document.lines().enumerate() {
        let shown = match restored.get(&index) {
            Some(None) => {
                drops_last = true;
                continue;
            }
            Some(Some(note)) if note.line == index => continue,
            Some(Some(_)) => notes::on(line),
            None if is_own(index) && !kept.contains(&index) => {
                if let Some(found) = layout.blocks.iter().find(|found| found.begin == index) {
                    if found.lead != BlockLead::Nothing && without_break(previous).is_empty() {
                        bytes.truncate(bytes.len() - previous.len());
                        previous = b"";
                    }
                    open_end = (found.lead == BlockLead::OpenLine && !drops_last).then_some(bytes.len());
                }
                continue;
            }
            None => line,
        };
        bytes.extend_from_slice(shown);
        previous = line;
        drops_last &= without_break(line).is_empty();
    }
    if open_end == Some(bytes.len()) {
        bytes.truncate(without_break(&bytes).len());
    }
    bytes
}

/// The lines inside of a block that another program changed: a URL that was never written there, and the key beside it.
fn foreign_lines(document: &Document<'_>, written: Option<&[String]>, is_own: &dyn Fn(usize) -> bool) -> BTreeSet<usize> {
    let Some(written) = written.filter(|written| !written.is_empty()) else { return BTreeSet::new() };
    let own = || document.assignments().iter().filter(|found| is_own(found.lines.start));
    let is_written = |value: &str| written.iter().any(|url| url.trim_end_matches('/') == value.trim_end_matches('/'));
    let pair_is_foreign = own().any(|found| found.name == URL && !is_written(&found.value));
    own()
        .filter(|found| if is_credential(&found.name) { pair_is_foreign } else { !is_written(&found.value) })
        .flat_map(|found| found.lines.clone())
        .collect()
}

/// The variables of others that had a value and have another one now.
fn changed_values(before: &Document<'_>, after: &Document<'_>) -> Vec<String> {
    let after = foreign_values(after);
    let changed = |(name, value): &(&str, &str)| after.get(name) != Some(value);
    foreign_values(before).into_iter().filter(changed).map(|(name, _)| name.to_owned()).collect()
}

fn foreign_values<'a>(document: &'a Document<'_>) -> BTreeMap<&'a str, &'a str> {
    let foreign = |name: &str| !is_credential(name) && name != CLOUD_DEPLOYMENT && ClientKind::of(name).is_none();
    let assignments = document.assignments().iter().filter(|found| foreign(&found.name));
    assignments.map(|found| (found.name.as_str(), found.value.as_str())).collect()
}

/// What happens to a line.
enum LineAction {
    Keep,
    Drop,
    TurnOff { notice: Option<String> },
}

struct Merger<'a> {
    document: &'a Document<'a>,
    block: &'a Block,
    layout: BlockLayout,
    /// What is put before a new block; where one is in the file, what was put before that.
    lead: BlockLead,
    actions: Vec<LineAction>,
    /// The lines of the block, between its markers.
    lines: Vec<String>,
    changes: Vec<EnvFileEdit>,
    warnings: Vec<String>,
}

impl<'a> Merger<'a> {
    fn new(document: &'a Document<'a>, block: &'a Block, lead: BlockLead) -> Self {
        let layout = BlockLayout::of(document, Some(&block.owner.project));
        let lead = layout.blocks.first().map_or(lead, |found| found.lead);
        let keep = |role: &LineOwner| if *role == LineOwner::Unmanaged { LineAction::Keep } else { LineAction::Drop };
        let actions = layout.roles.iter().map(keep).collect();
        Self { document, block, layout, lead, actions, lines: block.pair(), changes: Vec::new(), warnings: Vec::new() }
    }

    fn run(mut self) -> Merged {
        self.note_markers();
        let pair = self.block.has_pair();
        self.turn_off(|name| pair && (is_credential(name) || name == CLOUD_DEPLOYMENT));
        self.client_variables();
        let bytes = self.build();
        Merged { bytes, changes: self.changes, warnings: self.warnings }
    }

    fn note_markers(&mut self) {
        let second = self.layout.blocks.iter().skip(1).map(|found| found.begin);
        let roles = self.layout.roles.iter().enumerate();
        let orphans = roles.filter(|(_, role)| **role == LineOwner::OrphanMarker).map(|(index, _)| index);
        self.changes.extend(second.chain(orphans).map(|index| EnvFileEdit::MarkerRemoved { line: index + 1 }));
    }

    fn is_unmanaged(&self, line: usize) -> bool {
        self.layout.roles.get(line) == Some(&LineOwner::Unmanaged)
    }

    fn turn_off(&mut self, is_set: impl Fn(&str) -> bool) {
        for found in self.document.assignments().iter().filter(|found| is_set(&found.name)) {
            let first = found.lines.start;
            if !self.is_unmanaged(first) {
                continue;
            }
            for line in found.lines.clone() {
                let notice = (line == first).then(|| notes::notice(&found.name, found.lines.len()));
                if let Some(action) = self.actions.get_mut(line) {
                    *action = LineAction::TurnOff { notice };
                }
            }
            self.changes.push(EnvFileEdit::TurnedOff { line: first + 1, name: found.name.clone() });
        }
    }

    /// Client variables follow the rules of the Convex client, so that the two never undo each other's edits: the one name
    /// that is in the file is used, and several are left alone.
    fn client_variables(&mut self) {
        let Some(client) = &self.block.client else { return };
        let off = notes::notes(self.document);
        for kind in ClientKind::ALL {
            let value = match kind {
                ClientKind::Url => &self.block.url,
                ClientKind::SiteUrl => &client.site_url,
            };
            let is_kind = |name: &&str| ClientKind::of(name) == Some(kind);
            let outside = self.document.assignments().iter().filter(|found| self.is_unmanaged(found.lines.start));
            let live: BTreeSet<&str> = outside.map(|found| found.name.as_str()).filter(is_kind).collect();
            if live.len() > 1 {
                let names: Vec<String> = live.iter().map(|name| format!("`{name}`")).collect();
                self.warnings.push(format!(
                    "{} are all set, so neither convexinfra nor the Convex client can tell which one to update; keep one",
                    names.join(" and ")
                ));
                continue;
            }
            let noted = off.iter().map(|note| note.name.as_str()).find(is_kind);
            let name = live.first().copied().or(noted).map_or_else(|| kind.name(&client.prefix), str::to_owned);
            self.lines.push(format!("{name}={value}"));
            self.turn_off(|other| other == name);
        }
    }

    /// The line break of the lines that stay, else of the file, else `\n`.
    fn line_break(&self) -> &'static str {
        let balance = |wanted: &dyn Fn(&LineAction) -> bool| {
            let mut found = false;
            let mut windows = 0_i64;
            for (line, action) in self.document.lines().zip(&self.actions) {
                if line.ends_with(b"\n") && wanted(action) {
                    found = true;
                    windows += if line.ends_with(b"\r\n") { 1 } else { -1 };
                }
            }
            found.then_some(windows > 0)
        };
        let kept = balance(&|action| !matches!(action, LineAction::Drop));
        if kept.or_else(|| balance(&|_| true)).unwrap_or(false) { "\r\n" } else { "\n" }
    }

    /// Returns the block itself.
    fn text(&self, line_break: &str, lead: BlockLead) -> Vec<u8> {
        let begin = self.block.owner.begin(lead);
        let lines = std::iter::once(begin.as_str()).chain(self.lines.iter().map(String::as_str)).chain([BlockOwner::end()]);
        lines.flat_map(|line| [line.as_bytes(), line_break.as_bytes()].concat()).collect()
    }

    fn build(&mut self) -> Vec<u8> {
        let line_break = self.line_break();
        let place = self.layout.blocks.first();
        let mut bytes = Vec::new();
        let text = self.text(line_break, self.lead);
        for (index, (line, action)) in self.document.lines().zip(&self.actions).enumerate() {
            if place.is_some_and(|found| found.begin == index) {
                bytes.extend_from_slice(&text);
            }
            match action {
                LineAction::Keep => bytes.extend_from_slice(line),
                LineAction::Drop => {}
                LineAction::TurnOff { notice } => {
                    if let Some(notice) = notice {
                        bytes.extend_from_slice(notice.as_bytes());
                        bytes.extend_from_slice(line_break.as_bytes());
                    }
                    bytes.extend_from_slice(&notes::off(line));
                }
            }
        }
        let Some(found) = place else {
            let lead = match bytes.last() {
                None => self.lead,
                Some(b'\n') => BlockLead::BlankLine,
                // A break after a lone `\r` would join it to one, which is no blank line but a changed one.
                Some(b'\r') => BlockLead::Nothing,
                Some(_) => BlockLead::OpenLine,
            };
            let breaks = match lead {
                BlockLead::BlankLine if bytes.is_empty() => 0,
                BlockLead::BlankLine => 1,
                BlockLead::OpenLine => 2,
                BlockLead::Nothing | BlockLead::EmptyFile => 0,
            };
            bytes.extend_from_slice(line_break.repeat(breaks).as_bytes());
            bytes.extend_from_slice(&self.text(line_break, lead));
            self.changes.push(EnvFileEdit::BlockAdded);
            return bytes;
        };
        let lines = self.document.lines().zip(&self.layout.roles);
        let old: Vec<u8> =
            lines.filter(|(_, role)| **role == LineOwner::Block(0)).flat_map(|(line, _)| line.to_vec()).collect();
        if found.owner != self.block.owner.label() {
            self.changes.push(EnvFileEdit::BlockTaken { from: found.owner.clone() });
        } else if old != text {
            self.changes.push(EnvFileEdit::BlockRewritten);
        }
        bytes
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
