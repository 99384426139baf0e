//! The origin that a request came to, to which a token that it creates is bound.

use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::access_log::Peer;
use crate::api::TokenOrigin;

/// Returns the origin by which a client reached the server, as the request, its connection and a proxy before it say.
pub(super) fn request_origin(parts: &Parts) -> Option<TokenOrigin> {
    let peer = parts.extensions.get::<Peer>();
    let is_proxied = peer.is_some_and(|peer| peer.behind_proxy);
    let scheme = match (parts.uri.scheme_str(), peer) {
        // A proxy does TLS, unless it says otherwise.
        _ if is_proxied => last(&parts.headers, "x-forwarded-proto").unwrap_or("https"),
        (Some(scheme), None) => scheme,
        (_, Some(peer)) if peer.is_encrypted => "https",
        _ => "http",
    };
    let host = parts.uri.authority().map(|authority| authority.as_str());
    let host = match last(&parts.headers, "x-forwarded-host").filter(|_| is_proxied) {
        Some(forwarded) => forwarded,
        None => host.or_else(|| last(&parts.headers, header::HOST.as_str()))?,
    };
    TokenOrigin::parse(&format!("{scheme}://{host}"))
}

/// Returns the last value of a header, which the nearest proxy has written.
fn last<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get_all(name).iter().next_back()?.to_str().ok()?.rsplit(',').next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn origin(uri: &str, headers: &[(&str, &str)], peer: Option<(bool, bool)>) -> Option<String> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        if let Some((behind_proxy, is_encrypted)) = peer {
            parts.extensions.insert(Peer { address: "192.0.2.1:1".parse().unwrap(), behind_proxy, is_encrypted });
        }
        request_origin(&parts).map(|origin| origin.to_string())
    }

    #[test]
    fn the_origin_is_the_one_that_the_client_used() {
        let forwarded = [("host", "10.0.0.1:7310"), ("x-forwarded-host", "control.test"), ("x-forwarded-proto", "https")];
        for (uri, headers, peer, expected) in [
            ("/v1/tokens", &[("host", "Control.test:7310")][..], Some((false, true)), Some("https://control.test:7310")),
            ("/v1/tokens", &[("host", "127.0.0.1:7310")], Some((false, false)), Some("http://localhost:7310")),
            ("https://control.test/v1/tokens", &[], Some((false, true)), Some("https://control.test:443")),
            // A Worker has no connection of its own, and whole URLs.
            ("https://control.workers.test/v1/tokens", &[], None, Some("https://control.workers.test:443")),
            ("/v1/tokens", &forwarded, Some((true, false)), Some("https://control.test:443")),
            ("/v1/tokens", &[("host", "control.test")], Some((true, false)), Some("https://control.test:443")),
            // Without a proxy any client may send these headers.
            ("/v1/tokens", &forwarded, Some((false, false)), Some("http://10.0.0.1:7310")),
            ("/v1/tokens", &[], Some((false, false)), None),
        ] {
            assert_eq!(origin(uri, headers, peer).as_deref(), expected, "{uri} {headers:?} {peer:?}");
        }
    }
}
