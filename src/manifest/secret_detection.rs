//! Which names and texts look like secrets.

use std::ops::Range;

use super::url;
use crate::model::{Diagnostic, Span};

const SECRET_WORDS: [&str; 14] = [
    "KEY",
    "KEYS",
    "APIKEY",
    "SECRET",
    "SECRETS",
    "TOKEN",
    "TOKENS",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "PASS",
    "PWD",
    "CREDENTIAL",
    "CREDENTIALS",
];
/// Endings and beginnings that say that the name is about something public after all.
const PUBLIC_WORDS: [&str; 24] = [
    "PUBLIC",
    "PUBLISHABLE",
    "ID",
    "TTL",
    "LIMIT",
    "COUNT",
    "SIZE",
    "LENGTH",
    "PREFIX",
    "NAME",
    "EXPIRY",
    "EXPIRES",
    "SECONDS",
    "MINUTES",
    "HOURS",
    "DAYS",
    "ALGORITHM",
    "ISSUER",
    "AUDIENCE",
    "TYPE",
    "FORMAT",
    "ENABLED",
    "VERSION",
    "PATH",
];
const SECRET_PREFIXES: [&str; 14] = [
    "sk-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "whsec_",
    "ghp_",
    "gho_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "-----BEGIN",
    "re_",
];

/// Whether a variable of this name most likely holds a secret.
pub(super) fn looks_secret(name: &str) -> bool {
    let words = words(name);
    let public = words.iter().any(|word| word == "PUBLIC" || word == "PUBLISHABLE")
        || words.last().is_some_and(|last| PUBLIC_WORDS.contains(&last.as_str()));
    !public && words.iter().any(|word| SECRET_WORDS.contains(&word.as_str()))
}

/// Returns whether a text looks like a secret, under any name.
pub(super) fn looks_secret_value(text: &str) -> bool {
    text.len() >= 16
        && SECRET_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
        && !(text.starts_with("-----BEGIN PUBLIC") || text.starts_with("-----BEGIN CERTIFICATE"))
}

/// `openaiApiKey` and `OPENAI_API_KEY` are the same words.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut previous_is_lower = false;
    let mut start_new = true;
    for character in name.chars().take(256) {
        if !character.is_ascii_alphanumeric() {
            start_new = true;
            previous_is_lower = false;
            continue;
        }
        if start_new || (previous_is_lower && character.is_ascii_uppercase()) {
            words.push(String::new());
        }
        start_new = false;
        previous_is_lower = character.is_ascii_lowercase();
        if let Some(last) = words.last_mut() {
            last.push(character.to_ascii_uppercase());
        }
    }
    words
}

/// Returns a text with everything that may be a secret overwritten, byte for byte, so that every span still fits.
/// Lines of a manifest are shown from this only.
pub fn redacted(text: &str, problems: &[Diagnostic]) -> String {
    let spans = problems.iter().flat_map(|problem| problem.span.iter().chain(&problem.related));
    let mut hidden: Vec<Range<usize>> = spans.filter(|span| span.sensitive).map(Span::bytes).collect();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if let Some(found) = url::userinfo(line).filter(|found| line[found.clone()].contains(':')) {
            hidden.push(start + found.start..start + found.end);
        }
        if let Some((key, value)) = line.split_once('=') {
            let inner = value.trim_start();
            let literal = inner.starts_with(['"', '\'']) || (!inner.starts_with(['{', '[', '#']) && !inner.trim().is_empty());
            let key = key.rsplit(['.', '{', ',']).next().unwrap_or(key).trim().trim_matches(['"', '\'']);
            if literal && (looks_secret(key) || looks_secret_value(inner.trim_matches(['"', '\'', '\r', '\n', ' ']))) {
                let from = start + line.len() - inner.len();
                hidden.push(from..start + line.trim_end().len().max(from - start));
            }
        }
        start += line.len();
    }
    hidden.sort_by_key(|range| range.start);
    let mut shown = String::with_capacity(text.len());
    let mut done = 0;
    for range in hidden {
        let from = range.start.max(done);
        if range.end <= from {
            continue;
        }
        let (Some(before), Some(secret)) = (text.get(done..from), text.get(from..range.end)) else { continue };
        shown.push_str(before);
        for character in secret.chars() {
            match character {
                '\n' | '\r' | '"' | '\'' => shown.push(character),
                _ => (0..character.len_utf8()).for_each(|_| shown.push('*')),
            }
        }
        done = range.end;
    }
    shown.push_str(text.get(done..).unwrap_or_default());
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_secret() {
        for yes in [
            "OPENAI_API_KEY",
            "openaiApiKey",
            "AUTH_GITHUB_SECRET",
            "JWT_PRIVATE_KEY",
            "SMTP_PASS",
            "TOKEN",
            "SLACK_TOKEN_PROD",
        ] {
            assert!(looks_secret(yes), "{yes}");
        }
        for no in [
            "SITE_URL",
            "VAPID_PUBLIC_KEY",
            "STRIPE_PUBLISHABLE_KEY",
            "TOKEN_TTL",
            "KEY_PREFIX",
            "MONKEY",
            "AWS_ACCESS_KEY_ID",
            "JWKS",
        ] {
            assert!(!looks_secret(no), "{no}");
        }
        assert!(looks_secret_value("sk-aaaaaaaaaaaaaaaaaaaa"));
        assert!(!looks_secret_value("sk-short") && !looks_secret_value("https://example.com/abc"));
    }

    #[test]
    fn redacted_text_has_no_secret_and_the_same_length() {
        let text = "a = \"postgres://u:hünter2@h\"\nOPENAI_API_KEY = \"sk-é\nb = { env = \"X\" }\nx = 'see'\n";
        let shown = redacted(text, &[]);
        assert_eq!(shown.len(), text.len());
        assert!(!shown.contains("nter2") && !shown.contains("sk-"));
        assert!(shown.contains("{ env = \"X\" }") && shown.contains("'see'") && shown.contains("@h"));
    }
}
