//! Buckets of backends: from a placement to what `s3` needs, and from what it says to words.
//!
//! Must not do: decide what a backend may keep where.

use super::Host;
use super::beside::address_beside_backend;
use super::findings::Findings;
use crate::api::ProgressFn;
use crate::convex::buckets::bucket_names;
use crate::model::{
    BackendName, ByteSize, DatabaseReclaim, Diagnostic, FieldPath, Files, HostPolicy, ResolvedBackend, S3Files,
};
use crate::s3::{BucketError, BucketStore, Leftover, MissingBucket, ProbeMode};

fn files(placement: &ResolvedBackend) -> Option<&S3Files> {
    match &placement.spec.files {
        Files::S3(files) if placement.spec.has_buckets() => Some(files),
        Files::S3(_) | Files::Local => None,
    }
}

/// Returns the buckets as the backend will reach them; none where only its own machine has the credentials.
async fn store(host: &Host, placement: &ResolvedBackend) -> Result<Option<BucketStore>, BucketError> {
    let Some(files) = files(placement) else { return Ok(None) };
    let secret = |path: &str| placement.secrets.get(&FieldPath::new(path)).cloned();
    let secret = |path: &str| secret(path).filter(|_| path == "files.endpoint" || files.credentials.is_some());
    let Some(store) = BucketStore::new(files, secret, host.database_hosts.clone())? else { return Ok(None) };
    let address = address_beside_backend(host, placement, store.host()).await;
    Ok(Some(store.at(address)))
}

/// Returns whether a backend can do without the service for now: it may pass, or it is one that only stands in for the real
/// one.
fn is_tolerated(host: &Host, placement: &ResolvedBackend, error: &BucketError) -> bool {
    if placement.spec.provider.descriptor().keeps_files_itself && error.describes_network() {
        return true;
    }
    // A refusal for some hosts and a note for others would tell what stands in this network.
    if is_for_operators(host, error) { !placement.has_been_ready } else { error.may_pass() }
}

/// Returns whether only operators may read an error: what answers at an address of this network, and how.
fn is_for_operators(host: &Host, error: &BucketError) -> bool {
    host.database_hosts != HostPolicy::Any && error.describes_network()
}

/// Looks at the buckets of a backend. A running one keeps what it has until its new keys have been tried.
pub(super) async fn look(host: &Host, placement: &ResolvedBackend, findings: &mut Findings) {
    let Some(files) = files(placement) else { return };
    let missing =
        if files.create_buckets && !placement.has_been_ready { MissingBucket::Tolerate } else { MissingBucket::Refuse };
    let mode = if placement.has_been_ready { ProbeMode::Write } else { ProbeMode::Look };
    let found = match store(host, placement).await {
        Ok(None) => return,
        Ok(Some(store)) => {
            let checked = store.check(placement.instance_name.as_str(), mode, missing).await;
            checked.map_err(|error| (finding(host, placement, Some(&store), &error), error))
        }
        Err(error) => Err((finding(host, placement, None, &error), error)),
    };
    match found {
        Ok(_) => {}
        Err((finding, error)) if is_tolerated(host, placement, &error) => findings.note(placement, finding),
        Err((finding, _)) => findings.refuse(placement, finding),
    }
}

/// Makes the buckets of a new backend where that is asked for, and tries them.
pub(super) async fn prepare(host: &Host, placement: &ResolvedBackend, notice: ProgressFn<'_>) -> Result<(), Diagnostic> {
    // The keys of a backend with data were tried before they were taken; its service may be away for a while.
    let Some(files) = files(placement).filter(|_| !placement.has_been_ready) else { return Ok(()) };
    let store = match store(host, placement).await {
        Ok(Some(store)) => store,
        Ok(None) => {
            notice("its buckets are entered by the role of its machine, and were not tried".to_owned());
            return Ok(());
        }
        Err(error) => return Err(finding(host, placement, None, &error)),
    };
    let missing = if files.create_buckets { MissingBucket::Create } else { MissingBucket::Refuse };
    match store.check(placement.instance_name.as_str(), ProbeMode::Write, missing).await {
        Ok(report) => {
            for bucket in report.created {
                notice(format!("the bucket `{bucket}` was made"));
            }
            for (bucket, key) in report.left {
                notice(format!("the object `{key}` in the bucket `{bucket}` could not be removed again; these keys may not"));
            }
            Ok(())
        }
        Err(error) if placement.spec.provider.descriptor().keeps_files_itself && error.describes_network() => {
            let said = finding(host, placement, Some(&store), &error).message;
            notice(format!("{said}; a simulated backend keeps its files itself"));
            Ok(())
        }
        Err(error) => Err(finding(host, placement, Some(&store), &error)),
    }
}

