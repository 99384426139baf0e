//! The shapes that texts of a manifest may have: a pattern for the schema and the same check in code.

use std::net::IpAddr;

use crate::model::{NAME_MAX, Release, RouteTls};

use super::url::WrittenUrl;
use super::violation::Violation;

/// What a text must look like.
#[derive(Debug)]
pub(crate) struct TextFormat {
    /// The code of the problem when it does not.
    pub(crate) code: &'static str,
    /// What it is, as it follows "is not" in a message.
    pub(crate) noun: &'static str,
    /// What is allowed, as a sentence without a full stop.
    pub(crate) allowed: &'static str,
    /// One that fits.
    pub(crate) example: &'static str,
    /// The same rule as a regular expression.
    pub(crate) pattern: &'static str,
    /// Most characters, where the pattern does not say.
    pub(crate) longest: Option<usize>,
    pub(crate) matches: fn(&str) -> bool,
    /// Another text that was probably meant; it is offered only when it fits.
    pub(crate) repair: fn(&str) -> Option<String>,
}

impl TextFormat {
    /// Returns what is said of a text that does not have this format; `path` is quoted.
    pub(crate) fn violation(&self, path: &str, text: &str) -> Option<Violation> {
        (!(self.matches)(text)).then(|| {
            let message = if text.is_empty() {
                format!("{path} is empty, and it takes {}", self.noun)
            } else {
                format!("{} in {path} is not {}", quoted(text), self.noun)
            };
            Violation { code: self.code, message, help: self.allowed.to_owned() }
        })
    }

    /// The text that was probably meant, if there is one that fits.
    pub(crate) fn repaired(&self, text: &str) -> Option<String> {
        let is_shown = |repaired: &String| repaired.len() <= MAX_REPAIRED && repaired != text && (self.matches)(repaired);
        (self.repair)(text).filter(is_shown)
    }
}

/// The longest text that is suggested, in bytes: no host name or path is longer, and a message shows it whole.
const MAX_REPAIRED: usize = 1024;

/// A text as a message may quote it: short, on one line, without what a terminal would obey.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(48).flat_map(char::escape_debug).collect();
    if text.chars().nth(48).is_some() {
        shown.push('…');
    }
    // Quotes and apostrophes are harmless inside backticks.
    let shown = shown.replace("\\\"", "\"").replace("\\'", "'").replace('`', "'");
    format!("`{shown}`")
}

fn trimmed(text: &str) -> Option<String> {
    Some(text.trim().to_owned())
}

/// `My_Backend 1` was probably meant to be `my-backend-1`.
fn as_name(text: &str) -> Option<String> {
    if text.len() > 200 {
        return None;
    }
    let mut name = String::new();
    for character in text.trim().chars().flat_map(char::to_lowercase) {
        match character {
            'a'..='z' | '0'..='9' => name.push(character),
            '_' | ' ' | '.' | '/' | '-' if !name.ends_with('-') => name.push('-'),
            '_' | ' ' | '.' | '/' | '-' => {}
            _ => return None,
        }
    }
    Some(name.trim_matches('-').to_owned())
}

fn is_name(text: &str) -> bool {
    text.len() <= NAME_MAX && is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase())
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Text on one line that is not blank.
fn is_line(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(char::is_control)
}

fn is_path(text: &str) -> bool {
    is_line(text) && !text.ends_with(['/', '\\']) && !matches!(text.rsplit('/').next(), Some("." | ".."))
}

fn as_path(text: &str) -> Option<String> {
    Some(text.trim().trim_end_matches('/').to_owned())
}

fn is_image(text: &str) -> bool {
    text.len() <= 512
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/' | b':' | b'@'))
}

fn is_host_entry(text: &str) -> bool {
    text.split_once(':')
        .is_some_and(|(name, address)| is_word(name) && (address == "host-gateway" || address.parse::<IpAddr>().is_ok()))
}

