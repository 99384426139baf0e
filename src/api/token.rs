//! The format of tokens, and the origins that a token is bound to.
//!
//! A token reads `cvxi_ID_SECRET_ORIGIN…CRC`: a prefix by which secret scanners find it, its public id, 256 random bits
//! as hex, a hash of each origin that it was issued for (none in tokens of earlier releases), and a CRC-32 as hex over
//! everything after the prefix, by which a token is told from a text that only looks like one, without a lookup. A client
//! sends a bound token to these origins only, so that a manifest cannot lead it to another host.

use sha2::{Digest as _, Sha256};
use url::{Host, Url};

use crate::model::Secret;

/// The first characters of every token.
pub const TOKEN_PREFIX: &str = "cvxi_";
/// The length of a token's public id, in characters.
pub const TOKEN_ID_LENGTH: usize = 10;
/// The length of a token's secret, in bytes before they are written as hex.
pub const TOKEN_SECRET_BYTES: usize = 32;
/// The number of origins that one token may be bound to.
pub const MAX_TOKEN_ORIGINS: usize = 8;
/// The length of the hash of one origin, in hex digits: 80 bits, so that no other host name with the same hash can be
/// searched for.
const ORIGIN_DIGITS: usize = 20;
const CHECKSUM_DIGITS: usize = 8;

/// The origin of a control plane: scheme, host and port of its URL.
///
/// The names of the loopback interface count as one host, `localhost`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenOrigin(String);

impl TokenOrigin {
    /// Parses the origin of an `http` or `https` URL; its path, if any, is not part of it.
    pub fn parse(url: &str) -> Option<Self> {
        Self::of(&Url::parse(url.trim()).ok()?)
    }

    /// Returns the origin of an `http` or `https` URL.
    pub fn of(url: &Url) -> Option<Self> {
        let scheme = Some(url.scheme()).filter(|scheme| matches!(*scheme, "http" | "https"))?;
        let host = match url.host()? {
            Host::Domain(name) => name.trim_end_matches('.').to_owned(),
            Host::Ipv4(address) if address.is_loopback() => "localhost".to_owned(),
            Host::Ipv6(address) if address.is_loopback() => "localhost".to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => format!("[{address}]"),
        };
        Some(Self(format!("{scheme}://{host}:{}", url.port_or_known_default()?)))
    }

    /// Returns the hash of the origin, as tokens contain it.
    pub fn hash(&self) -> String {
        let mut hash = hex::encode(Sha256::digest(format!("convexinfra token origin\0{}", self.0)));
        hash.truncate(ORIGIN_DIGITS);
        hash
    }
}

/// Says whether a token may go to an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginMatch {
    /// The token was issued for this origin.
    Bound,
    /// The token was issued for other origins only.
    Foreign,
    /// The token names no origin: one of an earlier release, of `serve --init` without `--public-url`, or no token at all.
    Unbound,
}

/// Compares the origins that a token is bound to with the one of a URL.
pub fn match_origin(token: &Secret, origin: &TokenOrigin) -> OriginMatch {
    let Some(parts) = TokenParts::parse(token.expose()) else { return OriginMatch::Unbound };
    match parts.origins.as_slice() {
        [] => OriginMatch::Unbound,
        hashes if hashes.contains(&origin.hash().as_str()) => OriginMatch::Bound,
        _ => OriginMatch::Foreign,
    }
}

/// A token taken apart, with a checksum that fits.
#[derive(Debug, PartialEq, Eq)]
pub struct TokenParts<'a> {
    /// The public id.
    pub id: &'a str,
    /// The hashes of the origins that it is bound to.
    pub origins: Vec<&'a str>,
}

impl<'a> TokenParts<'a> {
    /// Takes a text apart; none when it does not have the shape of a token.
    pub fn parse(token: &'a str) -> Option<Self> {
        let text = token.strip_prefix(TOKEN_PREFIX)?;
        let (body, checksum) = text.split_at_checked(text.len().checked_sub(CHECKSUM_DIGITS)?)?;
        let mut parts = body.split('_');
        let (id, secret) = (parts.next()?, parts.next()?);
        let origins: Vec<&str> = parts.collect();
        let is_shaped = id.len() == TOKEN_ID_LENGTH
            && is_hex(secret, 2 * TOKEN_SECRET_BYTES)
            && origins.len() <= MAX_TOKEN_ORIGINS
            && origins.iter().all(|origin| is_hex(origin, ORIGIN_DIGITS));
        (is_shaped && self::checksum(body) == checksum).then_some(Self { id, origins })
    }
}

