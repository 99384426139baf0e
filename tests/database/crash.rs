//! Preparing and giving back a database, killed at every point that it passes, and what the same command then makes
//! of it.

use fixture::ProjectFixture;
use fixture::crash::{CrashPoint, crash_matrix};
use fixture::database::{Server, servers};

const STORAGE: &str = ", tls = \"disable\", role = \"least_privilege\"";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    Apply,
    Destroy,
    DestroyWithDatabase,
}

impl Story {
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Apply => &["apply", "--yes"],
            Self::Destroy => &["destroy", "--allow-destroy", "dev"],
            Self::DestroyWithDatabase => &["destroy", "--allow-destroy", "dev", "--with-database"],
        }
    }

    fn world(self, server: &Server, project: &str) -> ProjectFixture {
        let mut world = ProjectFixture::new(&server.manifest(project, STORAGE));
        world.set("DATABASE", &server.root());
        if self != Self::Apply {
            world.apply();
        }
        world
    }
}

/// The points about databases that a command passes, each once.
fn points(story: Story, server: &Server) -> Vec<CrashPoint> {
    let mut world = story.world(server, &Server::project());
    let points = world.crash_points(story.words());
    world.run(Story::DestroyWithDatabase.words());
    points.into_iter().filter(|point| point.name.starts_with("database.") && point.pass == 1).collect()
}

#[test]
fn a_command_killed_anywhere_is_healed_by_the_next() {
    for server in servers() {
        for story in [Story::Apply, Story::Destroy, Story::DestroyWithDatabase] {
            let points = points(story, server);
            assert!(points.len() >= if story == Story::Apply { 5 } else { 1 }, "{story:?}: {points:?}");
            crash_matrix(story, &points, 1, |point| {
                let project = Server::project();
                let (instance, database) = (format!("{project}-dev"), format!("{project}_dev"));
                let mut world = story.world(server, &project);
                let killed = world.run_killed_at(point, story.words());
                assert_eq!(killed.signal(), Some(9), "{point}: {killed}");
                match story {
                    Story::Apply => {
                        world.apply();
                        world.assert_reachable(".env.local", &instance);
                        world.assert_converged();
                    }
                    // Nobody says again what becomes of the database: what was begun is finished.
                    Story::Destroy | Story::DestroyWithDatabase => {
                        let manifest = world.read("convex.toml");
                        world.manifest(&format!("project = \"{project}\"\n"));
                        world.run_expecting(0, &["apply", "--yes", "--allow-destroy", "dev"]);
                        assert_eq!(server.has(&database), story == Story::Destroy, "{point}");
                        assert_eq!((world.names(), world.processes()), (Vec::new(), Vec::new()), "{point}");
                        world.manifest(&manifest);
                        world.apply();
                        world.assert_converged();
                    }
                }
                world.run_expecting(0, Story::DestroyWithDatabase.words());
                assert!(!server.has(&database), "{point}");
                true
            });
        }
    }
}
