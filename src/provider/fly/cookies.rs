//! Keeps the cookies of Fly's Machines API (RFC 6265). They tie the requests about an app to the node that made it, and a
//! new app is known to that node alone for a while.
//!
//! Must not do: hand a cookie to another service, or show one.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::model::{Secret, Timestamp};

/// How many cookies are kept; the oldest go first.
const MAX_COOKIES: usize = 256;
/// How long a cookie may be.
const MAX_COOKIE_BYTES: usize = 4096;

/// The cookies of one server.
#[derive(Default)]
pub(super) struct CookieJar {
    cookies: Mutex<VecDeque<Cookie>>,
}

struct Cookie {
    name: String,
    value: Secret,
    path: String,
    expires_at: Option<Timestamp>,
}

impl CookieJar {
    /// Returns the value of the header `Cookie` for a request, the cookies with the longest path first.
    pub(super) fn header(&self, path: &str, now: Timestamp) -> Option<Secret> {
        let mut cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        cookies.retain(|cookie| cookie.expires_at.is_none_or(|end| end > now));
        let mut fitting: Vec<&Cookie> = cookies.iter().filter(|cookie| covers(&cookie.path, path)).collect();
        fitting.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let pairs: Vec<String> = fitting.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value.expose())).collect();
        (!pairs.is_empty()).then(|| Secret::new(pairs.join("; ")))
    }

    /// Keeps what a response to a request for `path` sets: one line of a header `Set-Cookie`.
    pub(super) fn store(&self, path: &str, line: &str, now: Timestamp) {
        let mut parts = line.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { return };
        let is_fit = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
        if name.is_empty() || !is_fit(name) || !is_fit(value) || name.len() + value.len() > MAX_COOKIE_BYTES {
            return;
        }
        let mut cookie =
            Cookie { name: name.to_owned(), value: Secret::new(value), path: default_path(path), expires_at: None };
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key.to_ascii_lowercase().as_str() {
                "path" if value.starts_with('/') => cookie.path = value.to_owned(),
                "max-age" => {
                    let seconds: i64 = value.parse().unwrap_or(i64::MAX / 2000);
                    cookie.expires_at = Some(now.plus_milliseconds(seconds.saturating_mul(1000).max(0)));
                }
                _ => {}
            }
        }
        let mut cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        cookies.retain(|known| known.name != cookie.name || known.path != cookie.path);
        if cookie.expires_at.is_none_or(|end| end > now) {
            cookies.push_back(cookie);
        }
        if cookies.len() > MAX_COOKIES {
            cookies.pop_front();
        }
    }
}

/// The path of a cookie that names none: the folder of the request.
fn default_path(path: &str) -> String {
    match path.rfind('/') {
        Some(end) if end > 0 => path[..end].to_owned(),
        _ => "/".to_owned(),
    }
}

fn covers(cookie: &str, path: &str) -> bool {
    path.strip_prefix(cookie).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || cookie.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn sent(jar: &CookieJar, path: &str) -> String {
        jar.header(path, NOW).map_or_else(String::new, |secret| secret.expose().to_owned())
    }

    #[test]
    fn a_cookie_goes_to_its_path_and_below() {
        let jar = CookieJar::default();
        jar.store("/v1/apps", "node=a; Path=/v1/apps/one; HttpOnly; Secure", NOW);
        jar.store("/v1/apps", "node=b; path=/v1/apps/two", NOW);
        assert_eq!(sent(&jar, "/v1/apps/one"), "node=a");
        assert_eq!(sent(&jar, "/v1/apps/one/machines"), "node=a");
        assert_eq!(sent(&jar, "/v1/apps/two/machines"), "node=b");
        assert_eq!(sent(&jar, "/v1/apps/one-more"), "");
        assert_eq!(sent(&jar, "/v1/apps"), "");
    }

    #[test]
    fn a_cookie_without_a_path_goes_to_the_folder_of_its_request() {
        let jar = CookieJar::default();
        jar.store("/v1/apps/one/machines", "node=a", NOW);
        assert_eq!(sent(&jar, "/v1/apps/one/volumes"), "node=a");
        assert_eq!(sent(&jar, "/v1/apps/two"), "");
    }

    #[test]
    fn a_cookie_is_replaced_and_ends() {
        let jar = CookieJar::default();
        jar.store("/", "node=a; path=/", NOW);
        jar.store("/", "node=b; path=/; max-age=5", NOW);
        assert_eq!(sent(&jar, "/v1"), "node=b");
        assert!(jar.header("/v1", NOW.plus_milliseconds(5000)).is_none());
        jar.store("/", "node=c; path=/", NOW);
        jar.store("/", "node=; path=/; max-age=0", NOW);
        assert_eq!(sent(&jar, "/v1"), "");
    }

    #[test]
    fn malformed_cookies_are_ignored() {
        let jar = CookieJar::default();
        for line in ["", "node", "=a", "no de=a", "node=a\r\nx: y", &format!("node={}", "a".repeat(5000))] {
            jar.store("/", line, NOW);
        }
        assert_eq!(sent(&jar, "/"), "");
        for number in 0..1000 {
            jar.store("/", &format!("n{number}=a"), NOW);
        }
        assert!(jar.cookies.lock().unwrap().len() <= MAX_COOKIES);
    }
}
