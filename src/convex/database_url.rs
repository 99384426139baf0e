//! The URL of a database server, as Convex insists on it.
//!
//! Must not do: connect. A URL holds a password, so no error here shows any part of it but
//! the name of a database.

use url::Url;

use crate::model::{Secret, Storage, Tls};

/// Why Convex would not take a database URL. The backend itself stops with exit code 1 on each of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// Not a URL at all.
    #[error("it is not a URL such as `{example}`")]
    Shape {
        /// What one looks like.
        example: &'static str,
    },
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
}

/// Checks the URL of a server and completes it with what the chosen protection needs.
///
/// # Errors
/// [`DatabaseUrlError`] says why Convex would not take it. For SQLite there is no URL to take.
pub fn server_url(storage: &Storage, url: &Secret) -> Result<Secret, DatabaseUrlError> {
    let (example, schemes, allowed): (_, &[&str], _) = match storage {
        Storage::Sqlite => return Err(DatabaseUrlError::Shape { example: "a path" }),
        Storage::Postgres(_) => {
            ("postgres://user:password@host:5432", &["postgres", "postgresql"], "`postgres` or `postgresql`")
        }
        Storage::Mysql(_) => ("mysql://user:password@host:3306", &["mysql"], "`mysql`"),
    };
    let mut parsed = Url::parse(url.expose()).map_err(|_| DatabaseUrlError::Shape { example })?;
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
    if matches!(storage, Storage::Postgres(server) if server.tls == Tls::Disable) {
        // The flag alone only makes TLS optional, and a certificate that does not verify still ends the start.
        let kept: Vec<(String, String)> = parsed
            .query_pairs()
            .filter(|(name, _)| name != "sslmode")
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        parsed.query_pairs_mut().clear().extend_pairs(kept).append_pair("sslmode", "disable");
        return Ok(Secret::new(parsed.as_str()));
    }
    Ok(url.clone())
}

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
    fn what_convex_refuses_is_refused_here_and_no_password_is_shown() {
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
