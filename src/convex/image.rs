//! From a placement to the environment of the official image, whose script turns variables into flags.
//!
//! To that script any value of a switch means yes, an empty one included, so a switch is set only where it is on.

use std::collections::BTreeMap;

use super::launch::{Argument, INSTANCE_SECRET_VARIABLE, Launch, LaunchError, database_url, origin, s3_files, tuning};
use crate::model::{Files, Release, ResolvedBackend, Storage, Tls};

/// Where the image keeps its data.
pub const DATA_DIR: &str = "/convex/data";
/// The port of the API inside the image, which cannot be changed.
pub const API_PORT: u16 = 3210;
/// The port of the HTTP actions inside the image.
pub const SITE_PORT: u16 = 3211;
/// The port of the dashboard inside its image.
pub const DASHBOARD_PORT: u16 = 6791;

/// Returns the variables for a placement in the official image. `release` is the build that the image is, where that is
/// known.
///
/// # Errors
/// [`LaunchError`] says what the backend would refuse, or what is missing.
pub fn image_environment(
    placement: &ResolvedBackend,
    release: Option<&Release>,
) -> Result<BTreeMap<String, Argument>, LaunchError> {
    let spec = &placement.spec;
    let mut launch = Launch { arguments: Vec::new(), environment: BTreeMap::new() };
    launch.set_variable("INSTANCE_NAME", placement.instance_name.as_str());
    launch.environment.insert(INSTANCE_SECRET_VARIABLE.to_owned(), Argument::Secret(placement.instance_secret.clone()));
    launch.set_variable("CONVEX_CLOUD_ORIGIN", origin(&placement.endpoints.url)?);
    launch.set_variable("CONVEX_SITE_ORIGIN", origin(&placement.endpoints.site_url)?);
    launch.set_variable("TMPDIR", format!("{DATA_DIR}/tmp"));
    launch.set_variable("DISABLE_METRICS_ENDPOINT", "true");
    if spec.tuning.beacon == Some(false) {
        launch.set_variable("DISABLE_BEACON", "true");
    }
    if spec.tuning.redact_logs == Some(true) {
        launch.set_variable("REDACT_LOGS_TO_CLIENT", "true");
    }
    if let Some(release) = release.filter(|release| release.is_pinned()) {
        launch.set_variable("CONVEX_RELEASE_VERSION_DEV", release.to_string());
    }
    tuning(&mut launch, &spec.tuning);
    if let Files::S3(s3) = &spec.files {
        s3_files(&mut launch, placement, s3)?;
    }
    database(&mut launch, placement)?;
    Ok(launch.environment)
}

fn database(launch: &mut Launch, placement: &ResolvedBackend) -> Result<(), LaunchError> {
    let variable = match &placement.spec.storage {
        Storage::Sqlite => return Ok(()),
        Storage::Postgres(_) => "POSTGRES_URL",
        Storage::Mysql(_) => "MYSQL_URL",
    };
    launch.environment.insert(variable.to_owned(), Argument::Secret(database_url(placement)?));
    if let Some(Tls::Disable) = placement.spec.storage.server().map(|server| &server.tls) {
        launch.set_variable("DO_NOT_REQUIRE_SSL", "1");
    }
    Ok(())
}
