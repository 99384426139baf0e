//! The full commit behind a `precompiled-…` release, kept in the provider state so that it is asked for once.

use crate::model::{ProviderState, Release};

/// The keys of the provider state under which a driver keeps a commit and the release that it was found for.
#[derive(Debug, Clone, Copy)]
pub struct CommitPin {
    /// The key of the release.
    pub release: &'static str,
    /// The key of the commit.
    pub commit: &'static str,
}

impl CommitPin {
    /// Returns the commit that was recorded for this very release.
    pub fn get(&self, state: &ProviderState, release: &Release) -> Option<Release> {
        let is_same = state.get(self.release).is_some_and(|known| *known == release.to_string());
        state.get(self.commit).filter(|_| is_same).and_then(|commit| Release::parse(commit).ok())
    }

    /// Records the commit of a release.
    pub fn record(&self, release: &Release, commit: &Release, state: &mut ProviderState) {
        state.insert(self.release.to_owned(), release.to_string());
        state.insert(self.commit.to_owned(), commit.to_string());
    }

    /// Copies what is recorded from one state to the next.
    pub fn copy(&self, from: &ProviderState, to: &mut ProviderState) {
        for key in [self.release, self.commit] {
            to.extend(from.get(key).map(|value| (key.to_owned(), value.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_counts_for_the_release_that_it_was_found_for() {
        let pin = CommitPin { release: "release_tag", commit: "release_commit" };
        let release = Release::parse("precompiled-2026-08-21-652b828").unwrap();
        let commit = Release::parse("652b828b5129e6cdbcaa3c20efa8d116d09ff3bf").unwrap();
        let mut state = ProviderState::new();
        pin.record(&release, &commit, &mut state);
        assert_eq!(pin.get(&state, &release), Some(commit.clone()));
        assert_eq!(pin.get(&state, &Release::parse("precompiled-2026-08-22-652b828").unwrap()), None);
        let mut next = ProviderState::new();
        pin.copy(&state, &mut next);
        assert_eq!(next, state);
    }
}
