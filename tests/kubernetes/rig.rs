//! The cluster to test with, and projects of their own in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use fixture::{ProjectFixture, executable, skipped, wait_until};
use serde_json::Value;

pub(crate) const BACKEND: &str = "docker.io/convexinfra-test/backend:one";
/// Another build of the same, as another release would be.
pub(crate) const BACKEND_TWO: &str = "docker.io/convexinfra-test/backend:two";
/// The official image that the example names.
pub(crate) const OFFICIAL: &str = "ghcr.io/get-convex/convex-backend:652b828b5129e6cdbcaa3c20efa8d116d09ff3bf";
/// An image whose backend ends at once.
pub(crate) const BROKEN: &str = "docker.io/convexinfra-test/backend:broken";

/// A cluster of the project's own.
pub(crate) struct Cluster {
    pub(crate) folder: PathBuf,
}

/// The cluster; none where there is none to test with, which is said once.
pub(crate) fn cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    CLUSTER.get_or_init(prepare).as_ref()
}

fn prepare() -> Option<Cluster> {
    let required = std::env::var("CONVEXINFRA_REQUIRE_KUBERNETES").is_ok_and(|value| value == "1");
    let Some(folder) = std::env::var("CONVEXINFRA_TEST_KUBERNETES").ok().filter(|folder| !folder.is_empty()) else {
        assert!(!required, "`CONVEXINFRA_REQUIRE_KUBERNETES` is set, and `CONVEXINFRA_TEST_KUBERNETES` names no cluster");
        skipped("`CONVEXINFRA_TEST_KUBERNETES` names no cluster, so nothing was tried on Kubernetes");
        return None;
    };
    let cluster = Cluster { folder: PathBuf::from(folder) };
    cluster.kubectl(&["version"]);
    for (name, kind) in [(BACKEND, ""), (BACKEND_TWO, ""), (OFFICIAL, ""), (BROKEN, "broken")] {
        cluster.load(name, kind);
    }
    Some(cluster)
}

pub(crate) fn script(name: &str, words: &[&str]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubernetes").join(name);
    let output = Command::new(path).args(words).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{name} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Skips a test where there is no cluster.
#[macro_export]
macro_rules! cluster_or_skip {
    () => {
        match $crate::rig::cluster() {
            Some(cluster) => cluster,
            None => return,
        }
    };
}

/// A name that no other test of this or another run has.
fn unique(word: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{word}{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Cluster {
    /// Puts the stand-in for the official image on the node, under a name.
    pub(crate) fn load(&self, name: &str, kind: &str) {
        let folder = tempfile::tempdir().unwrap();
        let tar = folder.path().join("image.tar");
        let tar = tar.to_str().unwrap();
        script("backend-image", &[executable(), name, tar, kind]);
        script("cluster", &["load", self.folder.to_str().unwrap(), tar]);
    }

    pub(crate) fn kubeconfig(&self) -> String {
        self.folder.join("admin.conf").to_str().unwrap().to_owned()
    }

    pub(crate) fn try_kubectl(&self, words: &[&str]) -> Result<String, String> {
        let output =
            Command::new("kubectl").args(["--kubeconfig", &self.kubeconfig()]).args(words).stdin(Stdio::null()).output();
        let output = output.expect("`kubectl` is needed beside a cluster");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    pub(crate) fn kubectl(&self, words: &[&str]) -> String {
        self.try_kubectl(words).unwrap_or_else(|error| panic!("kubectl {words:?}: {error}"))
    }
}

/// A project with a namespace of its own.
pub(crate) struct Project {
    pub(crate) name: String,
    pub(crate) world: ProjectFixture,
    pub(crate) cluster: &'static Cluster,
}

impl Project {
    /// A project with one backend, `dev`, whose blocks follow.
    pub(crate) fn new(cluster: &'static Cluster, blocks: &str) -> Self {
        let name = unique("k");
        let mut world = ProjectFixture::new("");
        world.set("KUBECONFIG", &cluster.kubeconfig());
        cluster.kubectl(&["create", "namespace", &name]);
        let project = Self { name, world, cluster };
        project.manifest(blocks);
        project
    }

    /// Writes the manifest. `IMAGE` stands for the image, and `PLACE` for image and namespace.
    pub(crate) fn manifest(&self, blocks: &str) {
        let place = format!("namespace = \"{}\"\nIMAGE", self.name);
        let blocks = blocks.replace("PLACE", &place).replace("IMAGE", &format!("image = \"{BACKEND}\""));
        self.world.manifest(&format!("project = \"{}\"\n{blocks}", self.name));
    }

    /// Runs `kubectl` in its namespace.
    pub(crate) fn kubectl(&self, words: &[&str]) -> String {
        self.cluster.kubectl(&[&["--namespace", &self.name], words].concat())
    }

    pub(crate) fn get(&self, kind: &str) -> Vec<Value> {
        let listed: Value = serde_json::from_str(&self.kubectl(&["get", kind, "-o", "json"])).unwrap();
        listed["items"].as_array().unwrap().clone()
    }

    /// The one object of a kind.
    pub(crate) fn one(&self, kind: &str) -> Value {
        let all = self.get(kind);
        assert_eq!(all.len(), 1, "{kind}: {all:#?}");
        all[0].clone()
    }

    pub(crate) fn name_of(&self, kind: &str) -> String {
        self.one(kind)["metadata"]["name"].as_str().unwrap().to_owned()
    }

    /// What there is, by kind and name, without what the namespace has by itself.
    pub(crate) fn everything(&self) -> Vec<String> {
        let kinds = "statefulsets,deployments,pods,services,secrets,persistentvolumeclaims,ingresses,networkpolicies";
        let listed = self.kubectl(&["get", kinds, "-o", "name"]);
        listed.lines().map(str::to_owned).collect()
    }

    /// Runs a line in the backend's container.
    pub(crate) fn shell(&self, line: &str) -> String {
        self.kubectl(&["exec", &self.name_of("pods"), "--", "sh", "-c", line])
    }

    /// Waits until the Pod is ready.
    pub(crate) fn until_ready(&self) {
        wait_until("the Pod is ready", || {
            let pods = self.get("pods");
            let conditions = pods.first().and_then(|pod| pod["status"]["conditions"].as_array().cloned()).unwrap_or_default();
            conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        });
    }

    /// The paths of all drift that is seen.
    pub(crate) fn drift(&self) -> Vec<String> {
        let run = self.world.run(&["drift", "--json"]);
        let document = run.document();
        let found = document["drift"].as_array().cloned().unwrap_or_default();
        found.iter().map(|drift| drift["path"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        // Nothing waits for what goes by itself.
        let _ = self.cluster.try_kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}
