//! Databases on servers of the user's own: from a placement to what `database` needs, and from what it says to words.
//!
//! Must not do: decide whether a database is made, kept or dropped.

use std::time::Duration;

use super::effects::failed_with;
use crate::api::ProgressFn;
use crate::authority::EffectResult;
use crate::convex::database_url::{ROLE_PASSWORD, role_name};
use crate::database::{
    self, BackendRole, DatabaseError, DatabaseOrigin, DatabaseOwner, DatabaseServer, DatabaseSpec, Expectation, Prepared,
    Product, Released,
};
use crate::model::{
    DatabaseReclaim, DatabaseRole, Diagnostic, FieldPath, Files, ResolvedBackend, STORAGE_URL, Secret, error_chain,
};

/// From here on a backend that asks its database many questions for one of its own feels the distance.
const HIGH_LATENCY: Duration = Duration::from_millis(5);

/// Prepares the database of a backend.
pub(super) async fn prepare(placement: &ResolvedBackend, notice: ProgressFn<'_>) -> EffectResult {
    let wanted = database_spec(placement);
    let prepared = match database_server(placement) {
        Ok(server) => database::prepare(&server, &wanted).await,
        Err(error) => Err(error),
    };
    match prepared {
        Ok(prepared) => {
            for words in notes(placement, &wanted, &prepared) {
                notice(words);
            }
            EffectResult::DatabasePrepared
        }
        Err(error) => failed_with(database_finding(placement, &error)),
    }
}

/// Gives the database of a backend that is gone back, or drops it.
pub(super) async fn release(placement: &ResolvedBackend, disposal: DatabaseReclaim, notice: ProgressFn<'_>) -> EffectResult {
    let wanted = database_spec(placement);
    let released = match database_server(placement) {
        Ok(server) => database::release(&server, &wanted, disposal).await,
        Err(error) => Err(error),
    };
    let name = &wanted.database;
    match (released, disposal) {
        (Ok(Released::Retained), _) => notice(format!("the database `{name}` stays on its server")),
        (Ok(Released::Dropped), _) => notice(format!("the database `{name}` was dropped")),
        (Ok(Released::Absent), _) => {}
        (Ok(Released::NotOwned), _) => notice(format!("the database `{name}` is another backend's and was left as it is")),
        // It was to stay, and it does; the next backend of this name may have to be told by hand that it is free.
        (Err(error), DatabaseReclaim::Retain) => {
            notice(format!(
                "the database `{name}` stays on its server, which could not be told that it is free: {}",
                error_chain(&error)
            ));
        }
        (Err(error), DatabaseReclaim::Delete) => return failed_with(database_finding(placement, &error)),
    }
    EffectResult::DatabaseReleased
}

fn database_server(placement: &ResolvedBackend) -> Result<DatabaseServer, DatabaseError> {
    let url = placement.secrets.get(&FieldPath::new(STORAGE_URL)).cloned().unwrap_or_else(|| Secret::new(""));
    DatabaseServer::new(placement.spec.storage.clone(), url)
}

fn database_spec(placement: &ResolvedBackend) -> DatabaseSpec {
    let has_role = placement.spec.storage.server().is_some_and(|server| server.role == DatabaseRole::LeastPrivilege);
    let password = placement.secrets.get(&FieldPath::new(ROLE_PASSWORD)).filter(|_| has_role).cloned();
    DatabaseSpec {
        database: placement.instance_name.database(),
        owner: DatabaseOwner { backend: placement.id.clone(), label: format!("{}/{}", placement.project, placement.name) },
        role: BackendRole { name: role_name(&placement.id), password },
        expectation: if placement.has_been_ready { Expectation::MustExist } else { Expectation::MayCreate },
    }
}

