//! What to run, decided by somebody else.
//!
//! Must not do: print or store arguments and variables, for they contain secrets.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::model::{Digest, Generation, PortPair};

/// One process to run.
#[derive(Clone, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// The executable.
    pub program: PathBuf,
    /// The SHA-256 of the executable, where a change of it should restart the process.
    pub program_digest: Option<String>,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its variables, beside the few that every process gets.
    pub environment: BTreeMap<String, String>,
    /// The name that the process answers with.
    pub instance_name: String,
    /// The generation of the specification that this follows from.
    pub generation: Generation,
    /// The ports that the process listens on.
    pub ports: PortPair,
}

impl ProcessSpec {
    /// Tells two launches apart that need a restart between them. The executable's path is left out: the same
    /// file in another place is the same program, and its content is compared by its own digest.
    ///
    /// The instance secret is among the input, so the digest gives no way to test a guess of another secret.
    pub fn digest(&self) -> Digest {
        let text = Zeroizing::new(serde_json::to_vec(&(&self.arguments, &self.environment)).unwrap_or_default());
        Digest::of(&text)
    }
}

impl fmt::Debug for ProcessSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("program", &self.program)
            .field("generation", &self.generation)
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}
