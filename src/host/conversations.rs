//! How many conversations with database servers one project may hold at once: servers that others name may stall, and
//! one project must not take every connection, socket and minute of its neighbours.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::lock;
use crate::model::ProjectName;

/// How many conversations one project may hold at once.
pub(super) const MAX_CONVERSATIONS: usize = 8;

/// The conversations of every project.
#[derive(Default)]
pub(super) struct ConversationLimits(Mutex<BTreeMap<ProjectName, Arc<Semaphore>>>);

impl ConversationLimits {
    /// Waits until the project may hold one more; it is held until the permit is dropped.
    pub(super) async fn acquire(&self, project: &ProjectName) -> Option<OwnedSemaphorePermit> {
        let semaphore = {
            let mut projects = lock(&self.0);
            // A project without waiters and without conversations is forgotten.
            projects.retain(|_, one| Arc::strong_count(one) > 1);
            Arc::clone(projects.entry(project.clone()).or_insert_with(|| Arc::new(Semaphore::new(MAX_CONVERSATIONS))))
        };
        // It is never closed.
        semaphore.acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_project_holds_so_many_and_its_neighbours_as_many() {
        let limits = ConversationLimits::default();
        let (one, other) = (ProjectName::parse("one").unwrap(), ProjectName::parse("other").unwrap());
        let mut held = Vec::new();
        for _ in 0..MAX_CONVERSATIONS {
            held.push(limits.acquire(&one).await.unwrap());
        }
        let next = limits.acquire(&one);
        tokio::pin!(next);
        assert!(futures_util::poll!(&mut next).is_pending());
        drop(limits.acquire(&other).await.unwrap());
        held.pop();
        drop(next.await.unwrap());
        drop(held);
        drop(limits.acquire(&other).await.unwrap());
        assert_eq!(lock(&limits.0).len(), 1, "who holds nothing is forgotten");
    }
}
