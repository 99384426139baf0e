//! The manifest: from the text of `convex.toml` to what it wants, or to every mistake in it at once.
//!
//! The text becomes a TOML tree (`syntax`), the tree is checked against the one table of keys (`keys`, `read`), rules
//! compare keys with one another (`rules`), and what is left without a mistake is lowered into the model (`lower`).
//! The JSON schema is made of the same table of keys (`schema`); `edit` changes a manifest and keeps its comments.
//!
//! No IO and no clocks, which `tests/architecture` holds: text in, nouns and diagnostics out.

mod edit;
mod lower;
mod normalize;
mod positions;
mod read;
mod reference;
mod rules;
mod schema;
mod schema_kind;
mod schema_table;
mod secret_detection;
mod set_field;
mod suggest;
mod syntax;
mod tree;

use crate::policy::{formats, url};
use std::collections::{BTreeSet, HashSet};

use crate::model::{Desired, Diagnostic, ProjectName, Severity};

pub use edit::{EditError, FieldLiteral, add_backend, add_field, field_edit, remove_backend};
pub use positions::located;
pub use reference::reference;
pub use schema::schema;
pub use secret_detection::redacted;
pub use set_field::set_field;

/// A manifest without mistakes.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedManifest {
    /// What it wants. Origin and secrets are empty until the command fills them in.
    pub desired: Desired,
    /// What is worth a thought all the same, by position.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a manifest. `project` takes the place of the manifest's own project, which may then be left out.
///
/// # Errors
/// Every mistake, by position; never an empty list.
pub fn parse(text: &str, project: Option<&ProjectName>) -> Result<ParsedManifest, Vec<Diagnostic>> {
    let syntax::Syntax { tree, problems: mut found, reliable_until } = syntax::read(text);
    let broken = !found.is_empty();
    let lines = syntax::Lines::new(text);
    let unreadable: BTreeSet<usize> = found.iter().flat_map(|problem| lines.of(&problem.bytes())).collect();
    let mut problems = Vec::new();
    let root = read::read(text, &tree, &mut problems);
    let document = rules::ManifestView::new(text, &root, project);
    rules::check(&document, &mut problems);
    if broken {
        // What a mistake of syntax may have caused is not worth saying: it may be gone once that is repaired.
        problems.retain(|problem| {
            problem.bytes().start < reliable_until
                && !rules::reports_missing(&problem.code)
                && unreadable.range(lines.of(&problem.bytes())).next().is_none()
        });
    }
    found.append(&mut problems);
    let key = |problem: &Diagnostic| (problem.bytes().start, problem.bytes().end);
    found.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.code.cmp(&b.code)));
    let mut seen = HashSet::new();
    found.retain(|problem| seen.insert((problem.code.clone(), key(problem))));
    let (errors, warnings): (Vec<Diagnostic>, Vec<Diagnostic>) =
        found.into_iter().partition(|problem| problem.severity == Severity::Error);
    if !errors.is_empty() {
        return Err(errors);
    }
    match lower::lower(&document) {
        Some(desired) => {
            let large: Vec<Diagnostic> = rules::too_large(&document, &desired).collect();
            if large.is_empty() { Ok(ParsedManifest { desired, warnings }) } else { Err(large) }
        }
        None => Err(vec![
            Diagnostic::at(
                "manifest.bug",
                &(0..0),
                "this manifest passed every rule and still has no meaning: a bug in convexinfra",
            )
            .with_help("report it with this manifest"),
        ]),
    }
}

#[cfg(test)]
mod amplification_tests;
#[cfg(test)]
mod tests;
