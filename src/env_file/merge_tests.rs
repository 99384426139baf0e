//! Merging, byte for byte, and against texts that nobody would write.

use proptest::prelude::*;

use super::super::block::{ADMIN_KEY, ClientVariables, URL};
use super::*;
use crate::model::{BackendName, ProjectName, Secret};

fn owner(backend: &str) -> BlockOwner {
    BlockOwner { project: ProjectName::parse("gremlin").unwrap(), backend: BackendName::parse(backend).unwrap() }
}

fn block() -> Block {
    Block::new(owner("dev"), "http://127.0.0.1:3210", Secret::new("gremlin-dev|01ab"), None).unwrap()
}

fn client_block(prefix: &str) -> Block {
    let client = ClientVariables { prefix: prefix.to_owned(), site_url: "http://127.0.0.1:3211".to_owned() };
    Block::new(owner("dev"), "http://127.0.0.1:3210/", Secret::new("gremlin-dev|01ab"), Some(client)).unwrap()
}

const OURS: &str = "\
# >>> convexinfra: backend dev of gremlin, rewritten by every apply >>>
CONVEX_SELF_HOSTED_URL=http://127.0.0.1:3210
CONVEX_SELF_HOSTED_ADMIN_KEY='gremlin-dev|01ab'
# <<< convexinfra <<<
";

fn merged(existing: &str) -> String {
    String::from_utf8(merge(existing.as_bytes(), &block()).bytes).unwrap()
}

#[test]
fn an_empty_file_gets_the_block_alone() {
    assert_eq!(merged(""), OURS);
    assert_eq!(merge(b"", &block()).changes, vec![EnvFileEdit::BlockAdded]);
}

#[test]
fn the_block_is_appended_after_a_blank_line() {
    assert_eq!(merged("A=1\n"), format!("A=1\n\n{OURS}"));
    assert_eq!(merged("A=1"), format!("A=1\n\n{OURS}"));
    assert_eq!(merged("A=1\r\nB=2\r\n"), format!("A=1\r\nB=2\r\n\r\n{}", OURS.replace('\n', "\r\n")));
}

#[test]
fn the_block_is_replaced_where_it_stands() {
    let old = OURS.replace("01ab", "ffff");
    let result = merge(format!("A=1\n{old}# after\nB=2").as_bytes(), &block());
    assert_eq!(String::from_utf8(result.bytes).unwrap(), format!("A=1\n{OURS}# after\nB=2"));
    assert_eq!(result.changes, vec![EnvFileEdit::BlockRewritten]);
    assert!(merge(OURS.as_bytes(), &block()).changes.is_empty());
}

#[test]
fn the_block_of_another_backend_makes_way() {
    let old = OURS.replace("backend dev", "backend staging");
    let result = merge(old.as_bytes(), &block());
    assert_eq!(result.bytes, OURS.as_bytes());
    assert_eq!(result.changes, vec![EnvFileEdit::BlockTaken { from: "staging of gremlin".to_owned() }]);
}

#[test]
fn duplicates_of_our_names_go_in_every_form() {
    let old =
        "A=1\nCONVEX_SELF_HOSTED_URL=x\n  export CONVEX_SELF_HOSTED_ADMIN_KEY=\"a\nb\" # c\nCONVEX_SELF_HOSTED_URL: y\nB=2\n";
    assert_eq!(merged(old), format!("A=1\nB=2\n\n{OURS}"));
    assert_eq!(merged("CONVEX_SELF_HOSTED_URL=x\n"), OURS);
    let changes = merge(old.as_bytes(), &block()).changes;
    assert!(changes.contains(&EnvFileEdit::LineRemoved { line: 3, name: Some(ADMIN_KEY.to_owned()) }));
    let below = format!("{OURS}CONVEX_SELF_HOSTED_URL=later\n");
    assert_eq!(merged(&below), OURS);
}

#[test]
fn longer_names_are_somebody_elses() {
    let old = "CONVEX_SELF_HOSTED_URL_OLD=x\nMY_CONVEX_DEPLOYMENT=y\nCONVEX_DEPLOYMENT_TOKEN=z\n# CONVEX_DEPLOYMENT=w\n";
    assert_eq!(merged(old), format!("{old}\n{OURS}"));
}

#[test]
fn the_cloud_deployment_becomes_a_comment() {
    let old = "# Deployment used by `npx convex dev`\nCONVEX_DEPLOYMENT=dev:happy-animal-1 # team: t\nA=1\n";
    let new = merged(old);
    assert!(new.contains(&format!("{NOTICE}\n# CONVEX_DEPLOYMENT=dev:happy-animal-1 # team: t\nA=1\n")), "{new}");
    assert_eq!(Document::parse(new.as_bytes()).value("CONVEX_DEPLOYMENT"), None);
    assert_eq!(merged(&new), new);
}

