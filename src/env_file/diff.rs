//! The difference between two contents of an env file, fit to be shown: no key and no foreign value is in it.

use std::time::Duration;

use similar::TextDiff;

use super::block::{ADMIN_KEY, Block, BlockLayout, ClientKind, ClientVariables, ExpectedBlock, LineOwner, URL, is_credential};
use super::merge::merge;
use super::notes::CLOUD_DEPLOYMENT;
use super::notes::is_note;
use super::parse::{Document, without_break};
use crate::model::{Fingerprint, Secret};

/// A unified diff without headers, where values are replaced: the admin key by its fingerprint (or by `<secret>`
/// where there is no key to make one with), every other value that is not ours by `…`. Empty when nothing differs.
pub fn redacted_diff(before: &[u8], after: &[u8], fingerprint: impl Fn(&str) -> Option<Fingerprint>) -> String {
    let old_key = Document::parse(before).value(ADMIN_KEY).map(str::to_owned);
    let shown = |key: &str, new: bool| match fingerprint(key) {
        Some(fingerprint) => format!("<secret {fingerprint}>"),
        None if key == PENDING => PENDING.to_owned(),
        None if new && old_key.as_deref().is_some_and(|old| old != key) => "<another secret>".to_owned(),
        None => "<secret>".to_owned(),
    };
    let old = redact(before, |key| shown(key, false));
    let new = redact(after, |key| shown(key, true));
    if old == new {
        return String::new();
    }
    // A file made to be slow gets a coarse difference.
    let diff = TextDiff::configure().timeout(Duration::from_secs(1)).diff_lines(&old, &new);
    diff.unified_diff().context_radius(1).missing_newline_hint(false).to_string()
}

/// What applying would change in a file, as [`redacted_diff`] shows it. Values that are not known yet stand there as such.
pub fn preview(existing: &[u8], expected: &ExpectedBlock, fingerprint: impl Fn(&str) -> Option<Fingerprint>) -> String {
    let document = Document::parse(existing);
    let there = document.value(ADMIN_KEY).filter(|key| expected.admin_key.is_some() && fingerprint(key) == expected.admin_key);
    let pending = || PENDING.to_owned();
    let block = Block {
        owner: expected.owner.clone(),
        url: expected.url.as_deref().map_or_else(pending, |url| url.strip_suffix('/').unwrap_or(url).to_owned()),
        admin_key: expected.has_pair.then(|| Secret::new(there.unwrap_or(PENDING))),
        client: expected.client.as_ref().map(|client| ClientVariables {
            prefix: client.prefix.clone(),
            site_url: client.site_url.as_deref().map_or_else(pending, |url| url.strip_suffix('/').unwrap_or(url).to_owned()),
        }),
    };
    let after = merge(existing, &block).bytes;
    redacted_diff(existing, &after, |key| if key == PENDING { expected.admin_key.clone() } else { fingerprint(key) })
}

/// What stands for a value that only applying makes known.
const PENDING: &str = "<known after apply>";

