//! Databases on servers of the user's own: from a placement to what `database` needs, and from what it says to words.
//!
//! Must not do: decide whether a database is made, kept or dropped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::beside::address_beside_backend;
use super::conversations::MAX_CONVERSATIONS;
use super::findings::Findings;
use super::{Host, buckets};
use crate::api::ProgressFn;
use crate::authority::{DatabaseState, EffectResult, preview_id, volume_disposal};
use crate::convex::database_url::{ROLE_PASSWORD, role_name};
use crate::database::{
    self, BackendRole, DatabaseError, DatabaseOrigin, DatabaseOwner, DatabaseServer, DatabaseSpec, Disposal, Expectation,
    FileStore, Prepared, Released,
};
use crate::model::{
    Certificates, DatabaseReclaim, DatabaseRole, Diagnostic, FieldPath, Files, HostPolicy, ResolvedBackend, STORAGE_URL,
    Secret, Tls, VolumeReclaim, error_chain,
};

/// From here on a backend that asks its database many questions for one of its own feels the distance.
const HIGH_LATENCY: Duration = Duration::from_millis(5);

/// How long a conversation waits for its turn: less than its step may take, and longer than another one does.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(100);

/// Prepares the database of a backend.
pub(super) async fn prepare(host: &Host, placement: &ResolvedBackend, notice: ProgressFn<'_>) -> EffectResult {
    if let Some(folder) = take_given_files(host, placement).await {
        notice(format!("the files in `{}` are taken up with the database", folder.display()));
    }
    let spec = database_spec(placement, files_folder(host, placement));
    let Some(_permit) = permit(host, placement).await else { return EffectResult::failed(busy(placement)) };
    let prepared = match database_server(host, placement).await {
        Ok(server) => database::prepare(&server, &spec).await,
        Err(error) => Err(error),
    };
    match prepared {
        Ok(prepared) => {
            for words in notes(&spec, &prepared) {
                notice(words);
            }
            EffectResult::StoragePrepared
        }
        Err(error) => EffectResult::failed(database_finding(host, placement, &error)),
    }
}

/// Looks whether the database of a backend could be prepared. What cannot be seen now is said, and refuses nothing.
pub(super) async fn look(host: &Host, placement: &ResolvedBackend, findings: &mut Findings) {
    let has_url = placement.secrets.contains_key(&FieldPath::new(STORAGE_URL));
    if !placement.spec.has_own_server() || !has_url {
        return;
    }
    let spec = database_spec(placement, files_folder(host, placement));
    let looked = match database_server(host, placement).await {
        Ok(server) => database::inspect(&server, &spec).await,
        Err(error) => Err(error),
    };
    match looked {
        Ok(()) => {}
        // A refusal for some hosts and a note for others would tell what stands in this network.
        Err(error) if is_for_operators(host, &error) => findings.note(placement, database_finding(host, placement, &error)),
        Err(error @ (DatabaseError::Unreachable { .. } | DatabaseError::Server { .. })) => {
            findings.note(placement, database_finding(host, placement, &error));
        }
        Err(error) => findings.refuse(placement, database_finding(host, placement, &error)),
    }
}

/// Releases, retains or drops the database of a backend that is gone.
pub(super) async fn release(
    host: &Host,
    placement: &ResolvedBackend,
    reclaim: DatabaseReclaim,
    notice: ProgressFn<'_>,
) -> (EffectResult, Option<String>) {
    let spec = database_spec(placement, files_folder(host, placement));
    let keeps_files = volume_disposal(&placement.provider_state) == VolumeReclaim::Retain;
    let disposal = match reclaim {
        DatabaseReclaim::Delete | DatabaseReclaim::DeleteWithFiles => Disposal::Drop,
        DatabaseReclaim::Retain if placement.spec.has_split_data() && keeps_files => Disposal::Retain,
        DatabaseReclaim::Retain => Disposal::Release,
    };
    let Some(_permit) = permit(host, placement).await else { return (EffectResult::failed(busy(placement)), None) };
    let server = database_server(host, placement).await;
    if let (Ok(server), DatabaseReclaim::DeleteWithFiles) = (&server, reclaim)
        && let Err(finding) = remove_objects(host, placement, server, &spec, notice).await
    {
        return (EffectResult::failed(finding), None);
    }
    let released = match server {
        Ok(server) => database::release(&server, &spec, disposal).await,
        Err(error) => Err(error),
    };
    let name = &spec.database;
    let mut prefix = None;
    let state = match released {
        Ok(Released::Retained) if disposal == Disposal::Retain => {
            notice(format!("the database `{name}` stays on its server, and the backend's files stay with it"));
            DatabaseState::Present
        }
        Ok(Released::Retained) => {
            notice(format!("the database `{name}` stays on its server"));
            DatabaseState::Present
        }
        Ok(Released::Dropped { s3_prefix }) => {
            prefix = s3_prefix;
            notice(format!("the database `{name}` was dropped"));
            DatabaseState::Gone
        }
        Ok(Released::Absent) => DatabaseState::Gone,
        Ok(Released::NotOwned) => {
            notice(format!("the database `{name}` is another backend's and was left as it is"));
            DatabaseState::Present
        }
        // It was to stay, and it does; the next backend of this name may have to be told by hand that it is free.
        Err(error) if reclaim == DatabaseReclaim::Retain => {
            let said = database_finding(host, placement, &error).message;
            notice(format!("the database `{name}` stays on its server, which could not be told that it is free: {said}"));
            DatabaseState::Present
        }
        Err(error) => return (EffectResult::failed(database_finding(host, placement, &error)), None),
    };
    (EffectResult::StorageReleased(state), prefix)
}

