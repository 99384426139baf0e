//! The process to run, as the driver decided it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::model::{Digest, Generation, PortPair, Secret};

/// One process to run. Arguments and variables contain secrets, so none of them is ever printed.
#[derive(Clone)]
pub struct ProcessSpec {
    /// The executable.
    pub program: PathBuf,
    /// The SHA-256 of the executable, where a change of it should restart the process.
    pub program_digest: Option<String>,
    /// Its arguments.
    pub arguments: Vec<Secret>,
    /// Its variables, beside the few that every process inherits.
    pub environment: BTreeMap<String, Secret>,
    /// The name that the process answers with.
    pub instance_name: String,
    /// The generation of the specification that this follows from.
    pub generation: Generation,
    /// The ports that the process listens on.
    pub ports: PortPair,
    /// What is written before it starts: no secret, and under names that follow from the content.
    pub files: BTreeMap<PathBuf, String>,
}

impl ProcessSpec {
    /// Returns a digest that differs where a restart is needed. The executable's path is left out: the same file at
    /// another path is the same program, and its content is compared by its own digest.
    ///
    /// The instance secret is among the input, so the digest gives no way to test a guess of another secret.
    pub fn digest(&self) -> Digest {
        let input = (self.exposed_arguments(), self.exposed_environment());
        Digest::of(&Zeroizing::new(serde_json::to_vec(&input).unwrap_or_default()))
    }

    /// Returns the arguments in clear, for the process that is started with them.
    pub(super) fn exposed_arguments(&self) -> Vec<&str> {
        self.arguments.iter().map(Secret::expose).collect()
    }

    /// Returns the variables in clear, for the process that is started with them.
    pub(super) fn exposed_environment(&self) -> BTreeMap<&str, &str> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.expose())).collect()
    }
}

impl fmt::Debug for ProcessSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessSpec")
            .field("program", &self.program)
            .field("generation", &self.generation)
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ProcessSpec {
        ProcessSpec {
            program: "/bin/convex".into(),
            program_digest: None,
            arguments: vec![Secret::new("--instance-secret"), Secret::new("4361726e")],
            environment: BTreeMap::from([("POSTGRES_URL".to_owned(), Secret::new("postgres://u:p@h"))]),
            instance_name: "gremlin-dev".to_owned(),
            generation: Generation(3),
            ports: PortPair { api: 4210, site: 4211 },
            files: BTreeMap::new(),
        }
    }

    #[test]
    fn debug_output_has_no_secret() {
        let text = format!("{:?}", spec());
        assert!(text.contains("/bin/convex") && !text.contains("4361726e") && !text.contains("postgres://"), "{text}");
    }

    /// Backends that an earlier release started are recorded with this digest: another one would restart all of them.
    #[test]
    fn the_digest_is_the_one_of_earlier_releases() {
        let text = r#"[["--instance-secret","4361726e"],{"POSTGRES_URL":"postgres://u:p@h"}]"#;
        assert_eq!(spec().digest(), Digest::of(text.as_bytes()));
    }
}