fn redact(bytes: &[u8], key: impl Fn(&str) -> String) -> String {
    let document = Document::parse(bytes);
    let layout = BlockLayout::of(&document, None);
    let mut lines: Vec<String> = document
        .lines()
        .zip(&layout.roles)
        .map(|(line, role)| {
            let text = String::from_utf8_lossy(without_break(line));
            let is_ours = *role != LineOwner::Unmanaged && !is_turned_off(&text);
            let shown = text.trim().is_empty() || is_ours || is_note(&text);
            if shown { text.trim().to_owned() } else { comment(&text) }
        })
        .collect();
    for found in document.assignments() {
        for index in found.lines.clone() {
            let text = if index > found.lines.start {
                "…".to_owned()
            } else if found.name == ADMIN_KEY {
                format!("{ADMIN_KEY}='{}'", key(&found.value))
            } else if (found.name == URL || ClientKind::of(&found.name).is_some()) && is_bare_url(&found.value) {
                format!("{}={}", found.name, found.value)
            } else {
                format!("{}=…", found.name)
            };
            if let Some(place) = lines.get_mut(index) {
                *place = text;
            }
        }
    }
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// Whether a comment holds an assignment: in another backend's block, the key that a merge turns off.
fn is_turned_off(text: &str) -> bool {
    let inside = text.trim_start().strip_prefix('#');
    inside.is_some_and(|inside| !Document::parse(inside.as_bytes()).assignments().is_empty())
}

/// A comment keeps its sign, and of a variable that was turned off the name and a URL without credentials.
fn comment(text: &str) -> String {
    let Some(inside) = text.trim_start().strip_prefix('#') else { return "…".to_owned() };
    let document = Document::parse(inside.as_bytes());
    let off = |name: &str| name == CLOUD_DEPLOYMENT || is_credential(name) || ClientKind::of(name).is_some();
    match document.assignments() {
        [found] if off(&found.name) && found.name != ADMIN_KEY && is_bare_url(&found.value) => {
            format!("# {}={}", found.name, found.value)
        }
        [found] if off(&found.name) => format!("# {}=…", found.name),
        _ => "# …".to_owned(),
    }
}

/// A URL that holds no credentials.
pub(super) fn is_bare_url(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/[]".contains(&byte);
    value == PENDING || (["http://", "https://"].iter().any(|scheme| value.starts_with(scheme)) && value.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::block::BlockOwner;
    use super::*;
    use crate::model::{BackendName, FingerprintKey, ProjectName};

    fn block(key: &str) -> Block {
        let owner = BlockOwner { project: ProjectName::parse("gremlin").unwrap(), backend: BackendName::parse("dev").unwrap() };
        Block::new(owner, "http://127.0.0.1:3210", Some(Secret::new(key)), None).unwrap()
    }

    #[test]
    fn shows_what_changes_and_hides_values() {
        let before = b"# token hunter1\nOPENAI_API_KEY=hunter2\nCONVEX_DEPLOYMENT=dev:x # hunter3\njunk hunter4\n";
        let after = merge(before, &block("gremlin-dev|hunter5")).bytes;
        let text = redacted_diff(before, &after, |_| None);
        insta::assert_snapshot!(text, @r"
        @@ -2,3 +2,9 @@
         OPENAI_API_KEY=…
        -CONVEX_DEPLOYMENT=…
        +# convexinfra: the next assignment is off, the client refuses it beside CONVEX_SELF_HOSTED_URL
        +# CONVEX_DEPLOYMENT=…
         …
        +
        +# >>> convexinfra: backend dev of gremlin, rewritten by every apply >>>
        +CONVEX_SELF_HOSTED_URL=http://127.0.0.1:3210
        +CONVEX_SELF_HOSTED_ADMIN_KEY='<secret>'
        +# <<< convexinfra <<<
        ");
        assert!(!text.contains("hunter"), "{text}");
    }

    #[test]
    fn a_key_that_is_turned_off_in_another_backends_block_is_hidden() {
        let owner =
            |name: &str| BlockOwner { project: ProjectName::parse(name).unwrap(), backend: BackendName::parse("dev").unwrap() };
        let of = |name: &str| Block::new(owner(name), "http://127.0.0.1:3210", Some(Secret::new("dev|hunter2")), None).unwrap();
        let before = merge(b"", &of("shop")).bytes;
        let after = merge(&before, &of("other")).bytes;
        let again = merge(&after, &of("shop")).bytes;
        for (from, to) in [(&before, &after), (&after, &again), (&after, &before)] {
            let text = redacted_diff(from, to, |_| None);
            assert!(!text.is_empty() && !text.contains("hunter2"), "{text}");
            assert!(text.contains("# CONVEX_SELF_HOSTED_ADMIN_KEY=…"), "{text}");
        }
    }

    #[test]
    fn another_key_is_seen_with_and_without_fingerprints() {
        let before = merge(b"", &block("gremlin-dev|one")).bytes;
        let after = merge(&before, &block("gremlin-dev|two")).bytes;
        let text = redacted_diff(&before, &after, |_| None);
        assert!(
            text.contains("-CONVEX_SELF_HOSTED_ADMIN_KEY='<secret>'\n+CONVEX_SELF_HOSTED_ADMIN_KEY='<another secret>'"),
            "{text}"
        );
        let key = FingerprintKey::new([1; 32]);
        let text = redacted_diff(&before, &after, |value| Some(key.fingerprint(value)));
        assert!(text.contains("+CONVEX_SELF_HOSTED_ADMIN_KEY='<secret hmac:"), "{text}");
        assert_eq!(redacted_diff(&before, &before, |_| None), "");
    }

    proptest! {
        #[test]
        fn no_foreign_value_is_shown(lines in proptest::collection::vec("[ A-Z'\"`=:#\\\\]{0,8}", 0..10)) {
            let before: String = lines.iter().map(|line| format!("{line}hunter2\n")).collect();
            let after = merge(before.as_bytes(), &block("gremlin-dev|hunter2")).bytes;
            prop_assert!(!redacted_diff(before.as_bytes(), &after, |_| None).contains("=hunter2"));
        }
    }
}