/// Says what a removal would leave in buckets, or take from them.
pub(super) async fn look_at_leftovers(
    host: &Host,
    placement: &ResolvedBackend,
    database: DatabaseReclaim,
    findings: &mut Findings,
) {
    if database == DatabaseReclaim::DeleteWithFiles {
        let buckets = files(placement).map(|files| bucket_names(&files.buckets).join("`, `")).unwrap_or_default();
        let message = format!(
            "what `{}` has in `{buckets}` is removed before its database is dropped: under the prefix that the database names, \
             and no other",
            placement.name
        );
        findings.note(placement, Diagnostic::new("plan.files_go", message));
        return;
    }
    for words in leftovers(host, placement, None).await {
        findings.note(placement, Diagnostic::new("plan.files_stay", words));
    }
}

/// Names what a removal left in buckets.
pub(super) async fn name_leftovers(host: &Host, placement: &ResolvedBackend, prefix: Option<&str>, notice: ProgressFn<'_>) {
    leftovers(host, placement, prefix).await.into_iter().for_each(notice);
}

/// Removes the objects under one prefix of a backend.
///
/// # Errors
/// The buckets cannot be used. What was removed until then is gone, and the same command goes on with the rest.
pub(super) async fn remove(
    host: &Host,
    placement: &ResolvedBackend,
    prefix: &str,
    notice: ProgressFn<'_>,
) -> Result<(), Diagnostic> {
    let store = match store(host, placement).await {
        Ok(Some(store)) => store,
        // Without credentials there is none, and a plan refuses that.
        Ok(None) => return Ok(()),
        Err(error) => return Err(finding(host, placement, None, &error)),
    };
    match store.remove(placement.instance_name.as_str(), prefix).await {
        Ok(count) => {
            notice(format!("{count} objects under `{prefix}` were removed from its buckets"));
            Ok(())
        }
        Err(error) => Err(finding(host, placement, Some(&store), &error)),
    }
}

async fn leftovers(host: &Host, placement: &ResolvedBackend, prefix: Option<&str>) -> Vec<String> {
    let Some(files) = files(placement) else { return Vec::new() };
    let instance = &placement.instance_name;
    let unseen = |why: &str| {
        let buckets = bucket_names(&files.buckets).join("`, `");
        let begins = prefix.map_or_else(|| format!("{instance}-"), str::to_owned);
        vec![format!("what is in `{buckets}` under keys that begin with `{begins}` stays there, and {why}")]
    };
    let uncounted =
        |error: &BucketError| unseen(&format!("could not be counted: {}", finding(host, placement, None, error).message));
    let store = match store(host, placement).await {
        Ok(Some(store)) => store,
        Ok(None) => return unseen("only the role of its machine can count it"),
        Err(error) => return uncounted(&error),
    };
    match store.leftovers(instance.as_str(), prefix).await {
        Ok(found) => found.iter().map(|leftover| stays(&placement.name, leftover, &store)).collect(),
        Err(error) => uncounted(&error),
    }
}

fn stays(name: &BackendName, leftover: &Leftover, store: &BucketStore) -> String {
    let Leftover { bucket, prefix, count, bytes, is_complete } = leftover;
    let at_least = if *is_complete { "" } else { "at least " };
    let objects = if *count == 1 { "object" } else { "objects" };
    let size = ByteSize::from_bytes(*bytes);
    format!(
        "{at_least}{count} {objects} of `{name}` ({size}) stay in the bucket `{bucket}` under `{prefix}`; remove them with\n    {}",
        store.remove_command(leftover)
    )
}

/// Returns what an error means to a user.
fn finding(host: &Host, placement: &ResolvedBackend, store: Option<&BucketStore>, error: &BucketError) -> Diagnostic {
    let name = &placement.name;
    if is_for_operators(host, error) {
        tracing::warn!(backend = %name, project = %placement.project, error = %error, "files");
        let message = format!("the files of `{name}`: this control plane cannot use the S3 service");
        let help = "check `files.endpoint` and `files.region`; an operator finds the cause in the log of the control plane, and \
                    allows services without a public address with `serve --allow-database-hosts`";
        return Diagnostic::new("files.unreachable", message).with_help(help);
    }
    let finding = Diagnostic::new(error.code(), format!("the files of `{name}`: {error}"));
    let is_lost = placement.has_been_ready && error.code() == "files.bucket_missing";
    match store.and_then(|store| store.help(error)) {
        _ if is_lost => finding.with_help(format!(
            "its data was there: bring the bucket back, or give the data up with\n    convexinfra destroy {name} --allow-destroy {name}"
        )),
        Some(help) => finding.with_help(help),
        None => finding,
    }
}
