//! Redaction of what is shown of a container that may have been changed by hand.
//!
//! A field that was written by others may hold anything. So what we wrote ourselves is shown, everything else
//! only as far as it does not look like a secret. What is shown is never what is compared.

use super::database;
use crate::model::ResolvedBackend;
use crate::provider::kit::redact::Redactor;

/// The replacement of a word that may be a secret.
const NOT_SHOWN: &str = "(not shown)";
/// The replacement of arguments that are not ours.
const OTHER_ARGUMENTS: &str = "(other arguments)";
/// The replacement of a value that is not ours.
const OTHER_VALUE: &str = "(another value)";
/// Words of letters and digits of this length are taken for keys: image digests are shown with fewer.
const KEY_LENGTH: usize = 16;

/// The flags of the backend, which may be named with any value.
const FLAGS: [&str; 15] = [
    "--instance-name",
    "--instance-secret",
    "--interface",
    "--port",
    "--site-proxy-port",
    "--convex-origin",
    "--convex-site",
    "--beacon-tag",
    "--disable-beacon",
    "--redact-logs-to-client",
    "--local-storage",
    "--s3-storage",
    "--db",
    "--do-not-require-ssl",
    "--convex-http-proxy",
];

/// Returns the redactor of a backend, with the secrets that only this provider makes.
pub(super) fn redactor_of(resolved: &ResolvedBackend) -> Redactor {
    Redactor::of(resolved).with(database::password(resolved).expose())
}

/// Redacts a text that others may have written: words that look like keys and passwords in URLs are left out, unless they
/// stand in `ours` as well.
pub(super) fn redact_untrusted(text: &str, ours: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let is_part = |character: char| character.is_ascii_alphanumeric() || matches!(character, '+' | '=');
        let length = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        let looks_secret = word.len() >= KEY_LENGTH
            && word.contains(|character: char| character.is_ascii_digit())
            && word.contains(|character: char| character.is_ascii_alphabetic());
        shown.push_str(if looks_secret && !ours.contains(word) { NOT_SHOWN } else { word });
        rest = after;
        if let Some(authority) = rest.strip_prefix("://") {
            shown.push_str("://");
            let end = authority.find(['/', '?', '#', ' ', ';']).unwrap_or(authority.len());
            rest = match authority[..end].rfind('@') {
                Some(at) if !ours.contains(&authority[..at]) => {
                    shown.push_str(NOT_SHOWN);
                    &authority[at..]
                }
                _ => authority,
            };
        } else if let Some(character) = rest.chars().next() {
            shown.push(character);
            rest = &rest[character.len_utf8()..];
        }
    }
    shown
}

/// A command line: the words that are ours, the names of flags, and that there is something else.
pub(super) fn redact_arguments(seen: &[String], ours: &[String]) -> String {
    let mut shown: Vec<&str> = Vec::new();
    for word in seen {
        let name = word.split('=').next().unwrap_or_default();
        let flag = FLAGS.into_iter().find(|flag| *flag == name);
        let (known, hides) = match flag {
            _ if ours.contains(word) => (Some(word.as_str()), false),
            Some(flag) => (Some(flag), flag.len() != word.len()),
            None => (None, true),
        };
        shown.extend(known);
        if hides && shown.last() != Some(&OTHER_ARGUMENTS) {
            shown.push(OTHER_ARGUMENTS);
        }
    }
    if shown.is_empty() { "none".to_owned() } else { shown.join(" ") }
}

/// The value of a variable that is not ours: a number and a truth value say much and hide nothing.
pub(super) fn redact_value(seen: &str) -> &str {
    let is_number = !seen.is_empty() && seen.len() <= 12 && seen.bytes().all(|byte| byte.is_ascii_digit());
    match seen {
        "" => "(empty)",
        "true" | "false" => seen,
        _ if is_number => seen,
        _ => OTHER_VALUE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn only_known_arguments_are_shown() {
        let ours = words("--instance-name a --port 4210 /convex/data/db.sqlite3");
        for (seen, shown) in [
            (
                "--instance-name a --instance-secret 0123456789abcdef --port 4210 /convex/data/db.sqlite3",
                "--instance-name a --instance-secret (other arguments) --port 4210 /convex/data/db.sqlite3",
            ),
            ("--instance-secret=0123 --port 1", "--instance-secret (other arguments) --port (other arguments)"),
            ("--token hunter2 --redact-logs-to-client", "(other arguments) --redact-logs-to-client"),
            ("", "none"),
        ] {
            assert_eq!(redact_arguments(&words(seen), &ours), shown);
        }
    }

    #[test]
    fn values_that_look_like_secrets_are_redacted() {
        let key = "0123456789abcdef0123456789abcdef";
        for (text, shown) in [
            (format!("/run/{key} at /mnt"), "/run/(not shown) at /mnt".to_owned()),
            ("postgres://u:hunter2@db:5432/x; y".to_owned(), "postgres://(not shown)@db:5432/x; y".to_owned()),
            ("http://127.0.0.1:4210".to_owned(), "http://127.0.0.1:4210".to_owned()),
            (
                "convexinfra-shop-dev-abc234 at /convex/data".to_owned(),
                "convexinfra-shop-dev-abc234 at /convex/data".to_owned(),
            ),
            ("sha256:0123456789ab é".to_owned(), "sha256:0123456789ab é".to_owned()),
            ("APPLICATION_MAX_CONCURRENT_V8_ACTIONS".to_owned(), "APPLICATION_MAX_CONCURRENT_V8_ACTIONS".to_owned()),
        ] {
            assert_eq!(redact_untrusted(&text, ""), shown);
        }
        assert_eq!(redact_untrusted(&format!("{key} at /mnt"), &format!("{key} at /data")), format!("{key} at /mnt"));
    }

    #[test]
    fn values_are_shown_where_they_can_hide_nothing() {
        for (seen, shown) in
            [("60", "60"), ("true", "true"), ("", "(empty)"), ("hunter2", OTHER_VALUE), ("1234567890123", OTHER_VALUE)]
        {
            assert_eq!(redact_value(seen), shown);
        }
    }
}
