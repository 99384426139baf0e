//! Hosts of the user's own: a certificate for each, and the records that only the user can set.

use super::api_types::{Certificate, DnsRequirements};
use super::apps::AppReconciler;
use super::client::call_failed;
use super::error::FlyError;
use super::requests;

impl AppReconciler<'_> {
    /// Orders what certificates are missing, and says what has to be set in the domain name system.
    pub(super) async fn ensure_certificates(&self, hosts: &[String]) -> Result<(), FlyError> {
        for host in hosts {
            let certificate = match self.client.find::<Certificate>(requests::get_certificate(&self.app, host)).await? {
                Some(certificate) => certificate,
                None => {
                    let call = requests::request_certificate(&self.app, host);
                    let what = call.label();
                    // The same host twice is the same certificate.
                    let asked = self.client.call_idempotent(call).await;
                    match (self.client.find(requests::get_certificate(&self.app, host)).await?, asked) {
                        (Some(certificate), _) => certificate,
                        (None, Ok(_)) => Certificate::default(),
                        (None, Err(declined)) => return Err(call_failed(&what, declined)),
                    }
                }
            };
            if !certificate.configured {
                for line in self.waiting(host, &certificate) {
                    (self.notice)(line);
                }
            }
        }
        Ok(())
    }

    /// What is still to be set for hosts whose certificates are not there yet.
    pub(super) async fn pending_certificates(&self, hosts: &[String]) -> Result<Vec<String>, FlyError> {
        let mut pending = Vec::new();
        for host in hosts {
            let certificate =
                self.client.find::<Certificate>(requests::get_certificate(&self.app, host)).await?.unwrap_or_default();
            if certificate.configured {
                continue;
            }
            // Asking for a check is what makes Fly look; it changes nothing of ours.
            let checked = self.client.transport.send(requests::check_certificate(&self.app, host)).await;
            let checked = checked.ok().and_then(|reply| serde_json::from_str::<Certificate>(&reply.body).ok());
            if !checked.is_some_and(|checked| checked.configured) {
                pending.extend(self.waiting(host, &certificate));
            }
        }
        Ok(pending)
    }

    fn waiting(&self, host: &str, certificate: &Certificate) -> Vec<String> {
        let requirements = certificate.dns_requirements.clone().unwrap_or_default();
        let records = records(host, &self.app, &requirements);
        let mut lines = vec![format!("`{host}` does not lead to `{}` yet; set in its domain name system", self.app)];
        lines.extend(records.into_iter().map(|record| format!("    {record}")));
        lines
    }
}

/// The records to set, each as a line of a zone file.
fn records(host: &str, app: &str, requirements: &DnsRequirements) -> Vec<String> {
    let mut records = Vec::new();
    let dot = |name: &str| if name.ends_with('.') { name.to_owned() } else { format!("{name}.") };
    if requirements.a.is_empty() && requirements.aaaa.is_empty() || host.split('.').count() > 2 {
        let target = requirements.cname.clone().filter(|target| !target.is_empty()).unwrap_or_else(|| format!("{app}.fly.dev"));
        records.push(format!("{} CNAME {}", dot(host), dot(&target)));
    } else {
        // The root of a zone cannot have another name.
        records.extend(requirements.a.iter().map(|address| format!("{} A {address}", dot(host))));
        records.extend(requirements.aaaa.iter().map(|address| format!("{} AAAA {address}", dot(host))));
    }
    if let Some(challenge) = requirements.acme_challenge.as_ref().filter(|challenge| !challenge.name.is_empty()) {
        records.push(format!("{} CNAME {}", dot(&challenge.name), dot(&challenge.target)));
    }
    if let Some(ownership) = requirements.ownership.as_ref().filter(|ownership| !ownership.name.is_empty()) {
        records.push(format!("{} TXT \"{}\"", dot(&ownership.name), ownership.app_value));
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::fly::api_types::DnsRecord;

    #[test]
    fn records_are_lines_of_a_zone_file() {
        let requirements = DnsRequirements {
            a: vec!["66.241.1.1".to_owned()],
            aaaa: vec!["2a09::1".to_owned()],
            cname: Some("xyz.flydns.net".to_owned()),
            acme_challenge: Some(DnsRecord {
                name: "_acme-challenge.api.x.dev".to_owned(),
                target: "api.x.dev.xyz.flydns.net".to_owned(),
            }),
            ownership: None,
        };
        assert_eq!(
            records("api.x.dev", "app", &requirements),
            ["api.x.dev. CNAME xyz.flydns.net.", "_acme-challenge.api.x.dev. CNAME api.x.dev.xyz.flydns.net."]
        );
        assert_eq!(records("x.dev", "app", &requirements)[..2], ["x.dev. A 66.241.1.1", "x.dev. AAAA 2a09::1"]);
        assert_eq!(records("api.x.dev", "app", &DnsRequirements::default()), ["api.x.dev. CNAME app.fly.dev."]);
    }
}
