//! Merging, byte for byte, and against texts that nobody would write.

use proptest::prelude::*;

use super::super::block::{ADMIN_KEY, ClientVariables, URL};
use super::*;
use crate::model::{BackendName, ProjectName, Secret};

fn owner(backend: &str) -> BlockOwner {
    BlockOwner { project: ProjectName::parse("gremlin").unwrap(), backend: BackendName::parse(backend).unwrap() }
}

fn block() -> Block {
    Block::new(owner("dev"), "http://127.0.0.1:3210", Some(Secret::new("gremlin-dev|01ab")), None).unwrap()
}

fn client_block(prefix: &str) -> Block {
    let client = ClientVariables { prefix: prefix.to_owned(), site_url: "http://127.0.0.1:3211".to_owned() };
    Block::new(owner("dev"), "http://127.0.0.1:3210/", Some(Secret::new("gremlin-dev|01ab")), Some(client)).unwrap()
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
    let open = OURS.replace("apply >>>", "apply, after a line without a break >>>");
    assert_eq!(merged("A=1"), format!("A=1\n\n{open}"));
    assert_eq!(merged("A=1\r\nB=2\r\n"), format!("A=1\r\nB=2\r\n\r\n{}", OURS.replace('\n', "\r\n")));
}

#[test]
fn the_block_is_replaced_in_place() {
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
fn other_definitions_of_our_names_are_turned_off_in_every_form() {
    let old =
        "A=1\nCONVEX_SELF_HOSTED_URL=x\n  export CONVEX_SELF_HOSTED_ADMIN_KEY=\"a\nb\" # c\nCONVEX_SELF_HOSTED_URL: y\nB=2\n";
    let one = "# convexinfra: the next assignment is off, the block of convexinfra sets this variable\n";
    let two = "# convexinfra: the next 2 lines are off, the block of convexinfra sets this variable\n";
    let off = format!(
        "A=1\n{one}# CONVEX_SELF_HOSTED_URL=x\n{two}#   export CONVEX_SELF_HOSTED_ADMIN_KEY=\"a\n# b\" # c\n{one}# CONVEX_SELF_HOSTED_URL: y\nB=2\n"
    );
    assert_eq!(merged(old), format!("{off}\n{OURS}"));
    let changes = merge(old.as_bytes(), &block()).changes;
    assert!(changes.contains(&EnvFileEdit::TurnedOff { line: 3, name: ADMIN_KEY.to_owned() }));
    let below = format!("{OURS}CONVEX_SELF_HOSTED_URL=later\n");
    assert_eq!(merged(&below), format!("{OURS}{one}# CONVEX_SELF_HOSTED_URL=later\n"));
}

#[test]
fn variables_with_a_longer_name_are_not_ours() {
    let old = "CONVEX_SELF_HOSTED_URL_OLD=x\nMY_CONVEX_DEPLOYMENT=y\nCONVEX_DEPLOYMENT_TOKEN=z\n# CONVEX_DEPLOYMENT=w\n";
    assert_eq!(merged(old), format!("{old}\n{OURS}"));
}

#[test]
fn the_cloud_deployment_becomes_a_comment() {
    let old = "# Deployment used by `npx convex dev`\nCONVEX_DEPLOYMENT=dev:happy-animal-1 # team: t\nA=1\n";
    let new = merged(old);
    assert!(new.contains("# convexinfra: the next assignment is off, the client refuses it beside CONVEX_SELF_HOSTED_URL\n# CONVEX_DEPLOYMENT=dev:happy-animal-1 # team: t\nA=1\n"), "{new}");
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
fn the_name_of_a_client_variable_that_is_there_is_used() {
    let old = "A=1\nexport VITE_CONVEX_URL='https://old.convex.cloud' # c\nB=2\nVITE_CONVEX_URL=x\n";
    let new = merge(old.as_bytes(), &client_block("")).bytes;
    let text = String::from_utf8(new.clone()).unwrap();
    assert!(text.contains("\n# export VITE_CONVEX_URL='https://old.convex.cloud' # c\nB=2\n"), "{text}");
    assert!(text.contains("\nVITE_CONVEX_URL=http://127.0.0.1:3210\nCONVEX_SITE_URL=http://127.0.0.1:3211\n# <<<"), "{text}");
    assert_eq!(merge(&new, &client_block("")).bytes, new);
    assert_eq!(String::from_utf8(without_block(&new, &owner("dev"), None)).unwrap(), old);
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
fn removing_the_block_restores_the_file() {
    for old in [
        "",
        "A=1\n",
        "A=1\n\n",
        "\r\n# x\r\n",
        "CONVEX_DEPLOYMENT=dev:happy-otter-123 # team: acme, project: x\nVITE_CONVEX_URL=https://happy-otter-123.convex.cloud\n",
        "CONVEX_SELF_HOSTED_URL=https://prod.example.com\r\nCONVEX_SELF_HOSTED_ADMIN_KEY='prod|77'\r\nB=2\r\n",
        "CONVEX_SELF_HOSTED_ADMIN_KEY=\"a\nb\nc\" # d\n",
        "A=1",
        "A=1\r\nB=2",
        "A=1\r",
        "\n\r",
        "A=1\u{2028}",
        "CONVEX_DEPLOYMENT=dev:x",
        "export VITE_CONVEX_URL='a'\nCONVEX_DEPLOYMENT=dev:x # t",
        "A=1\nCONVEX_SELF_HOSTED_ADMIN_KEY=\"a\r\nb\"",
        " ",
        "# convexinfra: the next assignment is off, for fun\n# A=1\n",
    ] {
        for block in [block(), client_block("VITE_")] {
            let new = merge(old.as_bytes(), &block).bytes;
            assert_eq!(String::from_utf8_lossy(&without_block(&new, &owner("dev"), None)), old);
        }
    }
    let other = format!("A=1\n\n{OURS}");
    assert_eq!(without_block(other.as_bytes(), &owner("staging"), None), other.as_bytes());
}

#[test]
fn the_break_of_a_last_line_stays_where_something_follows_it_now() {
    let new = merged("A=1");
    for rewritten in [new.clone(), String::from_utf8(merge(new.as_bytes(), &client_block("VITE_")).bytes).unwrap()] {
        assert_eq!(without_block(rewritten.as_bytes(), &owner("dev"), None), b"A=1");
        let followed = format!("{rewritten}B=2");
        assert_eq!(without_block(followed.as_bytes(), &owner("dev"), None), b"A=1\nB=2");
    }
    let taken = new.replace("http://127.0.0.1:3210", "https://other.example.com");
    let left = without_block(taken.as_bytes(), &owner("dev"), Some(&["http://127.0.0.1:3210".to_owned()]));
    assert!(left.starts_with(b"A=1\nCONVEX_SELF_HOSTED_URL=https://other"), "{}", String::from_utf8_lossy(&left));
    // A copy of what the block says goes, and the line before it keeps its break.
    let copy = merge(b"A=1\nVITE_CONVEX_URL=http://127.0.0.1:3210", &client_block("VITE_")).bytes;
    assert_eq!(String::from_utf8(without_block(&copy, &owner("dev"), None)).unwrap(), "A=1\n");
}

#[test]
fn a_file_that_was_empty_is_told_from_one_that_was_not_there() {
    let [new, old] = [None, Some(&b""[..])].map(|content| merge_into(content, &block()).bytes);
    assert_eq!(new, OURS.as_bytes());
    assert!(was_empty(&old, &owner("dev")) && !was_empty(&new, &owner("dev")));
    assert!(was_empty(&merge(&old, &client_block("")).bytes, &owner("dev")));
    assert_eq!(without_block(&old, &owner("dev"), None), b"");
}

#[test]
fn foreign_lines_inside_the_block_are_kept() {
    let new = String::from_utf8(merge(b"A=1\n", &client_block("VITE_")).bytes).unwrap();
    let written = ["http://127.0.0.1:3210".to_owned(), "http://127.0.0.1:3211".to_owned()];
    let take_out = |text: &str| String::from_utf8(without_block(text.as_bytes(), &owner("dev"), Some(&written))).unwrap();
    assert_eq!(take_out(&new), "A=1\n");
    let edited = new.replace("VITE_CONVEX_URL=http://127.0.0.1:3210", "VITE_CONVEX_URL=https://prod.convex.cloud");
    assert_eq!(take_out(&edited), "A=1\nVITE_CONVEX_URL=https://prod.convex.cloud\n");
    let edited = new.replace("HOSTED_URL=http://127.0.0.1:3210", "HOSTED_URL=https://other.example.com");
    let pair = "CONVEX_SELF_HOSTED_URL=https://other.example.com\nCONVEX_SELF_HOSTED_ADMIN_KEY='gremlin-dev|01ab'\n";
    assert_eq!(take_out(&edited), format!("A=1\n{pair}"));
}

#[test]
fn the_block_of_another_project_is_turned_off_and_given_back() {
    let theirs = OURS.replace("of gremlin", "of other").replace("gremlin-dev|01ab", "other-dev|99");
    let new = merged(&theirs);
    assert_eq!(Document::parse(new.as_bytes()).value(ADMIN_KEY), Some("gremlin-dev|01ab"));
    assert_eq!(merged(&new), new);
    assert_eq!(String::from_utf8_lossy(&without_block(new.as_bytes(), &owner("dev"), None)), theirs);
    // And they put theirs in again, beside ours.
    let other = BlockOwner { project: ProjectName::parse("other").unwrap(), backend: BackendName::parse("dev").unwrap() };
    let their_block = Block::new(other.clone(), "http://127.0.0.1:3210", Some(Secret::new("other-dev|99")), None).unwrap();
    let both = merge(new.as_bytes(), &their_block).bytes;
    assert_eq!(Document::parse(&both).value(ADMIN_KEY), Some("other-dev|99"));
    assert_eq!(merge(&both, &their_block).bytes, both);
    let left = without_block(&both, &other, None);
    assert_eq!(Document::parse(&left).value(ADMIN_KEY), Some("gremlin-dev|01ab"), "{}", String::from_utf8_lossy(&left));
}

#[test]
fn values_that_would_be_read_differently_are_refused() {
    for key in ["", "a b", "a'b", "a\nb", "a\\b", "a#b", "é"] {
        assert!(Block::new(owner("dev"), "http://x", Some(Secret::new(key)), None).is_err(), "{key}");
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
        without_block(&new, &owner("dev"), None);
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

/// What ends a line.
fn separator() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => Just("\n"), 2 => Just("\r\n"), 1 => Just("\r"), 1 => Just("\n\n"), 1 => Just("\u{2028}\n")]
}

fn ours(name: &str) -> bool {
    is_credential(name) || name == CLOUD_DEPLOYMENT || ClientKind::of(name).is_some()
}

/// Checks that taking the block out gives back what there was before, once and after a second merge.
fn check_way_back(existing: &str, block: &Block) -> Result<(), TestCaseError> {
    let once = merge(existing.as_bytes(), block).bytes;
    let twice = merge(&once, block).bytes;
    for bytes in [once, twice] {
        let back = without_block(&bytes, &owner("dev"), None);
        prop_assert_eq!(String::from_utf8_lossy(&back), existing, "{}", String::from_utf8_lossy(&bytes));
    }
    Ok(())
}

fn check(existing: &str, block: &Block) -> Result<(), TestCaseError> {
    let once = merge(existing.as_bytes(), block);
    let document = Document::parse(&once.bytes);
    prop_assert_eq!(document.value(URL), Some(block.url.as_str()));
    prop_assert_eq!(document.value(ADMIN_KEY), block.admin_key.as_ref().map(Secret::expose));
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
    fn destroy_gives_back_what_apply_found(lines in proptest::collection::vec(line(), 0..12), separators in proptest::collection::vec(separator(), 12), last in any::<bool>()) {
        let mut existing = String::new();
        for (line, separator) in lines.iter().filter(|line| !line.contains("convexinfra")).zip(&separators) {
            existing.push_str(line);
            existing.push_str(separator);
        }
        if last { existing.push_str("Z=1"); }
        check_way_back(&existing, &block())?;
        check_way_back(&existing, &client_block("VITE_"))?;
    }

    #[test]
    fn destroy_gives_back_any_pieces(pieces in proptest::collection::vec(piece(), 0..14)) {
        let existing = pieces.concat();
        let quotes = existing.contains(['\'', '"', '`']);
        if !existing.contains("convexinfra") && !quotes {
            check_way_back(&existing, &block())?;
            check_way_back(&existing, &client_block("VITE_"))?;
        }
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
        without_block(&new.bytes, &owner("dev"), None);
    }
}
