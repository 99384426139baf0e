//! The URL of a database server: as Convex insists on it, as a container needs it, and the part that names the server.
//!
//! Must not do: connect. A URL holds a password, so no error here shows any part of it but
//! the name of a database.

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::model::{BackendId, Secret, Storage, Tls, is_local_host};

/// Says why Convex would not take a database URL. The backend itself stops with exit code 1 on each of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// Not a URL at all.
    #[error("it is not a URL such as `{example}`")]
    Malformed {
        /// What one looks like.
        example: &'static str,
    },
    /// User or password have special characters that are not percent-encoded.
    #[error(
        "its user or password has a special character that is not percent-encoded: `@` is written `%40`, `:` `%3A`, `/` `%2F`, `#` \
         `%23`, `?` `%3F`"
    )]
    Escape,
    /// A scheme of something else.
    #[error("its scheme is not one of this engine, for which it is {allowed}")]
    Scheme {
        /// What it may be.
        allowed: &'static str,
    },
    /// The URL names a database, and Convex derives the name from the instance.
    #[error("it names the database `{path}`: leave the path away, Convex uses the instance's name")]
    Path {
        /// The path found.
        path: String,
    },
    /// The URL names no user.
    #[error("it names no user")]
    User,
    /// The URL names no host.
    #[error("it names no host")]
    Host,
    /// The URL names a socket in a directory of this machine.
    #[error("it names a Unix socket, which no container sees: name a host and a port")]
    Socket,
}

/// The name under which a container reaches the machine of its engine, once its engine was told
/// `host.docker.internal:host-gateway` as an extra host.
pub const CONTAINER_HOST: &str = "host.docker.internal";

/// A server's URL as a process inside a container needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerUrl {
    /// The URL.
    pub url: Secret,
    /// How the server is reached.
    pub reachability: Reachability,
}

/// Says how a container reaches a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachability {
    /// Under the name in the URL.
    Direct,
    /// The URL named this machine, and now names [`CONTAINER_HOST`]. A certificate that is verified has to carry that
    /// name as well, and the server has to listen on more than the loopback address.
    HostGateway,
}

/// Checks the URL of a server and completes it with what the chosen protection needs.
///
/// # Errors
/// [`DatabaseUrlError`] says why Convex would not take it. For SQLite there is no URL to take.
pub fn server_url(storage: &Storage, url: &Secret) -> Result<Secret, DatabaseUrlError> {
    let (example, schemes, allowed): (_, &[&str], _) = match storage {
        Storage::Sqlite => return Err(DatabaseUrlError::Malformed { example: "a path" }),
        Storage::Postgres(_) => {
            ("postgres://user:password@host:5432", &["postgres", "postgresql"], "`postgres` or `postgresql`")
        }
        Storage::Mysql(_) => ("mysql://user:password@host:3306", &["mysql"], "`mysql`"),
    };
    if has_raw_special_character(url.expose()) {
        return Err(DatabaseUrlError::Escape);
    }
    let mut parsed = Url::parse(url.expose()).map_err(|_| DatabaseUrlError::Malformed { example })?;
    if !schemes.contains(&parsed.scheme()) {
        return Err(DatabaseUrlError::Scheme { allowed });
    }
    if parsed.host_str().is_none_or(str::is_empty) {
        return Err(DatabaseUrlError::Host);
    }
    if parsed.username().is_empty() {
        return Err(DatabaseUrlError::User);
    }
    if !matches!(parsed.path(), "" | "/") {
        // With an `@` in it, this is the rest of a password that has a slash in it.
        let path = Some(parsed.path().trim_start_matches('/')).filter(|path| !path.contains('@')).unwrap_or("…");
        return Err(DatabaseUrlError::Path { path: path.to_owned() });
    }
    // For PostgreSQL the flag alone only makes TLS optional, and a certificate that does not verify still ends the start.
    let (without, instead): (&[&str], _) = match storage {
        Storage::Postgres(server) if server.tls == Tls::Disable => (&["sslmode"], Some(("sslmode", "disable"))),
        Storage::Mysql(server) if server.tls == Tls::Disable => (&["require_ssl", "verify_ca", "verify_identity"], None),
        _ => return Ok(url.clone()),
    };
    let kept: Vec<(String, String)> = parsed
        .query_pairs()
        .filter(|(name, _)| !without.contains(&name.as_ref()))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    if kept.is_empty() && instead.is_none() {
        parsed.set_query(None);
    } else {
        parsed.query_pairs_mut().clear().extend_pairs(kept).extend_pairs(instead);
    }
    Ok(Secret::new(parsed.as_str()))
}

