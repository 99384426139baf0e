//! Faults on this side of an HTTP request: no certificates of authorities, and a proxy in between.

use std::error::Error;

use hyper_util::client::proxy::matcher::Matcher;

/// Returns whether a client could not be made because this machine has no certificates of authorities.
pub fn lacks_authorities(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("No CA certificates were loaded") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Names the proxy through which requests to a URL go, and how a host is taken out of it; none where they go straight there.
pub fn proxy_hint(url: &str) -> Option<String> {
    hint(&Matcher::from_system(), url)
}

fn hint(proxies: &Matcher, url: &str) -> Option<String> {
    let proxy = proxies.intercept(&url.parse().ok()?)?;
    let (scheme, host) = (proxy.uri().scheme_str().unwrap_or("http"), proxy.uri().host()?);
    let port = proxy.uri().port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    // Its user and its password are not shown.
    Some(format!("through the proxy {scheme}://{host}{port} (`NO_PROXY` takes hosts out)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_named_where_one_is_asked_and_never_with_its_password() {
        let proxies = Matcher::builder().https("http://me:hunter2@proxy.corp:3128").no("internal.example,127.0.0.1").build();
        let said = hint(&proxies, "https://api.example.com/version").unwrap();
        assert!(said.contains("http://proxy.corp:3128") && said.contains("NO_PROXY") && !said.contains("hunter2"), "{said}");
        for url in ["http://api.example.com", "https://a.internal.example", "https://127.0.0.1:1", "no URL"] {
            assert_eq!(hint(&proxies, url), None, "{url}");
        }
    }

    #[test]
    fn a_missing_store_is_told_from_other_errors() {
        let missing = std::io::Error::other("unexpected error: No CA certificates were loaded from the system");
        assert!(lacks_authorities(&missing));
        assert!(!lacks_authorities(&std::io::Error::other("invalid peer certificate: UnknownIssuer")));
    }
}
