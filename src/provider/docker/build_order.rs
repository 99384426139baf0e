//! The order of two builds by the days on which their images were built: the commits that images are tagged with say nothing
//! about their age.

use super::engine::{Engine, EngineSource};
use super::image::{Image, ImageStore, backend_reference};
use crate::model::{PullPolicy, RELEASE_CREATED, ReleaseOrder, ResolvedBackend};
use crate::provider::ProviderError;
use crate::provider::kit::image_reference::ImageReference;

/// Images that say that they are older than this have no date: the first images of Convex are of that year.
const FIRST_YEAR: &str = "2024";

/// Refuses an image of a release that is older than the one that has run on the data, as far as both say when they were built.
pub(super) fn refuse_older(resolved: &ResolvedBackend, image: &Image) -> Result<(), ProviderError> {
    match order(resolved, image) {
        Some((ReleaseOrder::Older, built, ran)) => Err(ProviderError::Downgrade { image: image.reference.clone(), built, ran }),
        _ => Ok(()),
    }
}

/// Returns the order of the image that a backend is to run and the one that ran on its data, where the engine has it already.
/// Fetches nothing.
///
/// # Errors
/// [`ProviderError::Downgrade`] for an older one.
pub(super) async fn look_up(
    engine: &Engine,
    source: &EngineSource,
    resolved: &ResolvedBackend,
) -> Result<Option<ReleaseOrder>, ProviderError> {
    let images = ImageStore { engine, source, policy: PullPolicy::Never };
    // Without the commit of a tag there is no image to look up.
    let Ok(reference) = backend_reference(resolved) else { return Ok(None) };
    let Some(image) = images.inspect(&reference, &reference).await? else { return Ok(None) };
    refuse_older(resolved, &image)?;
    Ok(order(resolved, &image).map(|(order, ..)| order))
}

/// Returns the order of an image and the build that has run on the data of a backend, with the days of both.
fn order(resolved: &ResolvedBackend, image: &Image) -> Option<(ReleaseOrder, String, String)> {
    let is_named = resolved.spec.settings.docker.image.as_deref().is_some_and(|image| ImageReference::parse(image).is_exact());
    let ran = resolved.provider_state.get(RELEASE_CREATED).filter(|_| resolved.has_been_ready && !is_named);
    compare(ran?, image.created.as_deref()?)
}

/// Returns the order of two builds and the days on which they were made, the second one first, where both say it.
fn compare(ran: &str, next: &str) -> Option<(ReleaseOrder, String, String)> {
    let time = |text: &str| text.parse::<jiff::Timestamp>().ok().filter(|_| text >= FIRST_YEAR);
    let (ran, next) = (time(ran)?, time(next)?);
    let order = match next.cmp(&ran) {
        std::cmp::Ordering::Less => ReleaseOrder::Older,
        std::cmp::Ordering::Equal => ReleaseOrder::Same,
        std::cmp::Ordering::Greater => ReleaseOrder::Newer,
    };
    let day = |time: jiff::Timestamp| time.strftime("%F").to_string();
    Some((order, day(next), day(ran)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_are_ordered_where_both_say_when_they_were_made() {
        let (june, august) = ("2026-06-26T10:00:00.5Z", "2026-08-21T09:00:00Z");
        let days = |order, next: &str, ran: &str| Some((order, next.to_owned(), ran.to_owned()));
        assert_eq!(compare(august, june), days(ReleaseOrder::Older, "2026-06-26", "2026-08-21"));
        assert_eq!(compare(june, august), days(ReleaseOrder::Newer, "2026-08-21", "2026-06-26"));
        assert_eq!(compare(june, june), days(ReleaseOrder::Same, "2026-06-26", "2026-06-26"));
        // Builds that say the same for every time say nothing.
        for unknown in ["1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "soon"] {
            assert_eq!((compare(august, unknown), compare(unknown, june)), (None, None), "{unknown:?}");
        }
    }
}
