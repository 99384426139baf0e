//! The keys of `[backends.NAME.kubernetes]`.

use super::{Kind, Table, formats, key};
use crate::model::kubernetes::{AccessMode, Exposure};

pub(super) static KUBERNETES: Table = Table {
    title: "The provider `kubernetes`",
    shared: false,
    keys: &[
        key("context", Kind::Text(&formats::LINE), "The context of the kubeconfig; the current one when left out."),
        key("namespace", Kind::Text(&formats::LABEL), "The namespace; that of the context when left out."),
        key("create_namespace", Kind::Flag, "Whether a namespace that is missing is made."),
        key(
            "storage_class",
            Kind::Text(&formats::WORD),
            "The storage class of the volume; the cluster's default when left out.",
        ),
        key(
            "access_mode",
            Kind::Word("manifest.unknown_access_mode", "an access mode", &AccessMode::WORDS),
            "How the volume is accessed; `ReadWriteOncePod` when left out, which some volumes do not have.",
        ),
        key("image", Kind::Text(&formats::IMAGE), "The image instead of the official one."),
        key("dashboard_image", Kind::Text(&formats::IMAGE), "The dashboard's image instead of the official one."),
        key("image_pull_secret", Kind::Text(&formats::WORD), "The Secret with which nodes fetch images."),
        key(
            "expose",
            Kind::Word("manifest.unknown_exposure", "a way to reach a backend", &Exposure::WORDS),
            "How clients reach it; `port-forward` when left out.",
        ),
        key("ingress_class", Kind::Text(&formats::WORD), "The class of its Ingress; the cluster's default when left out."),
        key("gateway", Kind::Text(&formats::GATEWAY), "The Gateway of its HTTPRoute, as `name` or `namespace/name`."),
        key("tls_secret", Kind::Text(&formats::WORD), "The Secret with the certificate of its Ingress."),
        key("cluster_issuer", Kind::Text(&formats::WORD), "The cluster issuer of cert-manager that makes this certificate."),
        key("network_policy", Kind::Flag, "Whether a NetworkPolicy admits only the pods of the namespace, or its ports only."),
    ],
};
