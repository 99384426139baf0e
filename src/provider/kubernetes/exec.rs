//! Short commands in a container that runs, through the API server.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::cluster::Cluster;

/// How long a command may take.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// The most bytes of its output.
const OUTPUT_MAX: u64 = 64 << 10;

/// A container in a Pod.
#[derive(Debug, Clone)]
pub(super) struct ContainerOf {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) container: String,
}

/// Runs a command and returns what it wrote.
///
/// # Errors
/// Why it was not run, or that it failed.
pub(super) async fn run(cluster: &Cluster, place: &ContainerOf, command: &[&str]) -> Result<String, String> {
    let client = cluster.client().await.map_err(|error| error.to_string())?;
    let pods: Api<Pod> = Api::namespaced(client, &place.namespace);
    let attached = AttachParams::default().container(&place.container).stdout(true).stderr(false);
    let running = async {
        let opened = pods.exec(&place.pod, command.iter().copied(), &attached).await;
        let mut process = opened.map_err(|error| crate::model::error_chain(&error))?;
        let status = process.take_status();
        let mut output = Vec::new();
        if let Some(stream) = process.stdout() {
            stream.take(OUTPUT_MAX).read_to_end(&mut output).await.map_err(|error| error.to_string())?;
        }
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        match status {
            Some(status) if status.status.as_deref() == Some("Success") => Ok(String::from_utf8_lossy(&output).into_owned()),
            Some(status) => Err(status.message.unwrap_or_else(|| "it failed".to_owned())),
            None => Err("it was cut off".to_owned()),
        }
    };
    timeout(ENDS_WITHIN, running).await.unwrap_or_else(|_| Err(format!("it has not ended within {} s", ENDS_WITHIN.as_secs())))
}
