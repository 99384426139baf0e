//! How a backend gets its secrets: as files in its volume, which the container's entry point reads.
//!
//! Convex's image keeps its secret in `credentials/instance_secret` of its volume, readable for its root only. The same
//! folder gets one file more for each launch, with everything secret that the backend is started with. So nothing
//! secret stands in what `docker inspect` shows. Must not do: put a secret into a variable or an argument of a container.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use crate::model::Digest;
use crate::provider::ProviderError;

/// The volume, as the backend sees it.
pub(super) const DATA: &str = "/convex/data";
/// The variable that names the file of this launch.
pub(super) const LAUNCH_VARIABLE: &str = "CONVEXINFRA_LAUNCH";

/// Reads the file of this launch, which sets variables and adds arguments, and becomes the backend.
///
/// The image's own entry point is of no use here: it insists on the ports 3210 and 3211, and Node actions call back to
/// the port that clients see.
pub(super) const ENTRY: &str = "set -eu\numask 077\nmkdir -p \"$TMPDIR\"\n. \"$CONVEXINFRA_LAUNCH\"\n\
    exec /convex/convex-local-backend \"$@\"";

/// Files for a volume, each with its path in it. `Debug` shows no content.
#[derive(Clone)]
pub(super) struct SecretFiles {
    /// Where the volume is mounted.
    pub(super) target: &'static str,
    /// Who owns the files: the user that the image runs as.
    pub(super) owner: FileOwner,
    files: Vec<(String, Zeroizing<Vec<u8>>)>,
}

impl std::fmt::Debug for SecretFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.files.iter().map(|(path, _)| path)).finish()
    }
}

/// A user and a group of an image, by number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FileOwner {
    pub(super) user: u64,
    pub(super) group: u64,
}

impl FileOwner {
    /// The user that an image names.
    pub(super) fn of_image(image: &str, user: &str) -> Result<Self, ProviderError> {
        let (user, group) = user.split_once(':').unwrap_or((user, ""));
        let number = |text: &str| match text {
            "" | "root" => Some(0),
            text => text.parse().ok(),
        };
        match (number(user), number(group)) {
            (Some(user), Some(group)) => Ok(Self { user, group }),
            _ => Err(ProviderError::Unsupported(format!(
                "the image `{image}` runs as `{user}`, and only the image knows that user's number: files for it cannot be \
                 made private; write the number into its `USER`"
            ))),
        }
    }
}

impl SecretFiles {
    pub(super) fn new(target: &'static str, owner: FileOwner) -> Self {
        Self { target, owner, files: Vec::new() }
    }

    /// Adds a file.
    pub(super) fn add(&mut self, path: impl Into<String>, content: &[u8]) {
        self.files.push((path.into(), Zeroizing::new(content.to_vec())));
    }

    /// The parts of everything in them, for a digest.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(path, content)| (path.as_str(), content.as_slice()))
    }

    /// As an archive that the engine unpacks into the volume.
    pub(super) fn archive(&self) -> std::io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        let header = |kind: tar::EntryType, size: u64, mode: u32| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(size);
            header.set_mode(mode);
            header.set_uid(self.owner.user);
            header.set_gid(self.owner.group);
            header.set_mtime(0);
            header
        };
        // Folders that an engine makes by itself are not private.
        let folders: BTreeSet<String> =
            self.files.iter().flat_map(|(path, _)| path.match_indices('/').map(|(at, _)| path[..=at].to_owned())).collect();
        for folder in folders {
            archive.append_data(&mut header(tar::EntryType::Directory, 0, 0o700), folder, std::io::empty())?;
        }
        for (path, content) in &self.files {
            let size = content.len() as u64;
            archive.append_data(&mut header(tar::EntryType::Regular, size, 0o600), path, content.as_slice())?;
        }
        archive.into_inner()
    }
}

/// The path of a launch's file in the volume: another one for other secrets, so that the container from before still
/// finds its own.
pub(super) fn launch_path(file: &str) -> String {
    let digest = Digest::of(file.as_bytes());
    let short: String = digest.as_str().trim_start_matches("sha256:").chars().take(12).collect();
    format!("credentials/launch-{short}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_an_image_is_a_number_or_refused() {
        assert_eq!(FileOwner::of_image("i", "").unwrap(), FileOwner { user: 0, group: 0 });
        assert_eq!(FileOwner::of_image("i", "1001:7").unwrap(), FileOwner { user: 1001, group: 7 });
        assert!(FileOwner::of_image("i", "node").unwrap_err().to_string().contains("`node`"));
    }

    #[test]
    fn files_are_for_their_owner_only() {
        let mut files = SecretFiles::new(DATA, FileOwner { user: 5, group: 6 });
        files.add("credentials/instance_secret", b"hidden");
        assert!(!format!("{files:?}").contains("hidden"));
        let bytes = files.archive().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let seen: Vec<(String, u32, u64)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                (entry.path().unwrap().display().to_string(), header.mode().unwrap(), header.uid().unwrap())
            })
            .collect();
        assert_eq!(seen, [("credentials/".to_owned(), 0o700, 5), ("credentials/instance_secret".to_owned(), 0o600, 5)]);
    }
}