/// What is worth saying about a database that can be used.
fn notes(placement: &ResolvedBackend, wanted: &DatabaseSpec, prepared: &Prepared) -> Vec<String> {
    let name = &wanted.database;
    let mut notes = Vec::new();
    match prepared.origin {
        DatabaseOrigin::Created => notes.push(format!("the database `{name}` was made on {}", prepared.server)),
        DatabaseOrigin::FoundEmpty => notes.push(format!("the database `{name}` was there and empty, and is used")),
        DatabaseOrigin::Retained => {
            let files = match placement.spec.files {
                Files::Local => "; its files and functions were kept elsewhere and are gone, so deploy again",
                Files::S3(_) => "",
            };
            notes.push(format!("the database `{name}` was left by an earlier backend and is used with its documents{files}"));
        }
        DatabaseOrigin::AlreadyOwned => {}
    }
    if prepared.origin != DatabaseOrigin::AlreadyOwned && prepared.server.product == Product::MariaDb {
        notes.push(format!("the server is {}, and Convex itself is tried with MySQL 8 only", prepared.server));
    }
    if prepared.round_trip > HIGH_LATENCY {
        notes.push(format!(
            "one question to the database takes {:.1} ms, and a request asks many: move the two closer together",
            prepared.round_trip.as_secs_f64() * 1000.0
        ));
    }
    notes
}

/// What an error means to a user.
fn database_finding(placement: &ResolvedBackend, error: &DatabaseError) -> Diagnostic {
    let finding = Diagnostic::new(error.code(), format!("the database of `{}`: {}", placement.name, error_chain(error)));
    let name = &placement.name;
    match (error, error.help()) {
        (DatabaseError::DataMissing { .. }, _) => finding.with_help(format!(
            "restore the database, or give its data up with\n    convexinfra destroy {name} --allow-destroy {name}\nand apply again"
        )),
        (_, Some(help)) => finding.with_help(help),
        (_, None) => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::ServerVersion;
    use crate::model::{
        BackendId, BackendName, BackendSpec, Endpoints, Generation, InstanceName, PortPair, ProjectName, ProviderKind,
        ProviderState, ServerStorage, Storage,
    };

    fn placement(role: DatabaseRole) -> ResolvedBackend {
        let mut spec = BackendSpec::new(ProviderKind::Simulated);
        spec.storage = Storage::Postgres(ServerStorage { role, ..ServerStorage::default() });
        let secrets = [(STORAGE_URL, "postgres://me:pw@db"), (ROLE_PASSWORD, "hunter2")];
        ResolvedBackend {
            id: BackendId::new("abc"),
            project: ProjectName::parse("gremlin").unwrap(),
            name: BackendName::parse("dev").unwrap(),
            instance_name: InstanceName::parse("gremlin-dev").unwrap(),
            spec,
            generation: Generation(1),
            instance_secret: Secret::new(""),
            admin_key: Secret::new(""),
            secrets: secrets.into_iter().map(|(path, value)| (FieldPath::new(path), Secret::new(value))).collect(),
            ports: PortPair { api: 1, site: 2 },
            endpoints: Endpoints { url: String::new(), site_url: String::new() },
            has_been_ready: false,
            provider_state: ProviderState::new(),
        }
    }

    #[test]
    fn a_placement_says_which_database_and_whose() {
        let wanted = database_spec(&placement(DatabaseRole::Url));
        assert_eq!((wanted.database.as_str(), wanted.owner.label.as_str()), ("gremlin_dev", "gremlin/dev"));
        // A password from when there was a role is not a reason to make one.
        assert!(wanted.role.password.is_none());
        let with_role = super::database_spec(&placement(DatabaseRole::LeastPrivilege));
        assert_eq!(with_role.role.name, "convex_abc");
        assert_eq!(with_role.role.password.map(|password| password.expose().to_owned()).as_deref(), Some("hunter2"));
    }

    #[test]
    fn only_what_is_worth_it_is_said() {
        let placement = placement(DatabaseRole::Url);
        let said = |origin, product, milliseconds| {
            let server = ServerVersion { product, major: 15, minor: 1 };
            let prepared = Prepared { origin, server, round_trip: Duration::from_millis(milliseconds) };
            notes(&placement, &database_spec(&placement), &prepared)
        };
        assert_eq!(said(DatabaseOrigin::AlreadyOwned, Product::Postgres, 5), Vec::<String>::new());
        assert_eq!(
            said(DatabaseOrigin::Created, Product::Postgres, 1),
            ["the database `gremlin_dev` was made on PostgreSQL 15.1"]
        );
        assert!(said(DatabaseOrigin::AlreadyOwned, Product::MariaDb, 6)[0].contains("takes 6.0 ms"));
        assert!(said(DatabaseOrigin::Retained, Product::Postgres, 1)[0].contains("deploy again"));
    }
}
