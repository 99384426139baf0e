//! What every provider that runs processes must do, tried on real processes.

#![allow(clippy::disallowed_methods, reason = "tests read the files that they wrote themselves")]

mod contract;
mod crash;
mod download;
mod server;
mod special;
mod world;

use world::{local, simulated};

macro_rules! contract {
    ($setup:ident: $($name:ident),+ $(,)?) => {
        mod $setup {
            $(
                #[tokio::test]
                async fn $name() {
                    super::contract::$name(super::world::ProviderFixture::new(super::$setup)).await;
                }
            )+
        }
    };
}

macro_rules! for_every_provider {
    ($($name:ident),+ $(,)?) => {
        contract!(simulated: $($name),+);
        contract!(local: $($name),+);
    };
}

for_every_provider! {
    absent_until_ensured_and_ensured_once,
    another_launch_restarts_and_keeps_the_data,
    lost_data_is_never_replaced_by_none,
    ensures_of_many_commands_give_one_process,
    removed_means_gone,
    the_log_is_read_and_followed,
    a_stranger_on_a_port_is_told,
    a_suspended_process_is_not_absent,
    a_suspended_process_is_stopped_all_the_same,
    a_lost_record_gives_no_second_process,
    a_start_that_fails_says_why,
    no_secret_is_left_in_files_or_our_arguments,
    another_instance_on_the_port_is_told,
    a_half_removed_backend_is_swept,
    everything_is_private,
    an_ended_process_leaves_no_zombie,
    a_backend_inherits_no_descriptors_of_its_command,
}