/// Returns whether user and password hold an `@`, `/`, `?` or `#` as it is: parsers disagree about where such a URL's host
/// begins.
fn has_raw_special_character(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.matches('@').count() {
        // A URL without a user has no business with an `@`, but for the values of its parameters.
        0 => {
            rest.split('?').next().unwrap_or_default().contains('@')
                || (rest.contains('@') && authority.contains(':') && !has_port(authority))
        }
        1 => false,
        _ => true,
    }
}

/// Returns whether what follows the last colon is a port.
fn has_port(authority: &str) -> bool {
    authority.rsplit_once(':').is_some_and(|(_, port)| port.is_empty() || port.parse::<u16>().is_ok())
}

/// Names this machine in a way that works from inside a container; any other host stays as it is.
///
/// # Errors
/// [`DatabaseUrlError`] for what is no URL of a server, or names a socket.
pub fn container_url(url: &Secret) -> Result<ContainerUrl, DatabaseUrlError> {
    let mut parsed = Url::parse(url.expose()).map_err(|_| DatabaseUrlError::Malformed { example: EXAMPLE })?;
    let in_query = |name: &str| parsed.query_pairs().any(|(key, value)| key == name && value.starts_with('/'));
    match parsed.host() {
        None => return Err(DatabaseUrlError::Host),
        Some(Host::Domain(name)) if percent_decode_str(name).next() == Some(b'/') => return Err(DatabaseUrlError::Socket),
        Some(_) if in_query("host") || in_query("socket") => return Err(DatabaseUrlError::Socket),
        Some(host) if !is_local_host(&host) => {
            return Ok(ContainerUrl { url: url.clone(), reachability: Reachability::Direct });
        }
        Some(_) => {}
    }
    parsed.set_host(Some(CONTAINER_HOST)).map_err(|_| DatabaseUrlError::Host)?;
    Ok(ContainerUrl { url: Secret::new(parsed.as_str()), reachability: Reachability::HostGateway })
}

/// Returns which server a URL names, as `host:port`: the part of it whose change means other data. User, password and
/// parameters are no part of it, and all names of this machine are one.
///
/// # Errors
/// [`DatabaseUrlError`] when Convex would not take the URL.
pub fn server_endpoint(storage: &Storage, url: &Secret) -> Result<String, DatabaseUrlError> {
    let checked = server_url(storage, url)?;
    let parsed = Url::parse(checked.expose()).map_err(|_| DatabaseUrlError::Malformed { example: EXAMPLE })?;
    let host = parsed.host().ok_or(DatabaseUrlError::Host)?;
    let name = if is_local_host(&host) { "localhost".to_owned() } else { host.to_string().to_ascii_lowercase() };
    let usual = if matches!(storage, Storage::Mysql(_)) { 3306 } else { 5432 };
    let mut part = format!("{name}:{}", parsed.port().unwrap_or(usual));
    // Both drivers let parameters overrule the host.
    for (key, value) in parsed.query_pairs().filter(|(key, _)| matches!(key.as_ref(), "host" | "hostaddr" | "port" | "socket"))
    {
        part.push_str(&format!("&{key}={value}"));
    }
    Ok(part)
}

/// The field under which a placement has the password of the role that its backend enters with, where that is not the
/// user of the URL.
pub const ROLE_PASSWORD: &str = "storage.role_password";

/// Returns the name of the role that one backend may enter its server with. The identity makes it the only one of its name
/// on any server, and keeps it shorter than the 32 characters of MySQL.
pub fn role_name(id: &BackendId) -> String {
    format!("convex_{id}")
}

/// Returns the URL of a server with other credentials.
///
/// # Errors
/// [`DatabaseUrlError`] for what is no URL of a server.
pub fn with_credentials(url: &Secret, user: &str, password: &Secret) -> Result<Secret, DatabaseUrlError> {
    let mut parsed = Url::parse(url.expose()).map_err(|_| DatabaseUrlError::Malformed { example: EXAMPLE })?;
    parsed.set_username(user).map_err(|()| DatabaseUrlError::Host)?;
    parsed.set_password(Some(password.expose())).map_err(|()| DatabaseUrlError::Host)?;
    Ok(Secret::new(parsed.as_str()))
}