/// The data itself is mounted by the provider.
fn is_mount(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target) = match parts.as_slice() {
        [source, target] | [source, target, "ro"] => (*source, *target),
        _ => return false,
    };
    is_line(text)
        && (source.starts_with('/') || is_word(source))
        && target.starts_with('/')
        && !matches!(target.trim_end_matches('/'), "" | "/convex/data")
}

fn is_bucket_start(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}

fn is_bucket(text: &str) -> bool {
    (3..=63).contains(&text.len()) && is_bucket_start(text) && !text.ends_with(['-', '.'])
}

/// The longest of the five suffixes is `-snapshot-imports`.
fn is_bucket_prefix(text: &str) -> bool {
    (1..=63 - "-snapshot-imports".len()).contains(&text.len()) && is_bucket_start(text) && !text.ends_with(['-', '.'])
}

fn lowered(text: &str) -> Option<String> {
    Some(text.trim().to_ascii_lowercase().replace('_', "-").trim_matches(['-', '.']).to_owned())
}

fn is_variable(text: &str) -> bool {
    text.len() <= 256
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// `$NAME` and `${NAME}` mean `NAME`, and `MY-NAME` is no variable.
fn as_variable(text: &str) -> Option<String> {
    let bare = text.trim().trim_start_matches('$').trim_start_matches('{').trim_end_matches('}');
    Some(bare.strip_prefix("env.").unwrap_or(bare).replace(['-', '.', ' '], "_"))
}

fn is_control_plane(text: &str) -> bool {
    WrittenUrl::parse(text).is_some_and(|url| !url.has_userinfo && url.tail.is_empty() && url.is_confidential())
}

fn with_https(text: &str) -> Option<String> {
    let text = text.trim();
    Some(match text.split_once("://") {
        Some((_, rest)) => format!("https://{rest}"),
        None => format!("https://{text}"),
    })
}

fn is_endpoint(text: &str) -> bool {
    WrittenUrl::parse(text).is_some_and(|url| url.is_http() && !url.has_userinfo && url.tail.is_empty())
}

fn is_origin(text: &str) -> bool {
    WrittenUrl::parse(text).is_some_and(|url| url.is_http() && !url.has_userinfo && url.tail.is_empty() && url.path.is_empty())
}

fn as_origin(text: &str) -> Option<String> {
    let text = text.trim();
    let text = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url = WrittenUrl::parse(&text)?;
    // A path that says something is not cut off without asking.
    (url.path.trim_matches('/').is_empty() && url.tail.is_empty()).then(|| text.trim_end_matches('/').to_owned())
}

fn is_site_origin(text: &str) -> bool {
    is_origin(text.strip_suffix("/http").unwrap_or(text))
}

fn as_site_origin(text: &str) -> Option<String> {
    as_origin(text).or_else(|| Some(with_scheme(text.trim()).trim_end_matches('/').to_owned()))
}

fn with_scheme(text: &str) -> String {
    if text.contains("://") { text.to_owned() } else { format!("https://{text}") }
}

fn is_sha256(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_gateway(text: &str) -> bool {
    let is_name = |part: &str| {
        let is_end = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let is_inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        is_end(part.as_bytes().first()) && is_end(part.as_bytes().last()) && part.bytes().all(is_inside)
    };
    text.len() <= 253 && text.split('/').count() <= 2 && text.split('/').all(is_name)
}

/// It stands behind `--` on a command line, and must not be read as anything but a host there.
fn is_ssh_host(text: &str) -> bool {
    let is_part = |part: &str, more: &[u8]| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    let (user, host) = text.rsplit_once('@').map_or((None, text), |(user, host)| (Some(user), host));
    let is_host = is_part(host, b"._-") || host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_ok();
    text.len() <= 255 && user.is_none_or(|user| is_part(user, b"._-+")) && is_host
}

/// `ssh://user@host` was probably meant to be `user@host`.
fn as_ssh_host(text: &str) -> Option<String> {
    Some(text.trim().trim_start_matches("ssh://").trim_end_matches('/').to_owned())
}

fn is_host_key(text: &str) -> bool {
    let is_base64 = |key: &str| key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
    let is_kind = |kind: &str| kind.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'@' | b'.'));
    let parts: Vec<&str> = text.split(' ').collect();
    matches!(parts.as_slice(), [kind, key] if key.starts_with("AAAA") && is_kind(kind) && is_base64(key)) && text.len() <= 4096
}