/// Removes the objects whose prefix a database names: before it is dropped, since nothing else names it.
async fn remove_objects(
    host: &Host,
    placement: &ResolvedBackend,
    server: &database::DatabaseServer,
    spec: &database::DatabaseSpec,
    notice: ProgressFn<'_>,
) -> Result<(), Diagnostic> {
    match database::stored_prefix(server, spec).await {
        Ok(Some(prefix)) => buckets::remove(host, placement, &prefix, notice).await,
        Ok(None) => Ok(()),
        Err(error) => Err(database_finding(host, placement, &error)),
    }
}

/// Moves files that were given to a new backend, where a look named the place for them, to where it keeps its own.
async fn take_given_files(host: &Host, placement: &ResolvedBackend) -> Option<PathBuf> {
    let preview = ResolvedBackend { id: preview_id(&placement.instance_name), ..placement.clone() };
    let (given, own) = (files_folder(host, &preview)?, files_folder(host, placement)?);
    let is_there = async |path: &Path| tokio::fs::try_exists(path).await.unwrap_or(true);
    if placement.has_been_ready || !tokio::fs::metadata(&given).await.is_ok_and(|found| found.is_dir()) || is_there(&own).await
    {
        return None;
    }
    tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(own.parent()?).await.ok()?;
    tokio::fs::rename(&given, &own).await.ok()?;
    // The folders around them, as far as nothing else is in them.
    for folder in given.ancestors().skip(1).take(2) {
        let _ = tokio::fs::remove_dir(folder).await;
    }
    Some(given)
}

/// Waits for the turn of a project that is talking to many servers already.
pub(super) async fn permit(host: &Host, placement: &ResolvedBackend) -> Option<OwnedSemaphorePermit> {
    tokio::time::timeout(PERMIT_TIMEOUT, host.conversations.acquire(&placement.project)).await.ok().flatten()
}

/// Says that the others did not end in time.
fn busy(placement: &ResolvedBackend) -> Diagnostic {
    let message = format!(
        "the database of `{}`: the project `{}` is talking to {MAX_CONVERSATIONS} database servers already, and none of them has \
         answered within {} s",
        placement.name,
        placement.project,
        PERMIT_TIMEOUT.as_secs()
    );
    Diagnostic::new("database.busy", message).with_help("see which of its servers do not answer, and apply again")
}

fn files_folder(host: &Host, placement: &ResolvedBackend) -> Option<PathBuf> {
    host.provider(placement.spec.provider).ok()?.files_folder(placement)
}

pub(super) async fn database_server(host: &Host, placement: &ResolvedBackend) -> Result<DatabaseServer, DatabaseError> {
    let url = placement.secrets.get(&FieldPath::new(STORAGE_URL)).cloned().unwrap_or_else(|| Secret::new(""));
    let ca = authorities(host, placement).await?;
    let name = url::Url::parse(url.expose()).ok().and_then(|url| url.host_str().map(str::to_owned));
    let address = address_beside_backend(host, placement, name.as_deref().unwrap_or_default()).await;
    Ok(DatabaseServer::new(placement.spec.storage.clone(), url, ca, host.database_hosts.clone())?.at(address))
}

