//! Judges whether a host is the machine that uses it: the one answer for tokens, downloads, proxies, databases and lints.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Returns whether a connection to a host reaches only this machine: `localhost`, the names below it (RFC 6761), and
/// loopback addresses. What is sent there in clear does not leave the machine.
pub fn is_loopback_host<S: AsRef<str>>(host: &Host<S>) -> bool {
    match address(host) {
        Some(address) => address.is_loopback(),
        None => matches!(host, Host::Domain(name) if is_localhost(name.as_ref())),
    }
}

/// Returns whether a host means the machine that uses it: loopback, or the unspecified address, which systems connect to
/// themselves or to nothing.
pub fn is_local_host<S: AsRef<str>>(host: &Host<S>) -> bool {
    is_loopback_host(host) || address(host).is_some_and(|address| address.is_unspecified())
}

/// Returns whether a URL reaches only this machine.
pub fn is_loopback_url(url: &Url) -> bool {
    url.host().is_some_and(|host| is_loopback_host(&host))
}

/// Returns whether a text is a URL that means the machine that uses it.
pub fn is_local_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| url.host().is_some_and(|host| is_local_host(&host)))
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Returns the address that a host is; an IPv4 address that is mapped into IPv6 is the IPv4 address.
fn address<S: AsRef<str>>(host: &Host<S>) -> Option<IpAddr> {
    match host {
        // In schemes that browsers do not know an IPv4 address stays text.
        Host::Domain(name) => name.as_ref().parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        Host::Ipv4(address) => Some(IpAddr::V4(*address)),
        Host::Ipv6(address) => Some(Ipv6Addr::to_canonical(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_judgement_for_every_spelling() {
        for (text, loopback, local) in [
            ("http://localhost", true, true),
            ("http://LOCALHOST:3210/x", true, true),
            ("http://localhost.:3210", true, true),
            ("http://app.localhost", true, true),
            ("http://user:password@localhost", true, true),
            ("http://127.0.0.1:1", true, true),
            ("http://127.9.9.9", true, true),
            ("http://2130706433", true, true),
            ("http://0x7f.1", true, true),
            ("http://[::1]:3210", true, true),
            ("http://[::ffff:127.0.0.1]", true, true),
            ("postgres://me@127.0.0.1", true, true),
            ("mysql://me@[::1]:3307", true, true),
            ("http://0.0.0.0", false, true),
            ("http://[::]:80", false, true),
            ("postgres://me@0.0.0.0", false, true),
            ("http://localhost@example.com", false, false),
            ("http://127.0.0.1:80@example.com", false, false),
            ("http://example.com#@localhost", false, false),
            ("http://example.com/localhost", false, false),
            ("http://localhost.example.com", false, false),
            ("http://notlocalhost", false, false),
            ("http://127.0.0.1.nip.io", false, false),
            ("http://10.0.0.1", false, false),
            ("http://[fe80::1]", false, false),
            ("http://[::ffff:10.0.0.1]", false, false),
            ("localhost", false, false),
            ("embedded", false, false),
            ("", false, false),
        ] {
            assert_eq!(Url::parse(text).is_ok_and(|url| is_loopback_url(&url)), loopback, "{text}");
            assert_eq!(is_local_url(text), local, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn userinfo_and_path_decide_nothing(user in "[a-z0-9.:]{0,12}", path in "[a-z0-9@:./]{0,12}", port in 1_u16..) {
            let remote = format!("http://{user}@example.com:{port}/{path}");
            proptest::prop_assert!(!is_local_url(&remote), "{}", remote);
            let local = format!("http://{user}@[::1]:{port}/{path}");
            proptest::prop_assert!(is_local_url(&local), "{}", local);
        }
    }
}
