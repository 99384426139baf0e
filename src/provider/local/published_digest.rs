//! The SHA-256 that GitHub publishes for the files of a release.

use std::time::Duration;

use reqwest::header::ACCEPT;

use super::download::root_cause;
use super::origin::{Origin, read_text};

/// The largest answer that is read; the real one is a hundredth of this.
const ANSWER_MAX: usize = 4 << 20;
const TIMEOUT: Duration = Duration::from_secs(15);

/// Asks for the digest of an asset of a release; none where the release publishes none. `releases` is the URL below which
/// releases are found by tag.
///
/// # Errors
/// Why it could not be asked for, as the end of a sentence.
pub(super) async fn published_digest(releases: &str, tag: &str, asset: &str) -> Result<Option<String>, String> {
    let url = format!("{}/{tag}", releases.trim_end_matches('/'));
    let client = Origin::parse(releases).and_then(|origin| origin.client(TIMEOUT)).map_err(|error| error.to_string())?;
    let request = client.get(&url).timeout(TIMEOUT).header(ACCEPT, "application/vnd.github+json");
    let response = request.send().await.and_then(reqwest::Response::error_for_status).map_err(|error| root_cause(&error))?;
    digest_of(&read_text(response, ANSWER_MAX).await?, asset)
}

/// Reads the digest of an asset from GitHub's description of a release.
fn digest_of(answer: &str, asset: &str) -> Result<Option<String>, String> {
    #[derive(serde::Deserialize)]
    struct Release {
        assets: Vec<Asset>,
    }
    #[derive(serde::Deserialize)]
    struct Asset {
        name: String,
        digest: Option<String>,
    }
    let release: Release = serde_json::from_str(answer).map_err(|_| "the answer describes no release".to_owned())?;
    let digest = release.assets.into_iter().find(|found| found.name == asset).and_then(|found| found.digest);
    Ok(digest.filter(|digest| super::file_identity::is_digest(digest)).map(|digest| digest.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_the_asset_is_read() {
        let hex = "AB".repeat(32);
        let answer = format!(
            r#"{{"assets":[{{"name":"a.zip","digest":"sha256:{hex}"}},{{"name":"b.zip","digest":null}},{{"name":"c.zip"}},{{"name":"d.zip","digest":"md5:1"}}]}}"#
        );
        assert_eq!(digest_of(&answer, "a.zip").unwrap(), Some(format!("sha256:{}", hex.to_lowercase())));
        for asset in ["b.zip", "c.zip", "d.zip", "e.zip"] {
            assert_eq!(digest_of(&answer, asset).unwrap(), None, "{asset}");
        }
        assert!(digest_of("[]", "a.zip").is_err());
    }
}
