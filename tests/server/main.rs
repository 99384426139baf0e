//! Backends on a server of one's own: a Docker engine behind a real SSH server, in a network of its own.
//!
//! The server is the one that `tests/server/lab up FOLDER` started, whose folder is in `CONVEXINFRA_TEST_SERVER`.

#![allow(clippy::disallowed_methods, reason = "tests read the files that they wrote themselves")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

#[path = "../docker/bench.rs"]
#[allow(dead_code, reason = "the tests of the driver use all of it")]
mod bench;
mod check;
mod commands;
mod connection;
#[path = "../contract/container.rs"]
mod container;
mod crash;
mod external_proxy;
mod lab;
mod proxy;
#[macro_use]
#[path = "../contract/promises.rs"]
mod promises;
#[path = "../provider/world.rs"]
#[allow(dead_code, reason = "the tests of process providers use all of it")]
mod provider_world;
#[path = "../docker/rig.rs"]
#[allow(dead_code, unused_macros, reason = "the tests of the driver use all of it")]
mod rig;

use bench::DockerFixture;
use container::ContainerFixture;

provider_contract!(
    docker_over_ssh,
    ContainerFixture::new({
        let lab = lab_or_skip!();
        DockerFixture::on_server(&lab.engine, lab.server())
    })
);
