//! Asks whether the URLs that a manifest gives to backends lead to them from this machine.
//!
//! A backend is ready when it answers where its provider put it. The URL that clients use may be another one, behind a
//! proxy that knows nothing of the backend yet, or that only other machines reach.

use std::time::Duration;

use futures_util::StreamExt;

use crate::apply::ReadyBackend;
use crate::convex::deployment::{Deployment, DeploymentClient, DeploymentError, TransportError};
use crate::model::{ActualBackend, InstanceName, NO_AUTHORITIES, Snapshot, error_chain};

/// How long one URL may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How many are asked at once.
const CONCURRENCY: usize = 16;

/// Marks the backends whose URL does not lead to them. Those without a URL of the manifest's own answered there already.
pub(crate) async fn mark_unreached(ready: &mut [ReadyBackend], snapshot: &Snapshot) {
    let client = DeploymentClient::default();
    let (client, existing) = (&client, snapshot.by_name());
    let asked = ready.iter_mut().filter_map(|ready| {
        let backend = existing.get(&ready.name).copied()?;
        has_own_url(backend, &ready.url).then_some(async move {
            if let Err(why) = ask(client, &ready.url, &backend.instance_name).await {
                ready.unreached = Some(why);
                // The way to a server ends with the command.
                ready.reached_at = backend.internal_url.clone().filter(|_| !backend.recorded.is_forwardable());
            }
        })
    });
    futures_util::stream::iter(asked).buffer_unordered(CONCURRENCY).collect::<Vec<()>>().await;
}

/// Returns whether clients use another URL than the one at which a backend has answered. A platform answers for its own hosts.
fn has_own_url(backend: &ActualBackend, url: &str) -> bool {
    let is_given =
        backend.recorded.origins.api.is_some() && backend.recorded.provider.descriptor().location.is_on_this_machine();
    is_given && backend.internal_url.as_deref() != Some(url)
}

/// Asks whether a backend answers at a URL. No key is sent: who answers there is what is to be found out.
async fn ask(client: &DeploymentClient, url: &str, instance: &InstanceName) -> Result<(), String> {
    let deployment = Deployment::new(client, url, None);
    match tokio::time::timeout(TIMEOUT, deployment.instance_name()).await {
        Ok(Ok(name)) if name == instance.as_str() => Ok(()),
        Ok(Ok(name)) => Err(format!("another backend answers there, `{name}`")),
        Ok(Err(DeploymentError::NotListening { source, .. })) => Err(error_chain(&source)),
        Ok(Err(DeploymentError::Refused { status, .. })) => Err(format!("what answers there says status {status}")),
        Ok(Err(DeploymentError::NotConvex { .. })) => Err("what answers there is no Convex deployment".to_owned()),
        Ok(Err(DeploymentError::NotAsked { source: TransportError::NoAuthorities, .. })) => Err(NO_AUTHORITIES.to_owned()),
        Ok(Err(error)) => Err(error_chain(&error)),
        Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A server that answers every request with this status and body.
    fn answering(status: &'static str, body: &'static str) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 4096]);
                let length = body.len();
                let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            }
        });
        url
    }

    #[tokio::test]
    async fn a_url_leads_to_a_backend_only_where_that_one_answers() {
        let client = DeploymentClient::default();
        let instance = InstanceName::parse("shop-dev").unwrap();
        let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        for (url, said) in [
            (answering("200 OK", "shop-dev"), None),
            (answering("200 OK", "shop-prod"), Some("another backend answers there, `shop-prod`")),
            (answering("404 Not Found", "no route"), Some("what answers there says status 404")),
            (answering("302 Found", ""), Some("what answers there says status 302")),
            (format!("http://{closed}"), Some("refused")),
        ] {
            match (ask(&client, &url, &instance).await, said) {
                (Ok(()), None) => {}
                (Err(why), Some(said)) => assert!(why.contains(said), "{url}: {why}"),
                (result, _) => panic!("{url}: {result:?}"),
            }
        }
    }

    #[test]
    fn a_backend_is_called_ready_only_where_it_was_reached() {
        let reached = ReadyBackend {
            name: crate::model::BackendName::parse("dev").unwrap(),
            url: "https://api.example.com".to_owned(),
            site_url: "https://example.com".to_owned(),
            unreached: None,
            reached_at: None,
            forward: None,
        };
        assert_eq!(reached.sentence(), "`dev` is ready at https://api.example.com");
        let here = Some("http://127.0.0.1:4210".to_owned());
        let behind = ReadyBackend { unreached: Some("status 404".to_owned()), reached_at: here, ..reached.clone() };
        assert_eq!(
            behind.sentence(),
            "`dev` is ready at http://127.0.0.1:4210; https://api.example.com was not reached from here: status 404"
        );
        let elsewhere = ReadyBackend { forward: Some("convexinfra forward dev".to_owned()), ..reached.clone() };
        let said = "`dev` is ready; https://api.example.com leads there while this runs\n    convexinfra forward dev";
        assert_eq!(elsewhere.sentence(), said);
        let served = ReadyBackend { unreached: Some("status 404".to_owned()), ..reached };
        assert_eq!(served.sentence(), "`dev` runs; https://api.example.com was not reached from here: status 404");
    }
}
