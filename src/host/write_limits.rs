//! Limits on how many requests may write at once, all but one of which wait: each keeps a thread of a pool that has twice as
//! many, and running operations need some of those. One project gets a part of them only, so that it cannot keep its
//! neighbours from writing.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::lock;
use crate::model::{Diagnostic, ProjectName};

/// The number of requests that may write at once.
const MAX_WRITES: usize = 256;
/// The number of requests about one project that may.
const MAX_WRITES_PER_PROJECT: usize = 64;

/// Counts the requests that write, or wait for others that do.
#[derive(Default)]
pub(super) struct WriteLimits(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    all: usize,
    projects: BTreeMap<ProjectName, usize>,
}

/// Counts a request until it is dropped.
pub(super) struct WritePermit<'a> {
    limits: &'a WriteLimits,
    project: Option<ProjectName>,
}

impl WriteLimits {
    /// Counts a request, about one project or none.
    ///
    /// # Errors
    /// Too many write already.
    pub(super) fn try_acquire(&self, project: Option<&ProjectName>) -> Result<WritePermit<'_>, Diagnostic> {
        let mut counts = lock(&self.0);
        if counts.all >= MAX_WRITES {
            return Err(busy(format!("{MAX_WRITES} requests wait already for the store of this control plane")));
        }
        if let Some(project) = project {
            let count = counts.projects.entry(project.clone()).or_default();
            if *count >= MAX_WRITES_PER_PROJECT {
                let message = format!("{MAX_WRITES_PER_PROJECT} requests about `{project}` wait already for the store");
                return Err(busy(message));
            }
            *count += 1;
        }
        counts.all += 1;
        Ok(WritePermit { limits: self, project: project.cloned() })
    }
}

fn busy(message: String) -> Diagnostic {
    Diagnostic::new("store.busy", message).with_help("nothing was changed; ask again in a moment")
}

impl Drop for WritePermit<'_> {
    fn drop(&mut self) {
        let mut counts = lock(&self.limits.0);
        counts.all -= 1;
        if let Some(project) = &self.project
            && let Some(count) = counts.projects.get_mut(project)
        {
            *count -= 1;
            if *count == 0 {
                counts.projects.remove(project);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(name: &str) -> ProjectName {
        ProjectName::parse(name).unwrap()
    }

    #[test]
    fn one_project_leaves_room_for_its_neighbours() {
        let limits = WriteLimits::default();
        let (greedy, good) = (project("greedy"), project("good"));
        let held: Vec<_> = (0..MAX_WRITES_PER_PROJECT).map(|_| limits.try_acquire(Some(&greedy)).ok().unwrap()).collect();
        let refused = limits.try_acquire(Some(&greedy)).err().unwrap();
        assert!(refused.code == "store.busy" && refused.message.contains("`greedy`"), "{refused:?}");
        assert!(limits.try_acquire(Some(&good)).is_ok() && limits.try_acquire(None).is_ok());
        drop(held);
        assert!(limits.try_acquire(Some(&greedy)).is_ok());
        assert!(lock(&limits.0).projects.is_empty(), "a project that writes nothing is forgotten");
    }

    #[test]
    fn all_projects_together_have_a_limit() {
        let limits = WriteLimits::default();
        let names: Vec<_> = (0..MAX_WRITES / MAX_WRITES_PER_PROJECT).map(|number| project(&format!("p{number}"))).collect();
        let held: Vec<_> = names
            .iter()
            .flat_map(|name| (0..MAX_WRITES_PER_PROJECT).map(|_| limits.try_acquire(Some(name)).ok().unwrap()))
            .collect();
        assert!(limits.try_acquire(None).is_err() && limits.try_acquire(Some(&project("late"))).is_err());
        drop(held);
        assert_eq!(lock(&limits.0).all, 0);
    }
}
