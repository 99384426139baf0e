//! What the rules need to know of a URL.

/// The parts of an absolute URL, as they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Url<'t> {
    pub(crate) scheme: &'t str,
    /// The part before the `@`, if there is one.
    pub(crate) userinfo: Option<&'t str>,
    pub(crate) host: &'t str,
    /// Path with its leading slash, or nothing.
    pub(crate) path: &'t str,
    /// Query and fragment with their leading marks, or nothing.
    pub(crate) tail: &'t str,
}

impl<'t> Url<'t> {
    /// Takes a URL apart; nothing when the text is none.
    pub(crate) fn parse(text: &'t str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme_is_fine = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        if !scheme_is_fine || text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return None;
        }
        let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, after) = rest.split_at(authority_end);
        let (path, tail) = after.split_at(after.find(['?', '#']).unwrap_or(after.len()));
        let (userinfo, server) = match authority.rsplit_once('@') {
            Some((userinfo, server)) => (Some(userinfo), server),
            None => (None, authority),
        };
        let (host, port) = match server.find(']') {
            Some(end) if server.starts_with('[') => (&server[..=end], &server[end + 1..]),
            _ => server.split_at(server.find(':').unwrap_or(server.len())),
        };
        let host_is_fine = if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            address.parse::<std::net::Ipv6Addr>().is_ok()
        } else {
            !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'))
        };
        let port_is_fine = port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.parse::<u16>().is_ok_and(|p| p > 0));
        (host_is_fine && port_is_fine).then_some(Self { scheme, userinfo, host, path, tail })
    }

    /// Whether it is spoken over HTTP.
    pub(crate) fn is_http(&self) -> bool {
        matches!(self.scheme, "http" | "https")
    }

    /// Whether only this machine is at the other end.
    pub(crate) fn is_loopback(&self) -> bool {
        let v6 = self.host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).map(str::parse::<std::net::Ipv6Addr>);
        self.host == "localhost"
            || self.host.ends_with(".localhost")
            || self.host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
            || matches!(v6, Some(Ok(address)) if address.is_loopback())
    }
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
        let url = Url::parse("https://u:p@api.x.dev:8443/http?q#f").unwrap();
        assert_eq!(
            (url.scheme, url.userinfo, url.host, url.path, url.tail),
            ("https", Some("u:p"), "api.x.dev", "/http", "?q#f")
        );
        for bad in [
            "",
            "api.x.dev",
            "https://",
            "https://:80",
            "https://a b",
            "https://a:0",
            "https://a:99999",
            "1x://a",
            "https://[::g]",
        ] {
            assert_eq!(Url::parse(bad), None, "{bad}");
        }
        for local in ["http://localhost:1", "http://127.0.0.1", "http://[::1]:3210", "http://a.localhost"] {
            assert!(Url::parse(local).unwrap().is_loopback(), "{local}");
        }
        assert!(!Url::parse("http://127.0.0.1.nip.io").unwrap().is_loopback());
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