/// Returns the certificates of `tls.ca`. Rows of control planes up to 0.1 name a file instead. Where others named it,
/// nothing is said about why it cannot be read: they would learn what is on this machine.
async fn authorities(host: &Host, placement: &ResolvedBackend) -> Result<Option<String>, DatabaseError> {
    let path = match placement.spec.storage.server().map(|server| &server.tls) {
        Some(Tls::Pem(certificates)) => return Ok(Some(certificates.as_str().to_owned())),
        Some(Tls::Ca(path)) => path,
        Some(Tls::Verify | Tls::Disable | Tls::Sealed(_)) | None => return Ok(None),
    };
    let is_opaque = host.database_hosts != HostPolicy::Any;
    let failed = |reason: String| {
        let reason = if is_opaque { "it holds none that this control plane can use".to_owned() } else { reason };
        DatabaseError::Certificates { reason: format!("`{path}`: {reason}") }
    };
    let file = path.clone();
    let read =
        tokio::task::spawn_blocking(move || crate::system::read_regular_text(Path::new(&file), Certificates::MAX_BYTES as u64))
            .await;
    let text = read.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error_chain(&error)))?;
    match database::connect::check_certificates(&text) {
        Err(_) if is_opaque => Err(failed(String::new())),
        _ => Ok(Some(text)),
    }
}

fn database_spec(placement: &ResolvedBackend, files_folder: Option<PathBuf>) -> DatabaseSpec {
    let has_role = placement.spec.storage.server().is_some_and(|server| server.role == DatabaseRole::LeastPrivilege);
    let password = placement.secrets.get(&FieldPath::new(ROLE_PASSWORD)).filter(|_| has_role).cloned();
    DatabaseSpec {
        database: placement.instance_name.database(),
        owner: DatabaseOwner { backend: placement.id.clone(), label: format!("{}/{}", placement.project, placement.name) },
        role: BackendRole { name: role_name(&placement.id), password },
        expectation: if placement.has_been_ready { Expectation::MustExist } else { Expectation::MayCreate },
        files: match (&placement.spec.files, files_folder) {
            (Files::S3(_), _) => FileStore::Remote,
            // They are those of before, and not compared with what an earlier try has copied.
            _ if placement.is_move_target() => FileStore::Remote,
            (Files::Local, Some(folder)) => FileStore::Folder(folder),
            (Files::Local, None) => FileStore::NewVolume,
        },
    }
}

/// Returns what is worth saying about a database that can be used.
fn notes(spec: &DatabaseSpec, prepared: &Prepared) -> Vec<String> {
    let name = &spec.database;
    let mut notes = Vec::new();
    match prepared.origin {
        DatabaseOrigin::Created => notes.push(format!("the database `{name}` was made on {}", prepared.server)),
        DatabaseOrigin::FoundEmpty => notes.push(format!("the database `{name}` was there and empty, and is used")),
        DatabaseOrigin::Retained => {
            notes
                .push(format!("the database `{name}` was left by an earlier backend and is used with its documents and files"));
        }
        DatabaseOrigin::AlreadyOwned => {}
    }
    if prepared.round_trip > HIGH_LATENCY {
        notes.push(format!(
            "one question to the database takes {:.1} ms, and a request asks many: move the two closer together",
            prepared.round_trip.as_secs_f64() * 1000.0
        ));
    }
    notes
}

/// Returns whether only operators may read an error: what answers at an address of this network, and how.
fn is_for_operators(host: &Host, error: &DatabaseError) -> bool {
    host.database_hosts != HostPolicy::Any && error.describes_network()
}

