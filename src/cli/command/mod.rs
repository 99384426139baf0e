//! The commands, one file each.
//!
//! Must not do: know what a command does; it only finds the one that was asked for.

mod apply;
mod archive;
mod completions;
mod dashboard;
mod destroy;
mod drift;
mod env;
mod fork;
mod forward;
mod graph;
mod import;
mod init;
mod key;
mod kubernetes;
mod lifecycle;
mod log;
mod logs;
mod plan;
mod provision;
mod quota;
mod recover;
mod releases;
mod render;
mod restore;
mod rollback;
mod rotate;
mod rotate_master;
mod schema;
mod serve;
mod server;
mod skill;
mod snapshot;
mod status;
mod token;
mod trust;
mod up;
mod upgrade;
mod validate;
mod wait;

use super::args::{Command, Key, KeyCommand};
use super::context::Context;
use crate::app::{AppError, require_ownership};
use crate::model::{Desired, Diagnostic, Exit, ProjectName};

/// Runs one command.
pub(super) fn run(context: &Context, command: Command) -> Result<Exit, AppError> {
    match command {
        Command::Validate(args) => validate::run(context, &args),
        Command::Schema(args) => schema::run(context, &args),
        Command::Completions(args) => completions::run(context, &args),
        Command::Skill(args) => skill::run(context, &args),
        Command::Key(Key { command: KeyCommand::Rotate(args) }) => run_to_end(rotate::run(context, &args)),
        Command::Key(Key { command: KeyCommand::RotateMaster(args) }) => rotate_master::run(context, &args),
        Command::Key(args) => key::run(context, &args),
        Command::Kubernetes(args) => kubernetes::run(context, &args),
        Command::Render(args) => render::run(context, &args),
        Command::Trust(args) => trust::run(context, &args),
        Command::Serve(args) => serve::run(context, &args),
        Command::SimulateBackend { .. } => {
            let message = "`simulate-backend` must be the first word: everything after it belongs to the backend";
            Err(AppError::new(Exit::Usage, Diagnostic::new("usage.simulate_backend", message)))
        }
        command => run_to_end(run_async(context, command)),
    }
}

/// Runs a command until it is done. A thread that waits for a file or a program that never answers does not keep it.
fn run_to_end(command: impl Future<Output = Result<Exit, AppError>>) -> Result<Exit, AppError> {
    let runtime = runtime()?;
    let exit = runtime.block_on(command);
    runtime.shutdown_timeout(SHUTDOWN_WITHIN);
    exit
}

async fn run_async(context: &Context, command: Command) -> Result<Exit, AppError> {
    match command {
        Command::Init(args) => init::run(context, &args).await,
        Command::Plan(args) => plan::run(context, &args).await,
        Command::Apply(args) => apply::run(context, &args).await,
        Command::Archive(args) => archive::run(context, &args).await,
        Command::Snapshot(args) => snapshot::run(context, &args).await,
        Command::Restore(args) => restore::run(context, &args).await,
        Command::Fork(args) => fork::run(context, &args).await,
        Command::Resume(args) => fork::resume(context, &args).await,
        Command::Upgrade(args) => upgrade::run(context, &args).await,
        Command::Rollback(args) => rollback::run(context, &args).await,
        Command::Releases(args) => releases::run(context, &args).await,
        Command::Destroy(args) => destroy::run(context, &args).await,
        Command::Drift => drift::run(context).await,
        Command::Status(args) => status::run(context, &args).await,
        Command::Env(args) => env::run(context, &args).await,
        Command::Wait(args) => wait::run(context, &args).await,
        Command::Logs(args) => logs::run(context, &args).await,
        Command::Server(args) => server::run(context, &args).await,
        Command::Forward(args) => forward::run(context, &args).await,
        Command::Graph(args) => graph::run(context, &args).await,
        Command::Provision(args) => provision::provision(context, &args).await,
        Command::Deprovision(args) => provision::deprovision(context, &args).await,
        Command::Import(args) => import::run(context, &args).await,
        Command::Stop(args) => lifecycle::stop(context, &args).await,
        Command::Start(args) => lifecycle::start(context, &args).await,
        Command::Up(args) => up::run(context, &args).await,
        Command::Forget(args) => lifecycle::forget(context, &args).await,
        Command::Recover(args) => recover::run(context, &args).await,
        Command::Dashboard(args) => dashboard::run(context, &args).await,
        Command::Log(args) => log::run(context, &args).await,
        Command::Token(args) => token::run(context, &args).await,
        Command::Quota(args) => quota::run(context, &args).await,
        _ => Ok(Exit::Usage),
    }
}

/// Refuses another repository's project where only the manifest names it. An operator who types the name means that project.
async fn require_own_or_typed(context: &Context, project: &ProjectName, desired: Option<&Desired>) -> Result<(), AppError> {
    if context.global.project.is_some() {
        return Ok(());
    }
    require_ownership(context.control(desired)?, project, desired).await
}

/// How long what is still written when a command ends may take.
const SHUTDOWN_WITHIN: std::time::Duration = std::time::Duration::from_secs(3);
/// How many descriptors a runtime takes at once, with room for what it opens lazily.
const RUNTIME_DESCRIPTORS: usize = 16;

/// One thread is enough: what takes long happens in other processes.
fn runtime() -> Result<tokio::runtime::Runtime, AppError> {
    let built = spare_descriptors().and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build());
    built.map_err(|error| {
        AppError::new(Exit::Failed, Diagnostic::new("host.runtime", format!("the runtime could not be started: {error}")))
    })
}

/// Checks that there are descriptors for a runtime: it opens some without which it panics.
fn spare_descriptors() -> std::io::Result<()> {
    (0..RUNTIME_DESCRIPTORS).map(|_| std::fs::File::open("/dev/null")).collect::<Result<Vec<_>, _>>().map(drop)
}
