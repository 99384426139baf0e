//! Where a backend is reached whose ports are published on the machine that it runs on.

use std::net::{IpAddr, Ipv4Addr};

use super::spec::BackendSpec;

impl BackendSpec {
    /// The host under which clients of this machine reach its ports, as in a URL: the one address that they are
    /// published on, and loopback where that is every address or none is named.
    pub fn port_host(&self) -> String {
        let named = (self.provider.descriptor().publish_address)(&self.settings);
        let address = named.and_then(|text| text.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        match address.filter(|address| !address.is_unspecified()) {
            Some(IpAddr::V6(address)) => format!("[{address}]"),
            Some(IpAddr::V4(address)) => address.to_string(),
            None => Ipv4Addr::LOCALHOST.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ProviderKind;

    #[test]
    fn the_host_of_a_url_is_the_one_address_that_ports_are_published_on() {
        let mut spec = BackendSpec::new(ProviderKind::Docker);
        for (publish, host) in [
            (None, "127.0.0.1"),
            (Some("127.0.0.9"), "127.0.0.9"),
            (Some("192.0.2.7"), "192.0.2.7"),
            (Some("::1"), "[::1]"),
            (Some("[2001:db8::7]"), "[2001:db8::7]"),
            (Some("0.0.0.0"), "127.0.0.1"),
            (Some("::"), "127.0.0.1"),
        ] {
            spec.settings.docker.publish = publish.map(str::to_owned);
            assert_eq!(spec.port_host(), host, "{publish:?}");
        }
        spec.settings.docker.publish = Some("127.0.0.9".to_owned());
        spec.provider = ProviderKind::Local;
        assert_eq!(spec.port_host(), "127.0.0.1", "the settings of another provider say nothing");
    }
}