#[test]
fn broken_blocks_lose_no_foreign_line() {
    let [begin, url, key, end] = OURS.lines().collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!(merged(&format!("{begin}\n{url}\nA=1\nB=2\n")), format!("{OURS}A=1\nB=2\n"));
    assert_eq!(merged(&format!("{begin}\nA=1\n{url}\n{key}\n{end}\nB=2\n")), format!("{OURS}A=1\nB=2\n"));
    assert_eq!(merged(&format!("A=1\n{end}\nB=2\n")), format!("A=1\nB=2\n\n{OURS}"));
    assert_eq!(merged(&format!("{OURS}A=1\n{OURS}B=2\n")), format!("{OURS}A=1\nB=2\n"));
    assert_eq!(merged(&format!("{begin}\n{begin}\n{url}\nA=1\n{end}\n{end}\nB=2\n")), format!("{OURS}A=1\nB=2\n"));
    let quoted = format!("A=\"\n{begin}\n{url}\n{end}\n\"\n");
    assert_eq!(merged(&quoted), format!("{quoted}\n{OURS}"));
}

#[test]
fn bytes_that_are_not_text_survive() {
    let old = b"# caf\xe9\nA=\xff\xfe\r\n\x80";
    let new = merge(old, &block()).bytes;
    assert!(new.starts_with(old));
}

#[test]
fn client_variables_go_into_the_block() {
    let new = String::from_utf8(merge(b"A=1\n", &client_block("NEXT_PUBLIC_")).bytes).unwrap();
    assert!(
        new.contains(
            "'\nNEXT_PUBLIC_CONVEX_URL=http://127.0.0.1:3210\nNEXT_PUBLIC_CONVEX_SITE_URL=http://127.0.0.1:3211\n# <<<"
        )
    );
}

#[test]
fn a_client_variable_that_is_there_is_used() {
    let old = "VITE_CONVEX_URL=http://127.0.0.1:3210\n";
    let new = String::from_utf8(merge(old.as_bytes(), &client_block("")).bytes).unwrap();
    assert!(new.starts_with(old) && !new.contains("\nCONVEX_URL="), "{new}");

    let old = "A=1\nexport VITE_CONVEX_URL='https://old.convex.cloud' # c\nB=2\nVITE_CONVEX_URL=x\n";
    let result = merge(old.as_bytes(), &client_block(""));
    assert!(result.bytes.starts_with(b"A=1\nVITE_CONVEX_URL=http://127.0.0.1:3210\nB=2\n\n# >>>"), "{result:?}");
    assert!(result.changes.contains(&EnvFileEdit::ClientVariableEdited { line: 2, name: "VITE_CONVEX_URL".to_owned() }));
}

#[test]
fn several_client_names_are_left_alone() {
    let old = "CONVEX_SITE_URL=a\nNEXT_PUBLIC_CONVEX_SITE_URL=b\n";
    let result = merge(old.as_bytes(), &client_block("NEXT_PUBLIC_"));
    assert!(result.bytes.starts_with(old.as_bytes()));
    assert_eq!(result.warnings.len(), 1);
    assert!(!String::from_utf8(result.bytes).unwrap().contains("NEXT_PUBLIC_CONVEX_SITE_URL=http"));
}

#[test]
fn taking_out_restores_what_was_there() {
    for old in ["", "A=1\n", "A=1\n\n", "\r\n# x\r\n"] {
        assert_eq!(without_block(&merge(old.as_bytes(), &block()).bytes, &owner("dev")), old.as_bytes(), "{old:?}");
    }
    let other = format!("A=1\n\n{OURS}");
    assert_eq!(without_block(other.as_bytes(), &owner("staging")), other.as_bytes());
}

#[test]
fn values_that_would_be_read_differently_are_refused() {
    for key in ["", "a b", "a'b", "a\nb", "a\\b", "a#b", "é"] {
        assert!(Block::new(owner("dev"), "http://x", Secret::new(key), None).is_err(), "{key}");
    }
}

