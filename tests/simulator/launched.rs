//! A placement, through `launch`, to a backend that is ready: what a provider does, without the provider.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use convexinfra::convex::admin_key::KeyKind;
use convexinfra::convex::launch::{LaunchTarget, SecretDelivery, launch};
use convexinfra::model::{
    BackendId, BackendName, BackendSpec, Endpoints, Generation, InstanceName, PortPair, ProjectName, ProviderKind,
    ProviderState, Release, ResolvedBackend, Secret, Tuning,
};

use super::backend::{NAME, Place, SECRET, Setup, admin_key, key_of};

fn placement(api: u16, site: u16) -> ResolvedBackend {
    let mut spec = BackendSpec::new(ProviderKind::Simulated);
    spec.release = Some(Release::parse("precompiled-2026-08-21-652b828").unwrap());
    spec.tuning = Tuning { beacon: Some(false), redact_logs: Some(true), max_concurrent_queries: Some(4), ..Tuning::default() };
    ResolvedBackend {
        id: BackendId::new("b1"),
        project: ProjectName::parse("gold").unwrap(),
        name: BackendName::parse("backend").unwrap(),
        instance_name: InstanceName::parse(NAME).unwrap(),
        spec,
        generation: Generation(1),
        instance_secret: Secret::new(hex::encode(SECRET)),
        admin_key: admin_key(),
        secrets: BTreeMap::new(),
        ports: PortPair { api, site },
        endpoints: Endpoints { url: format!("http://127.0.0.1:{api}"), site_url: format!("http://127.0.0.1:{site}") },
        has_been_ready: false,
        provider_state: ProviderState::new(),
    }
}

#[tokio::test]
async fn a_launched_backend_becomes_ready() {
    for secret in [SecretDelivery::Flag, SecretDelivery::Variable] {
        let place = Place::new();
        let (api, site) = fixture::free_ports();
        let target = LaunchTarget {
            data: place.folder.path().to_owned(),
            interface: Ipv4Addr::LOCALHOST,
            ports: PortPair { api, site },
            secret,
            release: None,
            certificate_file: None,
        };
        let launch = launch(&placement(api, site), &target).unwrap();
        let arguments = launch.arguments.iter().map(|argument| argument.expose().to_owned()).collect();
        let names: BTreeSet<&str> = launch.environment.keys().map(String::as_str).collect();
        assert!(names.contains("DISABLE_METRICS_ENDPOINT") && names.contains("DOCUMENT_RETENTION_DELAY"));
        let variables = launch.environment.into_iter().map(|(name, value)| {
            let name: &'static str = name.leak();
            (name, value.expose().to_string_lossy().into_owned())
        });
        let setup = Setup { api, site, arguments, variables: variables.collect() };
        let key = key_of(NAME, &hex::encode(SECRET), KeyKind::Admin { member_id: 0 });
        let mut backend = place.start_with(&setup, NAME, &key).await;
        let deployment = backend.deployment();
        assert_eq!(deployment.version().await.unwrap(), "precompiled-2026-08-21-652b828");
        assert_eq!(deployment.canonical_urls().await.unwrap().convex_cloud_url, backend.url());
        assert_eq!(backend.interrupt().code(), Some(0));
        assert!(place.folder.path().join("db.sqlite3").exists() && place.folder.path().join("storage").is_dir());
        assert!(!place.folder.path().join("db.sqlite3-wal").exists(), "an orderly end leaves one file");
    }
}