/// Returns what an error means to a user.
pub(super) fn database_finding(host: &Host, placement: &ResolvedBackend, error: &DatabaseError) -> Diagnostic {
    if is_for_operators(host, error) {
        tracing::warn!(backend = %placement.name, project = %placement.project, error = %error_chain(error), "database");
        let message = format!("the database of `{}`: this control plane cannot use the database server", placement.name);
        let help = "check host, port and `tls`; an operator finds the cause in the log of the control plane, and allows servers \
                    without a public address with `serve --allow-database-hosts`";
        return Diagnostic::new("database.unreachable", message).with_help(help);
    }
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
    use crate::convex::deployment::DeploymentClient;
    use crate::database::{Product, ServerVersion};
    use crate::host::{EMBEDDED, HostParts, LocalBinaries, NativePlatform};
    use crate::model::{
        BackendId, BackendName, BackendSpec, Endpoints, Generation, InstanceName, PortPair, ProjectName, ProviderKind,
        ProviderState, ServerStorage, Storage,
    };

    fn host_in(folder: &tempfile::TempDir) -> Host {
        Host::new(HostParts {
            platform: Box::new(NativePlatform::new(folder.path().to_owned(), None, None)),
            name: EMBEDDED.to_owned(),
            providers: Vec::new(),
            connections: DeploymentClient::default(),
            local_binaries: LocalBinaries::Any,
        })
    }

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
        let wanted = database_spec(&placement(DatabaseRole::Url), None);
        assert_eq!((wanted.database.as_str(), wanted.owner.label.as_str()), ("gremlin_dev", "gremlin/dev"));
        // A password from when there was a role is not a reason to make one.
        assert!(wanted.role.password.is_none());
        let with_role = super::database_spec(&placement(DatabaseRole::LeastPrivilege), None);
        assert_eq!(with_role.role.name, "convex_abc");
        assert_eq!(with_role.role.password.map(|password| password.expose().to_owned()).as_deref(), Some("hunter2"));
    }

    /// Servers that accept and never answer: as many are waited for at once as one project may, and no more.
    #[tokio::test]
    async fn a_project_waits_for_so_many_servers_at_once() {
        const ALL: usize = 3 * MAX_CONVERSATIONS;
        let folder = tempfile::tempdir().unwrap();
        let host = host_in(&folder);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut placement = placement(DatabaseRole::Url);
        let url = format!("postgres://me:pw@127.0.0.1:{}", listener.local_addr().unwrap().port());
        placement.secrets.insert(FieldPath::new(STORAGE_URL), Secret::new(url));
        let ignore = |_: String| {};
        let clients = futures_util::future::join_all((0..ALL).map(|_| prepare(&host, &placement, &ignore)));
        let server = async {
            let mut held = std::collections::VecDeque::new();
            for _ in 0..MAX_CONVERSATIONS {
                held.push_back(listener.accept().await.unwrap());
            }
            for _ in MAX_CONVERSATIONS..ALL {
                assert!(futures_util::poll!(std::pin::pin!(listener.accept())).is_pending(), "another one is at the door");
                // One that ends makes room for one.
                drop(held.pop_front());
                held.push_back(listener.accept().await.unwrap());
            }
        };
        let (ended, ()) = tokio::join!(clients, server);
        assert!(ended.iter().all(|end| matches!(end, EffectResult::Failed(_))));
    }

    /// A name may come to mean another host after its backend was made.
    #[tokio::test]
    async fn a_release_tells_others_nothing_about_hosts() {
        let folder = tempfile::tempdir().unwrap();
        let host = host_in(&folder).with_database_hosts(HostPolicy::Restricted(Vec::new()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut said = std::collections::BTreeSet::new();
        for server in
            [listener.local_addr().unwrap().to_string(), "127.0.0.1:1".to_owned(), "no-such-host.invalid:9".to_owned()]
        {
            let mut placement = ResolvedBackend { has_been_ready: true, ..placement(DatabaseRole::Url) };
            placement.secrets.insert(FieldPath::new(STORAGE_URL), Secret::new(format!("postgres://me:pw@{server}")));
            let notices = std::sync::Mutex::new(Vec::new());
            let notice = |words: String| notices.lock().unwrap().push(words);
            release(&host, &placement, DatabaseReclaim::Retain, &notice).await;
            said.insert(notices.into_inner().unwrap());
        }
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said.first().unwrap()[0].contains("this control plane cannot use the database server"), "{said:?}");
    }

    #[tokio::test]
    async fn certificates_are_those_of_the_specification_or_of_an_old_row() {
        const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), PEM).unwrap();
        let host = host_in(&folder).with_database_hosts(HostPolicy::Restricted(Vec::new()));
        let mut placement = placement(DatabaseRole::Url);
        let mut read = async |tls| {
            placement.spec.storage = Storage::Postgres(ServerStorage { tls, ..ServerStorage::default() });
            authorities(&host, &placement).await
        };
        let certificates = Certificates::parse(PEM).unwrap();
        assert_eq!(read(Tls::Pem(certificates)).await.unwrap().as_deref(), Some(PEM));
        assert_eq!(read(Tls::Verify).await.unwrap(), None);
        // What is read of this machine for others says nothing of it.
        let mut said = std::collections::BTreeSet::new();
        for name in ["ca.pem", "nowhere.pem", ".", "/dev/zero"] {
            let path = folder.path().join(name).display().to_string();
            said.insert(read(Tls::Ca(path.clone())).await.unwrap_err().to_string().replace(&path, "PATH"));
        }
        assert_eq!(said.len(), 1, "{said:?}");
    }

    #[test]
    fn only_what_is_worth_it_is_said() {
        let placement = placement(DatabaseRole::Url);
        let said = |origin, product, milliseconds| {
            let server = ServerVersion { product, major: 15, minor: 1 };
            let prepared = Prepared { origin, server, round_trip: Duration::from_millis(milliseconds) };
            notes(&database_spec(&placement, None), &prepared)
        };
        assert_eq!(said(DatabaseOrigin::AlreadyOwned, Product::Postgres, 5), Vec::<String>::new());
        assert_eq!(
            said(DatabaseOrigin::Created, Product::Postgres, 1),
            ["the database `gremlin_dev` was made on PostgreSQL 15.1"]
        );
        assert!(said(DatabaseOrigin::AlreadyOwned, Product::Mysql, 6)[0].contains("takes 6.0 ms"));
        assert!(said(DatabaseOrigin::Retained, Product::Postgres, 1)[0].contains("with its documents and files"));
    }
}
