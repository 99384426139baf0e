//! The contract of all drivers, kept by each: simulated, local, docker (on a real engine), fly (on its
//! stand-in), kubernetes (in a real cluster, where there is one), and a toy.

#![allow(clippy::disallowed_methods, reason = "tests read the files that they wrote themselves")]

mod app;
#[path = "../docker/bench.rs"]
#[allow(dead_code, reason = "the tests of the driver use all of it")]
mod bench;
mod container;
#[path = "../fly_driver/fixture.rs"]
#[allow(dead_code, reason = "the tests of the driver use all of it")]
mod fly_fixture;
mod folder;
#[path = "../kubernetes/rig.rs"]
#[allow(dead_code, reason = "the tests of the driver use all of it")]
mod kubernetes_rig;
mod pod;
#[macro_use]
mod promises;
#[path = "../provider/world.rs"]
#[allow(dead_code, reason = "the tests of process providers use all of it")]
mod provider_world;
#[path = "../docker/rig.rs"]
#[allow(dead_code, reason = "the tests of the driver use all of it")]
mod rig;
mod toy;

use app::AppFixture;
use bench::DockerFixture;
use container::ContainerFixture;
use folder::FolderFixture;
use pod::PodFixture;

provider_contract!(simulated, FolderFixture::of_processes(crate::provider_world::simulated));
provider_contract!(local, FolderFixture::of_processes(crate::provider_world::local));
provider_contract!(docker, ContainerFixture::new(DockerFixture::new(engine_or_skip!())));
provider_contract!(fly, AppFixture::new());
provider_contract!(
    kubernetes,
    PodFixture::new(match kubernetes_rig::cluster() {
        Some(cluster) => cluster,
        None => return,
    })
);
provider_contract!(toy_driver, FolderFixture::of_toy());
