//! Where a container keeps its data: a backend of convexinfra keeps it at fixed places of one volume, so all that is
//! elsewhere would stay behind.

use crate::model::shell_word;
use std::collections::BTreeMap;

use bollard::models::ContainerInspectResponse;

use crate::provider::docker::inventory::name_of;
use crate::provider::docker::launch_file::DATA;
use crate::provider::kit::external::{Data, Misplaced, misplaced_data};

/// Flags that say where data is, which the image's own entry point derives from variables.
const DATA_FLAGS: [&str; 3] = ["--local-storage", "--s3-storage", "--db"];

/// Returns the named volume that holds the data.
pub(super) fn data_volume(seen: &ContainerInspectResponse) -> Result<String, String> {
    let mounts = seen.mounts.as_deref().unwrap_or_default();
    let mount = mounts.iter().find(|mount| mount.destination.as_deref() == Some(DATA));
    match mount.map(|mount| (mount.typ.as_deref(), mount.name.clone(), mount.source.as_deref())) {
        Some((Some("volume"), Some(name), _)) => Ok(name),
        Some((Some("bind"), _, directory)) => Err(copy_into_volume(seen, directory.unwrap_or("DIRECTORY"))),
        _ => Err(format!("has no volume at `{DATA}`, so it is not a Convex backend, or its data goes with it")),
    }
}

/// Says how the data of a bind mount gets into a volume. The image's own entry point starts a backend, so it is replaced.
fn copy_into_volume(seen: &ContainerInspectResponse, directory: &str) -> String {
    let name = name_of(seen);
    let image = seen.config.as_ref().and_then(|config| config.image.as_deref()).unwrap_or("IMAGE");
    let mount = shell_word(&format!("{directory}:/from:ro"));
    format!(
        "keeps its data in a directory of the engine's machine, `{directory}`, and a backend of convexinfra keeps it in a \
         volume; stop it and copy the data with\n    docker stop {name}\n    docker run --rm --entrypoint cp -v \
         {mount} -v {name}-data:/to {image} -a /from/. /to\nthen start the container with the volume \
         `{name}-data` at `{DATA}` instead of the directory, and import it again"
    )
}

/// Refuses a container whose documents or files are at another place than ours will be.
pub(super) fn check(
    seen: &ContainerInspectResponse,
    variables: &BTreeMap<String, String>,
    image_entry_point: Option<&[String]>,
) -> Result<(), String> {
    let moves = misplaced_data(variables);
    if !moves.is_empty() {
        return Err(move_first(seen, &moves));
    }
    let config = seen.config.as_ref();
    let command = config.and_then(|config| config.cmd.as_deref()).unwrap_or_default();
    let entry_point = config.and_then(|config| config.entrypoint.as_deref()).unwrap_or_default();
    let is_own = image_entry_point.is_some_and(|image| image != entry_point);
    let says_where = |word: &String| DATA_FLAGS.iter().any(|flag| word.split('=').next() == Some(*flag));
    if command.iter().chain(entry_point.iter().filter(|_| is_own)).any(says_where) {
        return Err(
            "says with arguments of its own where its data is, and convexinfra says it too: start it with the variables of the \
             official compose file instead"
                .to_owned(),
        );
    }
    Ok(())
}

/// Copies data to where ours will be.
trait Copies {
    fn script(&self) -> String;
    fn copies(&self, name: &str) -> String;
}

impl Copies for Misplaced {
    /// Copies within the volumes of a container; fails where the data is not there.
    fn script(&self) -> String {
        let (path, place) = (shell_word(&self.path), shell_word(&self.place));
        match self.what {
            Data::Documents => format!(
                "cp -a {path} {place} && for end in -wal -shm; do if [ -e {path}$end ]; then cp -a {path}$end {place}$end; fi; done"
            ),
            Data::Files => format!("mkdir -p {place} && cp -a {path}/. {place}/"),
        }
    }

    /// Copies out of the container's own layer, which no other container sees.
    fn copies(&self, name: &str) -> String {
        let Misplaced { path, place, .. } = self;
        let copy = |end: &str, here: &str| {
            let (from, to) = (shell_word(&format!("{name}:{path}{end}")), shell_word(&format!("{name}:{place}{end}")));
            format!("\n    docker cp -a {from} {here}{end} && docker cp -a {here}{end} {to}")
        };
        match self.what {
            Data::Documents => {
                let here = format!("./{name}.sqlite3");
                format!("{}{}", copy("", &here), copy("-wal", &here))
            }
            Data::Files => {
                let (from, to) = (shell_word(&format!("{name}:{path}")), shell_word(&format!("{name}:{place}")));
                format!("\n    docker cp -a {from} ./{name}-files && docker cp -a ./{name}-files/. {to}")
            }
        }
    }
}