#[test]
fn hostile_sizes_stay_quick() {
    let many: String = (0..20_000).map(|number| format!("V{number}='\n")).collect();
    let pieces = [
        "CONVEX_SELF_HOSTED_URL=x\n",
        "CONVEX_SELF_HOSTED_URL\n",
        "VITE_CONVEX_URL=x\n",
        "# <<< convexinfra <<<\n",
        OURS,
        "\r",
        "=\n",
    ];
    for text in pieces.iter().map(|piece| piece.repeat(256 * 1024 / piece.len())).chain([many]) {
        let new = merge(text.as_bytes(), &client_block("")).bytes;
        without_block(&new, &owner("dev"));
        assert!(super::super::diff::redacted_diff(text.as_bytes(), &new, |_| None).len() > OURS.len());
    }
}

/// Pieces of lines that dotenv files are made of, and the worst that could stand between them.
fn piece() -> impl Strategy<Value = String> {
    let pieces = vec![
        "A",
        "B=2",
        "A=",
        "A:",
        " ",
        "\n",
        "\n",
        "\r\n",
        "\r",
        "=",
        "=y",
        "'",
        "\"",
        "`",
        "\\",
        "#",
        "# note",
        "export ",
        "\u{2028}",
        "é",
        "CONVEX_SELF_HOSTED_URL",
        "CONVEX_SELF_HOSTED_URL=x",
        "CONVEX_SELF_HOSTED_ADMIN_KEY='k",
        "CONVEX_SELF_HOSTED_ADMIN_KEY=\"k\"",
        "CONVEX_DEPLOYMENT=dev:x",
        "CONVEX_DEPLOYMENT",
        "VITE_CONVEX_URL=z",
        "CONVEX_SITE_URL='s'",
        "# <<< convexinfra <<<",
        "# >>> convexinfra: backend dev of gremlin, rewritten by every apply >>>",
        OURS,
    ];
    proptest::sample::select(pieces).prop_map(str::to_owned)
}

/// Lines as people write them.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Z]{1,6}=[a-z0-9 ]{0,8}",
        "(export )?[A-Z]{1,6}='[a-z \"#|]{0,8}'( # [a-z]{3})?",
        "[A-Z]{1,6}=\"[a-z'\n]{0,8}\"",
        "# [a-z ]{0,12}",
        Just(String::new()),
        "(export )?CONVEX_SELF_HOSTED_(URL|ADMIN_KEY)=[a-z]{0,4}",
        "CONVEX_DEPLOYMENT=dev:[a-z]{3}",
        Just(OURS.trim_end().to_owned()),
    ]
}

fn ours(name: &str) -> bool {
    is_credential(name) || name == CLOUD_DEPLOYMENT || ClientKind::of(name).is_some()
}

fn check(existing: &str, block: &Block) -> Result<(), TestCaseError> {
    let once = merge(existing.as_bytes(), block);
    let document = Document::parse(&once.bytes);
    prop_assert_eq!(document.value(URL), Some(block.url.as_str()));
    prop_assert_eq!(document.value(ADMIN_KEY), Some(block.admin_key.expose()));
    prop_assert_eq!(document.value(CLOUD_DEPLOYMENT), None);
    let twice = merge(&once.bytes, block);
    prop_assert_eq!(String::from_utf8_lossy(&twice.bytes), String::from_utf8_lossy(&once.bytes));
    prop_assert!(twice.changes.is_empty());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn merging_anything_twice_changes_nothing(pieces in proptest::collection::vec(piece(), 0..14)) {
        check(&pieces.concat(), &block())?;
        check(&pieces.concat(), &client_block("VITE_"))?;
    }

    #[test]
    fn foreign_lines_and_values_survive(lines in proptest::collection::vec(line(), 0..12), windows in any::<bool>(), last in any::<bool>()) {
        let line_break = if windows { "\r\n" } else { "\n" };
        let mut existing = lines.join(line_break);
        if last { existing.push_str(line_break); }
        check(&existing, &block())?;
        let before = Document::parse(existing.as_bytes());
        let bytes = merge(existing.as_bytes(), &block()).bytes;
        let after = Document::parse(&bytes);
        let foreign = |document: &Document<'_>| -> Vec<(String, String)> {
            document.assignments().iter().filter(|found| !ours(&found.name)).map(|found| (found.name.clone(), found.value.clone())).collect()
        };
        prop_assert_eq!(foreign(&before), foreign(&after));
        let comments = |document: &Document<'_>| -> Vec<Vec<u8>> {
            document.lines().filter(|line| line.starts_with(b"# ")).map(|line| without_break(line).to_vec())
                .filter(|line| !line.windows(6).any(|part| part == b"CONVEX" || part == b"convex")).collect()
        };
        prop_assert_eq!(comments(&before), comments(&after));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let new = merge(&bytes, &client_block(""));
        without_block(&new.bytes, &owner("dev"));
    }
}
