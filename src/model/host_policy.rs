//! Which database servers a control plane may connect to.
//!
//! A served control plane connects for others: without a policy, every client that may apply could have it look around in its own
//! network. The default lets only public addresses through.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Which hosts may be connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HostPolicy {
    /// Any: the control plane acts for the user of this machine.
    #[default]
    Any,
    /// Public addresses, and what these rules name.
    Restricted(Vec<HostRule>),
}

/// One entry of `--allow-database-hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostRule {
    /// Every host.
    All,
    /// One host by name, or with a leading dot all below a domain.
    Name(String),
    /// All addresses that share so many leading bits with this one.
    Network(IpAddr, u32),
}

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a host name, `.domain`, an address, `address/bits` nor `*`")]
pub struct HostRuleError(String);

impl FromStr for HostRule {
    type Err = HostRuleError;

    fn from_str(text: &str) -> Result<Self, HostRuleError> {
        let failed = || HostRuleError(text.to_owned());
        if text == "*" {
            return Ok(Self::All);
        }
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        if let Ok(address) = address.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Ok(most), str::parse).map_err(|_| failed())?;
            return if bits <= most { Ok(Self::Network(address, bits)) } else { Err(failed()) };
        }
        let label = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        match bits.is_none() && !text.trim_start_matches('.').is_empty() && text.chars().all(label) {
            true => Ok(Self::Name(text.to_ascii_lowercase())),
            false => Err(failed()),
        }
    }
}

impl HostRule {
    fn covers(&self, host: &str, address: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::Name(name) if name.starts_with('.') => host.ends_with(name.as_str()),
            Self::Name(name) => host == name,
            Self::Network(network, bits) => shares_prefix(*network, address.to_canonical(), *bits),
        }
    }
}

fn shares_prefix(network: IpAddr, address: IpAddr, bits: u32) -> bool {
    let (one, other, width) = match (network, address) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (u128::from(one.to_bits()), u128::from(other.to_bits()), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits(), other.to_bits(), 128),
        _ => return false,
    };
    // A shift by the whole width is none at all.
    bits == 0 || (one ^ other).checked_shr(width - bits).is_none_or(|differing| differing == 0)
}

impl HostPolicy {
    /// Whether nothing is forbidden.
    pub fn allows_any(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Restricted(rules) => rules.contains(&HostRule::All),
        }
    }

    /// Whether a connection to this address, which the host's name resolved to, is allowed.
    pub fn allows(&self, host: &str, address: IpAddr) -> bool {
        *self == Self::Any || is_public(address) || self.allows_inside(host, address)
    }

    /// Whether a connection to this address of a container network is allowed. Networks may be made of any addresses, so one
    /// that would be public elsewhere is none of the internet.
    pub fn allows_inside(&self, host: &str, address: IpAddr) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        match self {
            Self::Any => true,
            Self::Restricted(rules) => rules.iter().any(|rule| rule.covers(&host, address)),
        }
    }
}

/// Whether an address is one of the public internet.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(address) => is_public_v4(address),
            None => is_public_v6(address),
        },
    }
}

/// Whether an address is in what is given out to the public, 2000::/3. Everything else is of one machine or one network, or
/// stands for an IPv4 address in a way that only that network knows.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let is_special =
        // Protocol assignments with Teredo, and documentation.
        (a == 0x2001 && b < 0x200) || (a, b) == (0x2001, 0xdb8) || (a == 0x3fff && b < 0x1000);
    a & 0xe000 == 0x2000 && !is_special
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        // This network, carrier-grade NAT, protocol assignments, benchmarks, reserved.
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a, b, c) == (192, 0, 0)
        || (a == 198 && (18..20).contains(&b))
        || a >= 240;
    !is_special
}

/// The IPv4 address that an IPv6 address stands for: mapped, translated (NAT64) or tunnelled (6to4).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let four = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Some(four(high, low))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &[&str]) -> HostPolicy {
        HostPolicy::Restricted(rules.iter().map(|rule| rule.parse().unwrap()).collect())
    }

    #[test]
    fn only_public_addresses_pass_by_default() {
        for address in ["1.1.1.1", "203.0.114.1", "2606:4700::1111", "64:ff9b::101:101"] {
            assert!(policy(&[]).allows("db.example.com", address.parse().unwrap()), "{address}");
        }
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.7",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "ff02::1",
            "::127.0.0.1",
            "::10.0.0.1",
            "fec0::1",
            "64:ff9b:1::7f00:1",
            "100::1",
            "2001:0:7f00:1::1",
            "2001:db8::1",
            "3fff:1::1",
            "5f00::1",
            "4000::1",
        ] {
            assert!(!policy(&[]).allows("db.example.com", address.parse().unwrap()), "{address}");
            assert!(HostPolicy::Any.allows("db.example.com", address.parse().unwrap()));
        }
    }

    #[test]
    fn no_address_of_a_container_network_is_public() {
        let (inside, metadata) = ("1.1.1.1".parse().unwrap(), "169.254.169.254".parse().unwrap());
        for (rules, address, allowed) in [
            (&[][..], inside, false),
            (&["db"], inside, true),
            (&["1.1.1.0/24"], inside, true),
            (&["1.1.1.0/24"], metadata, false),
            (&["other"], inside, false),
            (&["*"], metadata, true),
        ] {
            assert_eq!(policy(rules).allows_inside("DB", address), allowed, "{rules:?} {address}");
        }
        assert!(policy(&[]).allows("db", inside) && HostPolicy::Any.allows_inside("db", metadata));
    }

    #[test]
    fn rules_name_hosts_domains_addresses_and_networks() {
        let inside: IpAddr = "10.1.2.3".parse().unwrap();
        for (rule, host, allowed) in [
            ("db.internal", "DB.internal.", true),
            ("db.internal", "xdb.internal", false),
            (".internal", "db.internal", true),
            ("10.1.0.0/16", "x", true),
            ("10.1.2.3", "x", true),
            ("10.2.0.0/16", "x", false),
            ("0.0.0.0/0", "x", true),
            ("::/0", "x", false),
            ("*", "x", true),
        ] {
            assert_eq!(policy(&[rule]).allows(host, inside), allowed, "{rule}");
        }
        for text in ["", ".", "10.0.0.0/33", "10.0.0.0/x", "a/8", "a b", "http://x"] {
            assert!(text.parse::<HostRule>().is_err(), "{text}");
        }
    }
}
