//! The new content of an env file: our block put in or taken out, and nobody else's bytes touched.
//!
//! Must not do: IO, or anything that is not decided by its arguments alone.

use std::collections::{BTreeMap, BTreeSet};

use super::block::{Block, BlockLayout, BlockOwner, CLOUD_DEPLOYMENT, ClientKind, LineOwner, is_credential};
use super::parse::{Document, without_break};

/// What a merge comes to.
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
    /// The file had no block of ours.
    BlockAdded,
    /// Our block said something else, or was damaged.
    BlockRewritten,
    /// The block of another backend made way for ours.
    BlockTaken {
        /// `backend of project`.
        from: String,
    },
    /// A second definition of one of our variables, or a marker without its partner, was taken out.
    LineRemoved {
        /// The first line of it.
        line: usize,
        /// The variable, or nothing for a marker.
        name: Option<String>,
    },
    /// `CONVEX_DEPLOYMENT` became a comment.
    CommentedOut {
        /// The first line of it.
        line: usize,
    },
    /// A client variable outside our block got its new value where it stands.
    ClientVariableEdited {
        /// The line.
        line: usize,
        /// The variable.
        name: String,
    },
}

/// How a definition that must go leaves its place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RemovalStyle {
    /// Without a trace.
    Whole,
    /// Leaving a comment, where the lines around it would be read differently without one.
    Comment,
}

const ROUNDS: usize = 8;
const NOTICE: &str = "# convexinfra: the next assignment is off, the client refuses it beside CONVEX_SELF_HOSTED_URL";
const MOVED: &str = "# convexinfra: a variable stood here that is in the block of convexinfra now";

