//! "Did you mean": the nearest word, and how a list of words reads.

pub(super) use crate::policy::formats::quoted;

/// No word of a manifest is longer; comparing costs the product of both lengths.
const LONGEST: usize = 64;

/// Returns the candidate that was most likely meant by `typed`.
pub(super) fn nearest<'c>(typed: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if typed.is_empty() || typed.len() > LONGEST {
        return None;
    }
    let plain = flatten(typed);
    let allowance = 1 + plain.chars().count() / 4;
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        if candidate.len().abs_diff(typed.len()) > allowance + 1 {
            continue;
        }
        let distance = strsim::damerau_levenshtein(&plain, &flatten(candidate));
        if distance <= allowance && distance < plain.chars().count() && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Returns a word without the differences that people do not see.
fn flatten(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}

/// `a`, `b` or `c`, each in backticks.
pub(super) fn one_of<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_far_ones_are_not() {
        let words = ["provider", "release", "region", "storage", "env", "env_file"];
        assert_eq!(nearest("provder", words), Some("provider"));
        assert_eq!(nearest("envFile", words), Some("env_file"));
        assert_eq!(nearest("env-file", words), Some("env_file"));
        assert_eq!(nearest("banana", words), None);
        assert_eq!(nearest("", words), None);
        assert_eq!(nearest(&"x".repeat(1_000_000), words), None);
    }

    #[test]
    fn quotes_are_short_and_tame() {
        assert_eq!(quoted("a\u{1b}[31m"), "`a\\u{1b}[31m`");
        assert_eq!(quoted("it's \"é\""), "`it's \"é\"`");
        assert!(quoted(&"x".repeat(500)).len() < 64);
        assert_eq!(one_of(["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