/// The comment of a line of `ssh_host_ed25519_key.pub` is no part of the key.
fn as_host_key(text: &str) -> Option<String> {
    let mut words = text.split_whitespace();
    Some(format!("{} {}", words.next()?, words.next()?))
}

fn is_socket(text: &str) -> bool {
    text.len() <= 107 && text.starts_with('/') && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+@".contains(&b))
}

fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(is_inside)
    };
    text.len() <= 240 && text.split('.').all(is_label)
}

/// `https://Example.com/` was probably meant to be `example.com`.
fn as_domain(text: &str) -> Option<String> {
    let bare = text.trim().to_ascii_lowercase();
    let bare = bare.split_once("://").map_or(bare.as_str(), |(_, rest)| rest);
    Some(bare.trim_end_matches(['/', '.']).trim_start_matches("api.").to_owned())
}

/// It becomes a word of a configuration that many share, so nothing that means more than itself there is in it.
fn is_acme_directory(text: &str) -> bool {
    let Some((host, path)) = text.strip_prefix("https://").and_then(|rest| rest.split_once('/')) else {
        return text == RouteTls::STAGING;
    };
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    is_name
        && port.is_none_or(|port| port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok())
        && path.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-' | b'/'))
}

fn is_release(text: &str) -> bool {
    Release::parse(text).is_ok()
}

macro_rules! shapes {
    ($($name:ident = $code:literal, $noun:literal, $allowed:literal, $example:literal, $pattern:literal, $longest:expr, $fits:expr, $repair:expr;)*) => {
        $(pub(crate) static $name: TextFormat = TextFormat {
            code: concat!("manifest.", $code), noun: $noun, allowed: $allowed, example: $example,
            pattern: $pattern, longest: $longest, matches: $fits, repair: $repair,
        };)*
        #[cfg(test)]
        static ALL: &[&TextFormat] = &[$(&$name),*];
    };
}