/// Puts a block into a file: in the place of the one that is there, else at the end.
///
/// Merging twice changes nothing more.
pub fn merge(existing: &[u8], block: &Block) -> Merged {
    let before = Document::parse(existing);
    let mut merged = Merger { document: &before, block, removal: RemovalStyle::Whole }.run();
    if !is_stable(&before, &merged.bytes, block) {
        merged = Merger { document: &before, block, removal: RemovalStyle::Comment }.run();
        // Lone `\r` and `\n` that meet where a block was taken out are one break more or less for the next reader.
        for _ in 0..ROUNDS {
            let again = Merger { document: &Document::parse(&merged.bytes), block, removal: RemovalStyle::Comment }.run();
            if again.bytes == merged.bytes {
                break;
            }
            merged.bytes = again.bytes;
        }
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

/// Takes the block of one backend out of a file, with the blank line before it. A block of another backend stays.
pub fn without_block(existing: &[u8], owner: &BlockOwner) -> Vec<u8> {
    let document = Document::parse(existing);
    let layout = BlockLayout::of(&document);
    let label = owner.label();
    let mut bytes = Vec::with_capacity(existing.len());
    let mut previous: &[u8] = b"";
    for (index, (line, role)) in document.lines().zip(&layout.roles).enumerate() {
        let own = match role {
            LineOwner::Block(number) => layout.blocks.get(*number).filter(|found| found.owner == label),
            LineOwner::Unmanaged | LineOwner::OrphanMarker => None,
        };
        match own {
            None => {
                bytes.extend_from_slice(line);
                previous = line;
            }
            Some(found) => {
                if found.begin == index && without_break(previous).is_empty() {
                    bytes.truncate(bytes.len() - previous.len());
                    previous = b"";
                }
            }
        }
    }
    bytes
}

/// Whether a line is a comment that a merge left.
pub(super) fn is_note(line: &str) -> bool {
    let quotes_only = |rest: &str| rest.chars().all(|character| " '\"`.".contains(character));
    line == NOTICE || line.strip_prefix(MOVED).is_some_and(quotes_only)
}

/// Whether another merge would change nothing and everybody else's values are what they were.
fn is_stable(before: &Document<'_>, bytes: &[u8], block: &Block) -> bool {
    let after = Document::parse(bytes);
    let again = Merger { document: &after, block, removal: RemovalStyle::Whole }.run();
    again.bytes == bytes && changed_values(before, &after).is_empty()
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
    Become(String),
    BecomeComment { first: bool },
}

struct Merger<'a> {
    document: &'a Document<'a>,
    block: &'a Block,
    removal: RemovalStyle,
}

impl Merger<'_> {
    fn run(&self) -> Merged {
        let layout = BlockLayout::of(self.document);
        let mut fates: Vec<LineAction> = layout
            .roles
            .iter()
            .map(|role| if *role == LineOwner::Unmanaged { LineAction::Keep } else { LineAction::Drop })
            .collect();
        let mut changes = Vec::new();
        let mut warnings = Vec::new();
        let mut lines: Vec<String> = self.block.pair().into();
        self.note_strays(&layout, &mut changes);
        self.pair_and_deployment(&layout, &mut fates, &mut changes);
        self.client_variables(&layout, &mut fates, &mut lines, &mut changes, &mut warnings);
        let line_break = self.line_break(&fates);
        let (bytes, block_changes) = self.build(&layout, &fates, &lines, line_break);
        changes.extend(block_changes);
        Merged { bytes, changes, warnings }
    }

    fn note_strays(&self, layout: &BlockLayout, changes: &mut Vec<EnvFileEdit>) {
        let second = layout.blocks.iter().skip(1).map(|found| found.begin);
        let strays =
            layout.roles.iter().enumerate().filter(|(_, role)| **role == LineOwner::OrphanMarker).map(|(index, _)| index);
        changes.extend(second.chain(strays).map(|index| EnvFileEdit::LineRemoved { line: index + 1, name: None }));
    }

    fn is_foreign(layout: &BlockLayout, line: usize) -> bool {
        layout.roles.get(line) == Some(&LineOwner::Unmanaged)
    }

    /// Our names outside our block go; `CONVEX_DEPLOYMENT` becomes a comment.
    fn pair_and_deployment(&self, layout: &BlockLayout, fates: &mut [LineAction], changes: &mut Vec<EnvFileEdit>) {
        for found in self.document.assignments().iter().filter(|found| Self::is_foreign(layout, found.lines.start)) {
            let line = found.lines.start + 1;
            if is_credential(&found.name) {
                for index in found.lines.clone() {
                    self.take_out(index, fates);
                }
                changes.push(EnvFileEdit::LineRemoved { line, name: Some(found.name.clone()) });
            } else if found.name == CLOUD_DEPLOYMENT {
                for index in found.lines.clone() {
                    set(fates, index, LineAction::BecomeComment { first: index == found.lines.start });
                }
                changes.push(EnvFileEdit::CommentedOut { line });
            }
        }
    }

    fn take_out(&self, index: usize, fates: &mut [LineAction]) {
        let fate = match self.removal {
            RemovalStyle::Whole => LineAction::Drop,
            RemovalStyle::Comment => {
                // The quotes of the line stay, each followed by a dot, so that an open one above still ends nowhere.
                let quotes = self.document.line(index).iter().filter(|byte| matches!(byte, b'\'' | b'"' | b'`'));
                LineAction::Become(quotes.fold(MOVED.to_owned(), |text, quote| format!("{text} {}.", char::from(*quote))))
            }
        };
        set(fates, index, fate);
    }

    /// Client variables follow the rules of the Convex client, so that the two never undo each other's edits: the
    /// one name that is there is used, several are left alone, and one outside our block is edited where it stands.
    fn client_variables(
        &self,
        layout: &BlockLayout,
        fates: &mut [LineAction],
        lines: &mut Vec<String>,
        changes: &mut Vec<EnvFileEdit>,
        warnings: &mut Vec<String>,
    ) {
        let Some(client) = &self.block.client else { return };
        for kind in ClientKind::ALL {
            let value = match kind {
                ClientKind::Url => &self.block.url,
                ClientKind::SiteUrl => &client.site_url,
            };
            let outside: Vec<_> = self
                .document
                .assignments()
                .iter()
                .filter(|found| ClientKind::of(&found.name) == Some(kind) && Self::is_foreign(layout, found.lines.start))
                .collect();
            let names: BTreeSet<&str> = outside.iter().map(|found| found.name.as_str()).collect();
            let Some(((first, others), last)) = outside.split_first().zip(outside.last()) else {
                lines.push(format!("{}={value}", kind.name(&client.prefix)));
                continue;
            };
            if names.len() > 1 {
                let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                warnings.push(format!(
                    "{} are all set, so neither convexinfra nor the Convex client can tell which one to update; keep one",
                    names.join(" and ")
                ));
            } else if last.value != *value {
                for found in &outside {
                    for index in found.lines.clone() {
                        set(fates, index, LineAction::Drop);
                    }
                }
                set(fates, first.lines.start, LineAction::Become(format!("{}={value}", first.name)));
                changes.push(EnvFileEdit::ClientVariableEdited { line: first.lines.start + 1, name: first.name.clone() });
                changes.extend(
                    others
                        .iter()
                        .map(|found| EnvFileEdit::LineRemoved { line: found.lines.start + 1, name: Some(found.name.clone()) }),
                );
            }
        }
    }

    /// The line break of the lines that stay, else of the file, else `\n`.
    fn line_break(&self, fates: &[LineAction]) -> &'static str {
        let balance = |wanted: &dyn Fn(&LineAction) -> bool| {
            let mut found = false;
            let mut windows = 0_i64;
            for (line, fate) in self.document.lines().zip(fates) {
                if line.ends_with(b"\n") && wanted(fate) {
                    found = true;
                    windows += if line.ends_with(b"\r\n") { 1 } else { -1 };
                }
            }
            found.then_some(windows > 0)
        };
        let kept = balance(&|fate| !matches!(fate, LineAction::Drop));
        if kept.or_else(|| balance(&|_| true)).unwrap_or(false) { "\r\n" } else { "\n" }
    }

    fn build(
        &self,
        layout: &BlockLayout,
        fates: &[LineAction],
        lines: &[String],
        line_break: &str,
    ) -> (Vec<u8>, Option<EnvFileEdit>) {
        let mut text = vec![self.block.owner.begin()];
        text.extend_from_slice(lines);
        text.push(BlockOwner::end().to_owned());
        let text: Vec<u8> = text.iter().flat_map(|line| [line.as_bytes(), line_break.as_bytes()].concat()).collect();

        let place = layout.blocks.first();
        let mut bytes = Vec::new();
        for (index, (line, fate)) in self.document.lines().zip(fates).enumerate() {
            if place.is_some_and(|found| found.begin == index) {
                bytes.extend_from_slice(&text);
            }
            let content = without_break(line);
            match fate {
                LineAction::Keep => bytes.extend_from_slice(line),
                LineAction::Drop => {}
                LineAction::Become(new) => {
                    bytes.extend_from_slice(new.as_bytes());
                    bytes.extend_from_slice(line.get(content.len()..).unwrap_or_default());
                }
                LineAction::BecomeComment { first } => {
                    if *first {
                        bytes.extend_from_slice(NOTICE.as_bytes());
                        bytes.extend_from_slice(line_break.as_bytes());
                    }
                    bytes.extend_from_slice(b"# ");
                    bytes.extend_from_slice(line);
                }
            }
        }
        let Some(found) = place else {
            if !bytes.is_empty() {
                if !bytes.ends_with(b"\n") && !bytes.ends_with(b"\r") {
                    bytes.extend_from_slice(line_break.as_bytes());
                }
                // After a lone `\r` this would join it to one break, which is no blank line but a changed one.
                if !bytes.ends_with(b"\r") {
                    bytes.extend_from_slice(line_break.as_bytes());
                }
            }
            bytes.extend_from_slice(&text);
            return (bytes, Some(EnvFileEdit::BlockAdded));
        };
        let old: Vec<u8> = self
            .document
            .lines()
            .zip(&layout.roles)
            .filter(|(_, role)| **role == LineOwner::Block(0))
            .flat_map(|(line, _)| line.to_vec())
            .collect();
        let change = if found.owner != self.block.owner.label() {
            Some(EnvFileEdit::BlockTaken { from: found.owner.clone() })
        } else {
            (old != text).then_some(EnvFileEdit::BlockRewritten)
        };
        (bytes, change)
    }
}

fn set(fates: &mut [LineAction], index: usize, fate: LineAction) {
    if let Some(place) = fates.get_mut(index) {
        *place = fate;
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
