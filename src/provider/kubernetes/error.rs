//! Why a cluster did not do what was asked. Pure.

use super::labels::MANAGER;

/// Why a cluster did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// There is nothing that says where the cluster is.
    #[error("no cluster is configured: {reason}")]
    NoCluster {
        /// What was looked at.
        reason: String,
    },
    /// A served control plane does not lend its credentials for this context.
    #[error("the context `{context}` is not allowed in this control plane")]
    ContextRefused {
        /// The context.
        context: String,
    },
    /// The API server does not answer, or answers with nothing that is an answer.
    #[error("the API server at `{server}` could not {verb}: {reason}")]
    Unreachable {
        /// Its address.
        server: String,
        /// What it was asked for.
        verb: String,
        /// What came instead.
        reason: String,
    },
    /// The account may not do this.
    #[error("the account of the kubeconfig may not {verb}: {reason}")]
    Forbidden {
        /// What it was asked for.
        verb: String,
        /// What the API server said.
        reason: String,
        /// The namespace.
        namespace: String,
    },
    /// The account lacks rights that a backend needs.
    #[error("the account of the kubeconfig lacks rights in the namespace `{namespace}`, without which nothing is made")]
    RightsMissing {
        /// The namespace.
        namespace: String,
        /// The rules to add to its Role.
        rules: String,
    },
    /// A node, a quota or a storage class has no room for it.
    #[error("the cluster has no place for it: {reason}")]
    NoRoom {
        /// What is short.
        reason: String,
    },
    /// The namespace does not exist.
    #[error("the namespace `{namespace}` does not exist in this cluster")]
    NamespaceMissing {
        /// The namespace.
        namespace: String,
    },
    /// The API server, or something that it asks before it stores, says no.
    #[error("the cluster refused to {verb}: {reason}")]
    Refused {
        /// What it was asked for.
        verb: String,
        /// What it said.
        reason: String,
    },
    /// Something that is not ours has the name.
    #[error("{object} belongs to {owner}, and is not touched")]
    Foreign {
        /// The object.
        object: String,
        /// Whose it is.
        owner: String,
    },
    /// The claim is being deleted under a Pod that runs.
    #[error("the claim `{claim}` is being deleted, and its data goes with it when its Pod ends: {volume}")]
    ClaimTerminating {
        /// The claim.
        claim: String,
        /// What was done about its volume.
        volume: String,
    },
    /// Another Pod writes to the claim.
    #[error("the Pod `{pod}` uses the claim `{claim}` as well, and two backends on one database destroy it")]
    SecondWriter {
        /// The claim.
        claim: String,
        /// The Pod.
        pod: String,
        /// The namespace.
        namespace: String,
    },
    /// A Pod does not come up.
    #[error("its Pod does not become ready: {reason}")]
    NotReady {
        /// Why.
        reason: String,
        /// The last lines of its log.
        log: Vec<String>,
    },
    /// The cluster has not said where clients reach the backend.
    #[error("clients cannot be told where it is: {reason}")]
    NoAddress {
        /// What is missing.
        reason: String,
    },
}

impl KubernetesError {
    /// Returns a stable name of the situation.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCluster { .. } => "kubernetes.no_cluster",
            Self::ContextRefused { .. } => "kubernetes.context_refused",
            Self::Unreachable { .. } => "kubernetes.unreachable",
            Self::Forbidden { .. } => "kubernetes.forbidden",
            Self::RightsMissing { .. } => "kubernetes.rights_missing",
            Self::NoRoom { .. } => "kubernetes.no_room",
            Self::NamespaceMissing { .. } => "kubernetes.namespace_missing",
            Self::Refused { .. } => "kubernetes.refused",
            Self::Foreign { .. } => "kubernetes.foreign",
            Self::ClaimTerminating { .. } => "kubernetes.claim_terminating",
            Self::SecondWriter { .. } => "kubernetes.second_writer",
            Self::NotReady { .. } => "kubernetes.not_ready",
            Self::NoAddress { .. } => "kubernetes.no_address",
        }
    }

    /// Returns what to do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoCluster { .. } => {
                "name a kubeconfig with `KUBECONFIG`, and see what is in it with\n    kubectl config get-contexts".to_owned()
            }
            Self::ContextRefused { context } => {
                format!("its operator allows it with\n    CONVEXINFRA_KUBERNETES_CONTEXTS={context}")
            }
            Self::Unreachable { .. } => {
                "see whether it answers with\n    kubectl version\nwhat is done is done, and running the same \
                 command again goes on from there"
                    .to_owned()
            }
            Self::Forbidden { namespace, .. } => {
                format!("the least Role that is needed is printed by\n    convexinfra kubernetes role --namespace {namespace}")
            }
            Self::RightsMissing { namespace, rules } => format!(
                "add to its Role\n    {rules}\nor apply the least Role, which is printed by\n    convexinfra kubernetes role --namespace \
                 {namespace}"
            ),
            Self::NamespaceMissing { namespace } => format!(
                "make it with\n    kubectl create namespace {namespace}\nor set `create_namespace = true` in the table `kubernetes`"
            ),
            Self::Foreign { .. } => format!(
                "what convexinfra made carries its labels and the field manager `{MANAGER}`; give the other object another name, or \
                 remove it"
            ),
            Self::ClaimTerminating { .. } => {
                "export the data now with `npx convex export`; a claim that is being deleted cannot be kept, but where its volume outlives \
                 it, the next apply after the Pod has ended takes the volume up"
                    .to_owned()
            }
            Self::SecondWriter { pod, namespace, .. } => {
                format!("see what made it, and end that\n    kubectl -n {namespace} describe pod {pod}")
            }
            Self::NotReady { log, .. } if !log.is_empty() => format!("its log ends with\n    {}", log.join("\n    ")),
            Self::Refused { reason, .. } if reason.contains("failed calling webhook") => {
                "the cluster asks that webhook before it stores anything, and it does not answer: have it run again, or see who asks it \
                 with\n    kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations"
                    .to_owned()
            }
            Self::Refused { reason, .. } if reason.contains("field not declared in schema") => {
                "the API server is older than this field; see its version with\n    kubectl version".to_owned()
            }
            Self::Refused { .. } | Self::NoRoom { .. } | Self::NotReady { .. } | Self::NoAddress { .. } => return None,
        })
    }
}