shapes! {
    NAME = "bad_name", "a name",
        "a name has at most 40 characters, starts with a letter a-z, goes on with letters a-z, digits and dashes, and does not end with a dash",
        "dev", "^[a-z]([a-z0-9-]*[a-z0-9])?$", Some(NAME_MAX), is_name, as_name;
    RELEASE = "bad_release", "a release",
        "a release is a commit with all its 40 hex digits, a tag such as `precompiled-2026-08-22-652b828`, an image digest `sha256:` with 64 hex digits, or `latest`",
        "precompiled-2026-08-22-652b828",
        "^([0-9a-f]{40}|sha256:[0-9a-f]{64}|precompiled-[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9a-f]{7}|latest)$",
        None, is_release, |text| Some(text.trim().to_ascii_lowercase());
    SHA256 = "bad_digest", "a SHA-256 digest", "a digest is 64 hex digits, with or without `sha256:` before them",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "^(sha256:)?[0-9a-f]{64}$", None, is_sha256,
        |text| Some(text.trim().to_ascii_lowercase());
    REGION = "bad_region", "a region",
        "a region is one word of letters, digits, dashes, dots and underscores", "iad",
        "^[A-Za-z0-9._-]+$", None, is_word, trimmed;
    WORD = "bad_word", "one word",
        "it is made of letters, digits, dashes, dots and underscores", "fast", "^[A-Za-z0-9._-]+$", None, is_word, trimmed;
    LINE = "bad_text", "a text on one line", "it needs at least one character that is not blank, and no line break", "info",
        "^(?=.*\\S)[^\\u0000-\\u001f]+$", None, is_line, trimmed;
    PATH = "bad_path", "the path of a file",
        "a path names a file, relative to the manifest's folder or absolute, without line breaks and without a slash at its end",
        ".env.local", "^(?=.*\\S)[^\\u0000-\\u001f]*[^\\u0000-\\u001f/\\\\]$", None, is_path, as_path;
    VARIABLE = "bad_variable_name", "the name of an environment variable",
        "a variable's name has letters, digits and underscores, does not start with a digit, and comes without `$`",
        "POSTGRES_URL", "^[A-Za-z_][A-Za-z0-9_]*$", Some(256), is_variable, as_variable;
    CONVEX_VARIABLE = "bad_env_name", "a name that Convex accepts for a variable",
        "Convex takes at most 256 letters, digits and underscores, the first of them no digit", "OPENAI_API_KEY",
        "^[A-Za-z_][A-Za-z0-9_]*$", Some(256), is_variable, as_variable;
    CONTROL_PLANE = "bad_control_plane_url", "the URL of a control plane",
        "it starts with `https://` (or `http://` for a host on this machine) and has neither user, query nor fragment",
        "https://convex-control.example.com",
        "^(https://[^\\s/?#@]+(/[^\\s?#]*)?|http://(localhost|[^\\s/?#@]+\\.localhost|127\\.[0-9.]+|\\[::1\\])(:[0-9]+)?(/[^\\s?#]*)?)$",
        None, is_control_plane, with_https;
    ENDPOINT = "bad_url", "the URL of an S3 service", "it starts with `https://` or `http://` and has neither user, query nor fragment",
        "https://s3.example.com", "^https?://[^\\s/?#@]+(/[^\\s?#]*)?$", None, is_endpoint, with_https;
    ACME_DIRECTORY = "bad_acme_directory", "the directory of an ACME authority",
        "it is `staging`, or starts with `https://`, a host and a path of letters, digits and the signs . _ ~ - /",
        "https://ca.example.com/acme/acme/directory",
        "^(staging|https://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[A-Za-z0-9._~/-]*)$", Some(512), is_acme_directory, with_https;
    API_ORIGIN = "bad_origin", "an origin of the API",
        "it is `https://` or `http://` with a host and perhaps a port, and nothing after that, because clients drop any path",
        "https://api.example.com", "^https?://[^\\s/?#@]+$", None, is_origin, as_origin;
    SITE_ORIGIN = "bad_origin", "an origin of the HTTP actions",
        "it is `https://` or `http://` with a host and perhaps a port, without a slash at its end; only the path `/http` may follow",
        "https://example.com", "^https?://[^\\s/?#@]+(/http)?$", None, is_site_origin, as_site_origin;
    BUCKET = "bad_bucket", "the name of a bucket",
        "a bucket's name has 3 to 63 letters a-z, digits, dots and dashes, with a letter or a digit at both ends",
        "gremlin-files", "^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", None, is_bucket, lowered;
    BUCKET_PREFIX = "bad_bucket", "a prefix of bucket names",
        "it has at most 46 letters a-z, digits, dots and dashes, with a letter or a digit at both ends, because `-snapshot-imports` follows and a bucket's name has at most 63",
        "gremlin", "^[a-z0-9]([a-z0-9.-]{0,44}[a-z0-9])?$", None, is_bucket_prefix, lowered;
    IMAGE = "bad_image", "the name of an image", "an image is a registry, a name and a tag or digest, without blanks",
        "ghcr.io/get-convex/convex-backend:latest", "^[A-Za-z0-9][A-Za-z0-9._/:@-]*$", Some(512), is_image, trimmed;
    ADDRESS = "bad_address", "an IP address", "ports are published on an IPv4 or IPv6 address", "127.0.0.1",
        "^([0-9]{1,3}(\\.[0-9]{1,3}){3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$", None, |text| text.parse::<IpAddr>().is_ok(),
        |text| (text.trim() == "localhost").then(|| "127.0.0.1".to_owned());
    HOST_ENTRY = "bad_host_entry", "a name with its address",
        "it is a host name, a colon, and an IP address or `host-gateway`, as Docker writes it", "sso.example.com:10.1.1.1",
        "^[A-Za-z0-9._-]+:[0-9A-Za-z.:-]+$", None, is_host_entry, trimmed;
    MOUNT = "bad_mount", "a mount",
        "it is `SOURCE:TARGET`, or `SOURCE:TARGET:ro`: a volume's name or an absolute directory of the engine's machine, and an absolute path inside, which is not `/convex/data`",
        "/srv/jwt:/convex/jwt:ro", "^[^:\\u0000-\\u001f]+:/[^:\\u0000-\\u001f]+(:ro)?$", None, is_mount, trimmed;
    GATEWAY = "bad_gateway", "the name of a Gateway",
        "it is a name, or a namespace and a name with a slash between them, of letters a-z, digits, dashes and dots", "infra/public",
        "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(/[a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$", Some(253), is_gateway, lowered;
    SSH_HOST = "bad_ssh_host", "a host for SSH",
        "it is `user@host`, a host, or an alias of the SSH configuration; a port has a key of its own", "deploy@shop.example.com",
        "^([A-Za-z0-9_][A-Za-z0-9._+-]*@)?[A-Za-z0-9_:][A-Za-z0-9._:-]*$", Some(255), is_ssh_host, as_ssh_host;
    HOST_KEY = "bad_host_key", "a public host key",
        "it is the type and the key, as in `/etc/ssh/ssh_host_ed25519_key.pub` of the server, without the comment behind them",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKMk", "^[A-Za-z0-9@.-]+ AAAA[A-Za-z0-9+/=]+$", Some(4096), is_host_key, as_host_key;
    SOCKET = "bad_socket", "the path of a socket",
        "it is an absolute path of at most 107 letters, digits and `/._-+@`", "/run/user/1000/docker.sock",
        "^/[A-Za-z0-9/._+@-]*$", Some(107), is_socket, trimmed;
    DOMAIN = "bad_domain", "a domain",
        "it is a host name in lower case, without scheme, port and path", "example.com",
        "^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$", Some(240), is_domain, as_domain;
    LABEL = "bad_label", "a name of letters, digits and dashes",
        "it has at most 63 letters a-z, digits and dashes, and no dash at either end", "acme",
        "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", None, is_label, as_name;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_fits_and_repairs_are_only_offered_when_they_fit() {
        for shape in ALL {
            assert!((shape.matches)(shape.example), "{}", shape.example);
            assert!(!(shape.matches)(""), "{}", shape.noun);
            assert_eq!(shape.repaired(shape.example), None);
            for text in ["", " ", "é", "\n", "$X", "http://", "Ünïcode", "a/", &"x".repeat(1000)] {
                if let Some(repaired) = shape.repaired(text) {
                    assert!((shape.matches)(&repaired));
                }
            }
        }
    }

    #[test]
    fn repairs() {
        assert_eq!(NAME.repaired("My_Backend 1").as_deref(), Some("my-backend-1"));
        assert_eq!(NAME.repaired("1dev"), None);
        assert_eq!(VARIABLE.repaired("${OPENAI-KEY}").as_deref(), Some("OPENAI_KEY"));
        assert_eq!(API_ORIGIN.repaired("api.x.dev/").as_deref(), Some("https://api.x.dev"));
        assert_eq!(API_ORIGIN.repaired("https://x.dev/http"), None);
        assert_eq!(SITE_ORIGIN.repaired("https://x.dev/http/").as_deref(), Some("https://x.dev/http"));
        assert_eq!(CONTROL_PLANE.repaired("http://x.dev").as_deref(), Some("https://x.dev"));
        assert_eq!(PATH.repaired("apps/web/").as_deref(), Some("apps/web"));
    }
}