/// Writes a token from its parts.
pub fn format_token(id: &str, secret: &[u8; TOKEN_SECRET_BYTES], origins: &[TokenOrigin]) -> Secret {
    let mut body = zeroize::Zeroizing::new(String::with_capacity(TOKEN_PREFIX.len() + 512));
    body.push_str(id);
    body.push('_');
    body.push_str(zeroize::Zeroizing::new(hex::encode(secret)).as_str());
    for origin in origins.iter().take(MAX_TOKEN_ORIGINS) {
        body.push('_');
        body.push_str(&origin.hash());
    }
    Secret::new(format!("{TOKEN_PREFIX}{}{}", body.as_str(), checksum(&body)))
}

impl std::fmt::Display for TokenOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn checksum(body: &str) -> String {
    format!("{:0CHECKSUM_DIGITS$x}", crc32fast::hash(body.as_bytes()))
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn origin(url: &str) -> TokenOrigin {
        TokenOrigin::parse(url).unwrap()
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (url, same) in [
            ("https://control.example.com", "https://CONTROL.example.com:443/convex/"),
            ("https://control.example.com", "https://control.example.com./"),
            ("http://127.0.0.1:7310", "http://localhost:7310"),
            ("http://[::1]:7310", "http://localhost:7310/"),
        ] {
            assert_eq!(origin(url), origin(same), "{url}");
        }
        for (url, other) in [
            ("https://control.example.com", "http://control.example.com"),
            ("https://control.example.com", "https://control.example.com:8443"),
            ("https://control.example.com", "https://control.example.com.evil.test"),
            ("https://control.example.com", "https://control.example.com@evil.test"),
            ("http://127.0.0.1:7310", "http://127.0.0.1:7311"),
        ] {
            assert_ne!(origin(url).hash(), origin(other).hash(), "{url}");
        }
        assert_eq!([TokenOrigin::parse("ftp://example.com"), TokenOrigin::parse("example.com")], [None, None]);
    }

    #[test]
    fn a_token_goes_to_the_origins_that_it_was_issued_for() {
        let (home, second, evil) = (origin("https://a.test"), origin("http://127.0.0.1:7310"), origin("https://evil.test"));
        let bound = format_token("abcdefghij", &[7; 32], &[home.clone(), second.clone()]);
        for (origin, expected) in [(&home, OriginMatch::Bound), (&second, OriginMatch::Bound), (&evil, OriginMatch::Foreign)] {
            assert_eq!(match_origin(&bound, origin), expected, "{origin}");
        }
        let unbound = format_token("abcdefghij", &[7; 32], &[]);
        assert_eq!(match_origin(&unbound, &home), OriginMatch::Unbound);
        assert_eq!(match_origin(&Secret::new("no token"), &home), OriginMatch::Unbound);
    }

    #[test]
    fn tokens_of_earlier_releases_are_tokens_still() {
        // Issued by the release of November 2026.
        let body = format!("abcdefghij_{}", "0f".repeat(32));
        let earlier = format!("cvxi_{body}{:08x}", crc32fast::hash(body.as_bytes()));
        assert_eq!(TokenParts::parse(&earlier), Some(TokenParts { id: "abcdefghij", origins: Vec::new() }));
        for damaged in [&earlier[1..], &earlier[..earlier.len() - 1], &format!("{earlier}0"), "cvxi_", "cvxi_ä", ""] {
            assert_eq!(TokenParts::parse(damaged), None, "{damaged}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_and_no_changed_character_is_a_token(
            text in "(cvxi_)?[a-f0-9_ä]{0,120}", at in 0_usize..100, to in "[0-9a-f_]",
        ) {
            let _ = TokenParts::parse(&text);
            let token = format_token("abcdefghij", &[7; 32], &[origin("https://a.test")]).expose().to_owned();
            let mut changed = token.clone();
            changed.replace_range(at..=at, &to);
            prop_assert_eq!(TokenParts::parse(&changed).is_some(), changed == token);
        }
    }
}
