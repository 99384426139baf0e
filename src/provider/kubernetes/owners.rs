//! Tools that keep objects as they want them. What one of them owns is not touched: its next run would undo that, or start a
//! second writer. Pure.

use serde_json::Value;

/// A tool that owns an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tool {
    /// A release of Helm, by its name.
    Helm(String),
    /// An application of Argo CD, by its name.
    ArgoCd(String),
    /// A Kustomization or release of Flux: the kind of its controller's object, and its name.
    Flux(&'static str, String),
    /// A controller that made it from an object of its own, by that one's kind and name.
    Controller(String, String),
}

/// The labels by which Flux knows its own.
const FLUX: [(&str, &str); 2] =
    [("kustomization", "kustomize.toolkit.fluxcd.io/name"), ("helmrelease", "helm.toolkit.fluxcd.io/name")];

impl Tool {
    /// Returns the tool that an object belongs to. Flux marks what Helm made for it as well, so it is asked first.
    pub(super) fn of(object: &Value) -> Option<Self> {
        let metadata = &object["metadata"];
        let label = |name: &str| metadata["labels"][name].as_str().map(str::to_owned);
        let annotation = |name: &str| metadata["annotations"][name].as_str().map(str::to_owned);
        let controllers = metadata["ownerReferences"].as_array().into_iter().flatten();
        let controller = controllers.into_iter().find(|owner| owner["controller"] == true).map(|owner| {
            let text = |field: &str| owner[field].as_str().unwrap_or_default().to_owned();
            Self::Controller(text("kind"), text("name"))
        });
        let flux = FLUX.into_iter().find_map(|(kind, name)| Some(Self::Flux(kind, label(name)?)));
        let tracked = annotation("argocd.argoproj.io/tracking-id")
            .map(|id| id.split(':').next().unwrap_or_default().to_owned())
            .or_else(|| label("argocd.argoproj.io/instance"));
        let helm = annotation("meta.helm.sh/release-name");
        flux.or(tracked.map(Self::ArgoCd)).or(helm.map(Self::Helm)).or(controller)
    }

    /// Returns the words for it.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Helm(release) => format!("the Helm release `{release}`"),
            Self::ArgoCd(application) => format!("the Argo CD application `{application}`"),
            Self::Flux(kind, name) => format!("the {kind} `{name}` of Flux"),
            Self::Controller(kind, name) => format!("the controller of the {kind} `{name}`"),
        }
    }

    /// Says how the tool lets go of an object, such as `statefulset/convex`, and leaves it running.
    pub(super) fn way_out(&self, namespace: &str, object: &str) -> String {
        match self {
            Self::Helm(release) => format!(
                "have Helm forget the release, which leaves all of it running, and take its marks off\n    kubectl -n {namespace} delete \
                 secret -l owner=helm,name={release}\n    kubectl -n {namespace} annotate {object} meta.helm.sh/release-name- \
                 meta.helm.sh/release-namespace-\n    kubectl -n {namespace} label {object} app.kubernetes.io/managed-by-"
            ),
            Self::ArgoCd(application) => format!(
                "delete the application without what it made, or take this object out of its source without pruning, and take its \
                 marks off\n    argocd app delete {application} --cascade=false\n    kubectl -n {namespace} label {object} \
                 argocd.argoproj.io/instance-\n    kubectl -n {namespace} annotate {object} argocd.argoproj.io/tracking-id-"
            ),
            Self::Flux(flux, owner) => {
                let marks: Vec<String> =
                    FLUX.iter().map(|(_, label)| format!("{label}- {}-", label.replace("/name", "/namespace"))).collect();
                format!(
                    "suspend it, take this object out of its source, and take its marks off\n    flux suspend {flux} {owner}\n    kubectl \
                     -n {namespace} label {object} {}",
                    marks.join(" ")
                )
            }
            Self::Controller(owner, owned) => format!(
                "stop that controller, and delete its object without what it made\n    kubectl -n {namespace} delete {} {owned} \
                 --cascade=orphan",
                owner.to_lowercase()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_tool_is_known_by_its_marks_and_has_a_way_out() {
        let owned = |metadata: Value| Tool::of(&json!({ "metadata": metadata }));
        assert_eq!(owned(json!({ "labels": { "app.kubernetes.io/managed-by": "Helm" } })), None);
        for (metadata, tool, command) in [
            (json!({ "annotations": { "meta.helm.sh/release-name": "shop" } }), "Helm release `shop`", "owner=helm,name=shop"),
            (json!({ "labels": { "argocd.argoproj.io/instance": "shop" } }), "application `shop`", "app delete shop"),
            (
                json!({ "annotations": { "argocd.argoproj.io/tracking-id": "shop:apps/StatefulSet:a/b" } }),
                "application `shop`",
                "--cascade=false",
            ),
            (
                json!({
                    "labels": { "helm.toolkit.fluxcd.io/name": "shop" },
                    "annotations": { "meta.helm.sh/release-name": "other" },
                }),
                "helmrelease `shop`",
                "flux suspend helmrelease shop",
            ),
            (
                json!({ "ownerReferences": [{ "kind": "ConvexInstance", "name": "shop", "controller": true }] }),
                "ConvexInstance `shop`",
                "delete convexinstance shop --cascade=orphan",
            ),
        ] {
            let found = owned(metadata).unwrap();
            assert!(found.words().contains(tool), "{found:?}");
            let way = found.way_out("apps", "statefulset/convex");
            assert!(way.contains(command) && (way.contains("statefulset/convex") || tool.contains("ConvexInstance")), "{way}");
        }
    }
}