const EXAMPLE: &str = "postgres://user:password@host:5432";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ServerStorage;

    fn postgres(tls: Tls) -> Storage {
        Storage::Postgres(ServerStorage { tls, ..ServerStorage::default() })
    }

    fn checked(storage: &Storage, url: &str) -> Result<String, DatabaseUrlError> {
        server_url(storage, &Secret::new(url)).map(|url| url.expose().to_owned())
    }

    #[test]
    fn a_url_without_path_and_with_user_is_taken_as_it_is() {
        for url in ["postgres://me:pw@db:5432", "postgresql://me@db/", "postgres://me:p%40@[::1]:5432?x=1"] {
            assert_eq!(checked(&postgres(Tls::Verify), url).as_deref(), Ok(url));
        }
        assert_eq!(checked(&Storage::Mysql(ServerStorage::default()), "mysql://me@db").as_deref(), Ok("mysql://me@db"));
    }

    #[test]
    fn without_tls_the_url_says_so_once() {
        let url = checked(&postgres(Tls::Disable), "postgres://me:pw@db:5432?sslmode=require&application_name=a");
        assert_eq!(url.as_deref(), Ok("postgres://me:pw@db:5432?application_name=a&sslmode=disable"));
        assert_eq!(checked(&postgres(Tls::Disable), "postgres://me@db").as_deref(), Ok("postgres://me@db?sslmode=disable"));
    }

    #[test]
    fn without_tls_a_mysql_url_does_not_ask_for_it() {
        let storage = Storage::Mysql(ServerStorage { tls: Tls::Disable, ..ServerStorage::default() });
        assert_eq!(checked(&storage, "mysql://me@db?require_ssl=true&verify_ca=false").as_deref(), Ok("mysql://me@db"));
        assert_eq!(checked(&storage, "mysql://me@db?require_ssl=true&pool_min=1").as_deref(), Ok("mysql://me@db?pool_min=1"));
    }

    #[test]
    fn a_url_that_convex_rejects_is_refused_without_its_password() {
        let storage = postgres(Tls::Verify);
        assert!(matches!(checked(&storage, "postgres://me:hunter2@db/x"), Err(DatabaseUrlError::Path { path }) if path == "x"));
        assert_eq!(checked(&storage, "postgres://db:5432"), Err(DatabaseUrlError::User));
        assert!(matches!(checked(&storage, "mysql://me:hunter2@db"), Err(DatabaseUrlError::Scheme { .. })));
        assert!(matches!(checked(&storage, "me:hunter2"), Err(error) if !error.to_string().contains("hunter2")));
        assert!(matches!(checked(&storage, "no url: hunter2"), Err(error) if !error.to_string().contains("hunter2")));
        assert_eq!(checked(&storage, "postgres:///"), Err(DatabaseUrlError::Host));
        for slashed in ["postgres://me:12/hunter2@db", "postgres://me:p@ss:12/hunter2@db"] {
            assert!(matches!(checked(&storage, slashed), Err(error) if !format!("{error:?}").contains("hunter2")));
        }
    }

    /// The parsers of a URL disagree about special characters that stand as they are, and agree about encoded ones.
    #[test]
    fn passwords_with_special_characters_are_encoded_or_refused_with_how() {
        let mysql = Storage::Mysql(ServerStorage::default());
        for (raw, encoded) in [("@", "%40"), ("/", "%2F"), ("#", "%23"), ("?", "%3F"), (":", "%3A"), ("%", "%25")] {
            let password = format!("p{raw}hunter{raw}two");
            let written = format!("p{encoded}hunter{encoded}two");
            let url = format!("postgres://conv:{written}@127.0.0.1:25432");
            assert_eq!(checked(&postgres(Tls::Verify), &url).as_deref(), Ok(url.as_str()));
            let config: tokio_postgres::Config = url.parse().unwrap();
            assert_eq!(config.get_password(), Some(password.as_bytes()), "{url}");
            let url = format!("mysql://conv:{written}@127.0.0.1:23306");
            assert_eq!(checked(&mysql, &url).as_deref(), Ok(url.as_str()));
            assert_eq!(mysql_async::Opts::from_url(&url).unwrap().pass(), Some(password.as_str()), "{url}");
            if !"@/#?".contains(raw) {
                continue;
            }
            for (storage, scheme) in [(&postgres(Tls::Verify), "postgres"), (&mysql, "mysql")] {
                let error = checked(storage, &format!("{scheme}://conv:{password}@127.0.0.1:25432")).unwrap_err();
                assert_eq!(error, DatabaseUrlError::Escape, "{raw}");
                let said = error.to_string();
                assert!(said.contains(&format!("`{encoded}`")) && !said.contains("hunter"), "{said}");
            }
        }
    }

    #[test]
    fn this_machine_has_another_name_inside_a_container() {
        let within = |url: &str| container_url(&Secret::new(url)).map(|made| (made.url.expose().to_owned(), made.reachability));
        for (url, inside) in [
            (
                "postgres://me:p%40w@localhost:5433?sslmode=disable",
                "postgres://me:p%40w@host.docker.internal:5433?sslmode=disable",
            ),
            ("postgres://me@LOCALHOST", "postgres://me@host.docker.internal"),
            ("postgresql://me@127.0.0.1", "postgresql://me@host.docker.internal"),
            ("mysql://me@127.8.9.1:3307/", "mysql://me@host.docker.internal:3307/"),
            ("mysql://me@[::1]:3307", "mysql://me@host.docker.internal:3307"),
            ("postgres://me@0.0.0.0", "postgres://me@host.docker.internal"),
            ("postgres://me@db.localhost", "postgres://me@host.docker.internal"),
        ] {
            assert_eq!(within(url), Ok((inside.to_owned(), Reachability::HostGateway)), "{url}");
        }
        for url in [
            "postgres://me:pw@db.example.com:5432",
            "mysql://me@10.0.0.7",
            "postgres://me@[2001:db8::1]",
            "postgres://me@localhost.example.com",
        ] {
            assert_eq!(within(url), Ok((url.to_owned(), Reachability::Direct)), "{url}");
        }
        for url in ["postgres://me@%2Fvar%2Frun", "postgres://me@localhost?host=/var/run", "mysql://me@localhost?socket=/run/x"]
        {
            assert_eq!(within(url), Err(DatabaseUrlError::Socket), "{url}");
        }
        assert!(within("hunter2").is_err());
    }

    #[test]
    fn a_server_is_identified_by_host_and_port() {
        let postgres = postgres(Tls::Verify);
        let part = |url: &str| server_endpoint(&postgres, &Secret::new(url));
        let one = part("postgres://me:pw@db.example.com").unwrap();
        assert_eq!(one, "db.example.com:5432");
        for same in ["postgresql://you:other@db.example.com:5432/", "postgres://me@DB.example.com?sslmode=require&x=y"] {
            assert_eq!(part(same).as_ref(), Ok(&one), "{same}");
        }
        for other in
            ["postgres://me:pw@db2.example.com", "postgres://me:pw@db.example.com:5433", "postgres://me@db.example.com?host=x"]
        {
            assert_ne!(part(other).as_ref(), Ok(&one), "{other}");
        }
        assert_eq!(part("postgres://me@127.0.0.1"), part("postgres://me@localhost:5432"));
        let mysql = Storage::Mysql(ServerStorage::default());
        assert_eq!(server_endpoint(&mysql, &Secret::new("mysql://me@db")).as_deref(), Ok("db:3306"));
        assert_eq!(part("postgres://db"), Err(DatabaseUrlError::User));
    }

    #[test]
    fn other_credentials_are_written_so_that_they_come_back() {
        let password = Secret::new("p@ss/w:rd?#%");
        let made = with_credentials(&Secret::new("postgres://me:pw@db:5433?x=1"), "convex_a", &password).unwrap();
        let parsed = Url::parse(made.expose()).unwrap();
        assert_eq!(
            (parsed.username(), parsed.host_str(), parsed.port(), parsed.query()),
            ("convex_a", Some("db"), Some(5433), Some("x=1"))
        );
        assert_eq!(percent_decode_str(parsed.password().unwrap()).decode_utf8().unwrap(), password.expose());
    }

    proptest::proptest! {
        #[test]
        fn no_url_is_too_odd_and_no_password_comes_back(password in "[a-z0-9]{12}", rest in ".{0,20}", tls in 0..2) {
            let storage = postgres(if tls == 0 { Tls::Disable } else { Tls::Verify });
            if let Err(error) = checked(&storage, &format!("postgres://me:{password}@db{rest}")) {
                let shown = format!("{error} {error:?}");
                proptest::prop_assert!(!shown.contains(&password));
            }
            let _ = checked(&storage, &rest);
        }
    }
}