/// Says how data gets to where ours will be, all of it at once: once the variables are gone nothing tells where the rest was.
fn move_first(seen: &ContainerInspectResponse, moves: &[Misplaced]) -> String {
    let name = name_of(seen);
    let image = seen.config.as_ref().and_then(|config| config.image.as_deref()).unwrap_or("IMAGE");
    let mounted = |path: &str| {
        let mounts = seen.mounts.iter().flatten().filter_map(|mount| mount.destination.as_deref());
        mounts.into_iter().any(|mount| std::path::Path::new(path).starts_with(mount))
    };
    let (in_volumes, in_layer): (Vec<&Misplaced>, Vec<&Misplaced>) = moves.iter().partition(|one| mounted(&one.path));
    let mut commands = format!("\n    docker stop {name}");
    if !in_volumes.is_empty() {
        let scripts: Vec<String> = in_volumes.iter().map(|one| one.script()).collect();
        let script = scripts.join(" && ");
        commands.push_str(&format!(
            "\n    docker run --rm --volumes-from {name} --entrypoint sh {image} -c {}",
            shell_word(&script)
        ));
    }
    commands.extend(in_layer.iter().map(|one| one.copies(name)));
    let mut variables: Vec<String> = moves.iter().map(|one| format!("`{}`", one.variable)).collect();
    variables.dedup();
    let sentences: Vec<String> = moves.iter().map(Misplaced::sentence).collect();
    let missing = if in_layer.iter().any(|one| one.what == Data::Documents) {
        " (there may be no file that ends in `-wal`, and then there is nothing to copy)"
    } else {
        ""
    };
    format!(
        "keeps {}, where a backend of convexinfra keeps them: they would stay behind; stop it and copy them{missing} with{commands}\n\
         then start the container without {}, and import it again",
        sentences.join(" and "),
        variables.join(" and "),
    )
}

#[cfg(test)]
mod tests {
    use bollard::models::{ContainerConfig, MountPoint};

    use super::*;

    /// A container with a volume at the usual place.
    fn container(entry_point: &[&str], command: &[&str]) -> ContainerInspectResponse {
        let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
        let config = ContainerConfig {
            entrypoint: words(entry_point),
            cmd: words(command),
            image: Some("i:1".to_owned()),
            ..ContainerConfig::default()
        };
        let volume = MountPoint { destination: Some(DATA.to_owned()), ..MountPoint::default() };
        let (name, mounts) = (Some("/c".to_owned()), Some(vec![volume]));
        ContainerInspectResponse { name, mounts, config: Some(config), ..ContainerInspectResponse::default() }
    }

    #[test]
    fn data_at_another_path_is_refused_with_a_command_that_moves_it() {
        let own = ["./run_backend.sh".to_owned()];
        let s3 = [
            ("STORAGE_DIR", "/x"),
            ("S3_STORAGE_EXPORTS_BUCKET", "b"),
            ("S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET", "b"),
            ("S3_STORAGE_MODULES_BUCKET", "b"),
            ("S3_STORAGE_FILES_BUCKET", "b"),
            ("S3_STORAGE_SEARCH_BUCKET", "b"),
            ("AWS_REGION", "us-east-1"),
        ];
        for (variables, words) in [
            (&[][..], None),
            (&[("DATA_DIR", "/convex/data/"), ("STORAGE_DIR", "data/storage"), ("SQLITE_DB", "./data/db.sqlite3")], None),
            (&[("TMPDIR", "/tmp/x"), ("CREDENTIALS_DIR", "/run/c")], None),
            (&[("STORAGE_DIR", "/convex/data/files")], Some("cp -a /convex/data/files/. /convex/data/storage/")),
            (&[("STORAGE_DIR", "/convex/data/storage/..")], Some("`STORAGE_DIR`")),
            (&[("SQLITE_DB", "/convex/data/mine.sqlite3")], Some("/convex/data/mine.sqlite3$end")),
            (&[("DATA_DIR", "/data")], Some("start the container without `DATA_DIR`, and")),
            // All of it at once, and out of the container's own layer with what reaches it.
            (
                &[("DATA_DIR", "/data")],
                Some("docker cp -a c:/data/db.sqlite3 ./c.sqlite3 && docker cp -a ./c.sqlite3 c:/convex/data/db.sqlite3"),
            ),
            (
                &[("DATA_DIR", "/data")],
                Some("docker cp -a c:/data/storage ./c-files && docker cp -a ./c-files/. c:/convex/data/storage"),
            ),
            (&[("DATA_DIR", "/convex/data/x")], Some("cp -a /convex/data/x/db.sqlite3 /convex/data/db.sqlite3 && for")),
            (&[("DATA_DIR", "/convex/data/x")], Some("cp -a /convex/data/x/storage/. /convex/data/storage/")),
            // What lies in S3 or on a server is not in those places.
            (&s3, None),
            // With one of six variables missing, the official image takes the disk.
            (&s3[..6], Some("/x")),
            (&[("SQLITE_DB", "/x"), ("POSTGRES_URL", "postgres://u@h")], None),
            (&[("DATA_DIR", "/x"), ("POSTGRES_URL", "postgres://u@h")], Some("files and modules")),
        ] {
            let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let said = check(&container(&["./run_backend.sh"], &[]), &variables, Some(&own)).err();
            match words {
                None => assert_eq!(said, None, "{variables:?}"),
                Some(words) => assert!(said.as_ref().is_some_and(|said| said.contains(words)), "{variables:?}: {said:?}"),
            }
        }
    }

    #[test]
    fn arguments_that_say_where_data_is_are_refused() {
        let own = ["./run_backend.sh".to_owned()];
        let none = BTreeMap::new();
        assert!(check(&container(&["./run_backend.sh"], &["--convex-http-proxy", "http://p"]), &none, Some(&own)).is_ok());
        assert!(check(&container(&["./run_backend.sh"], &["--local-storage=/x"]), &none, Some(&own)).is_err());
        assert!(check(&container(&["/convex/convex-local-backend", "--db", "sqlite"], &[]), &none, Some(&own)).is_err());
    }
}
