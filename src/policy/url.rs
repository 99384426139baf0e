//! URLs as they are written in a manifest, and passwords in them.

use url::Url;

use crate::model::is_loopback_url;

/// A URL that every reader of the text takes for the same one, with its parts as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrittenUrl<'t> {
    url: Url,
    pub(crate) has_userinfo: bool,
    /// The path with its leading slash, or nothing.
    pub(crate) path: &'t str,
    /// Query and fragment with their leading marks, or nothing.
    pub(crate) tail: &'t str,
}

impl<'t> WrittenUrl<'t> {
    /// Parses a URL; none for what browsers repair in silence, such as `https:host`, blanks, backslashes and encoded hosts.
    pub(crate) fn parse(text: &'t str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return None;
        }
        let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (path, tail) = after.split_at(after.find(['?', '#']).unwrap_or(after.len()));
        let url = Url::parse(text).ok()?;
        let is_exact = url.scheme() == scheme
            && url.has_host()
            && url.port() != Some(0)
            && !authority.ends_with(':')
            && is_plain_host(authority.rsplit_once('@').map_or(authority, |(_, server)| server));
        is_exact.then_some(Self { url, has_userinfo: authority.contains('@'), path, tail })
    }

    /// Returns whether it is spoken over HTTP.
    pub(crate) fn is_http(&self) -> bool {
        matches!(self.url.scheme(), "http" | "https")
    }

    /// Returns whether what is sent to it is encrypted, or does not leave this machine.
    pub(crate) fn is_confidential(&self) -> bool {
        self.url.scheme() == "https" || self.url.scheme() == "http" && is_loopback_url(&self.url)
    }
}

/// Returns whether a host, perhaps with a port, is made of what host names and addresses are made of: the standard allows much
/// else, such as `$(id)`, and these texts come into shells and files.
fn is_plain_host(server: &str) -> bool {
    let inside = server.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (host, port) = inside.unwrap_or_else(|| server.split_once(':').unwrap_or((server, "")));
    let is_fit = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_') || inside.is_some() && c == ':';
    !host.is_empty() && host.chars().all(is_fit) && port.trim_start_matches(':').chars().all(|c| c.is_ascii_digit())
}

/// Whether a text holds a URL with a password in it, however broken the rest may be.
pub(crate) fn has_password(text: &str) -> bool {
    userinfo(text).is_some_and(|part| text[part].split_once(':').is_some_and(|(_, password)| !password.is_empty()))
}

/// Returns the range of `user:password` of the first URL in a text, without the `@`.
pub(crate) fn userinfo(text: &str) -> Option<std::ops::Range<usize>> {
    let start = text.find("://")? + 3;
    let rest = &text[start..];
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')).unwrap_or(rest.len());
    // A password with a `/` in it is not allowed in a URL, and is a password all the same.
    let at = rest[..end].rfind('@')?;
    let authority = rest.find(['/', '?', '#']).unwrap_or(end);
    let colon = rest[..at].find(':');
    (at < authority || colon.is_some_and(|colon| colon < authority)).then_some(start..start + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_come_apart() {
        let url = WrittenUrl::parse("https://u:p@api.x.dev:8443/http?q#f").unwrap();
        assert_eq!((url.has_userinfo, url.path, url.tail), (true, "/http", "?q#f"));
        assert!(url.is_http() && url.is_confidential());
        for bad in [
            "",
            "api.x.dev",
            "https:api.x.dev",
            "https://",
            "https:///api.x.dev",
            "https://:80",
            "https://a b",
            "https://a:",
            "https://a:0",
            "https://a:99999",
            "https://a%2eb",
            "http://$(id)",
            "http://a`b",
            "http://a;b",
            "http://[::1]x",
            "HTTPS://a",
            "1x://a",
            "https://[::g]",
        ] {
            assert_eq!(WrittenUrl::parse(bad), None, "{bad}");
        }
        for local in ["http://localhost:1", "http://127.0.0.1", "http://[::1]:3210", "http://a.localhost"] {
            assert!(WrittenUrl::parse(local).unwrap().is_confidential(), "{local}");
        }
        for remote in ["http://127.0.0.1.nip.io", "http://0.0.0.0", "postgres://127.0.0.1"] {
            assert!(!WrittenUrl::parse(remote).unwrap().is_confidential(), "{remote}");
        }
    }

    #[test]
    fn passwords_are_seen() {
        for yes in ["postgres://u:p@h", "postgres://u:p/w@h:5432", "see postgres://u:p@h now", "mysql://:p@h"] {
            assert!(has_password(yes), "{yes}");
        }
        for no in ["postgres://u@h", "postgres://h", "https://h/a:b@c", "u:p@h", "postgres://u:@h", "http://h/@x"] {
            assert!(!has_password(no), "{no}");
        }
    }
}
