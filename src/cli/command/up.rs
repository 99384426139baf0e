//! `convexinfra up`: starts the backends of this machine that should run and do not, such as after a reboot.

use std::path::{Path, PathBuf};

use crate::api::Work;
use crate::app::{AppError, lifecycle};
use crate::cli::args::Up as Args;
use crate::cli::context::Context;
use crate::cli::terminal::Terminal;
use crate::model::{ActualBackend, Diagnostic, Exit, Phase, ProjectName, Report, RunState};

/// The name of the unit that starts them at boot.
const UNIT: &str = "convexinfra-up.service";

/// Starts them now, or has the system start them after each boot.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    if args.on_boot {
        return install(context);
    }
    let control = context.control(None)?;
    let terminal = Terminal::new(&context.printer);
    let (mut started, mut errors, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for project in control.projects().await? {
        let snapshot = control.snapshot(&project).await?;
        let should_run = |backend: &&ActualBackend| backend.phase == Phase::Ready && !backend.stopped;
        for backend in snapshot.backends.iter().filter(should_run) {
            if let Some(why) = backend.observe_failure() {
                let message = format!("nothing is known of `{}` of `{project}`: {}", backend.name, why.message);
                unknown.push(Diagnostic { message, ..why });
            }
            if backend.observation.state != RunState::Stopped {
                continue;
            }
            match lifecycle::run(control, &project, snapshot.origin.clone(), &backend.name, Work::Start {}, &terminal).await {
                Ok(()) => {
                    context.printer.output(&format!("started `{}` of `{project}`\n", backend.name));
                    started.push(serde_json::json!({ "project": project, "name": backend.name }));
                }
                Err(error) => errors.extend(failed(&project, backend, &error)),
            }
        }
    }
    if !errors.is_empty() || !unknown.is_empty() {
        let exit = if errors.is_empty() { Exit::Unreachable } else { Exit::Failed };
        errors.extend(unknown);
        return Err(AppError::from(Report { exit, errors }));
    }
    if started.is_empty() {
        context.printer.output("nothing to start: every backend runs, or was stopped on purpose\n");
        context.printer.status("apply what a manifest says with\n    convexinfra apply\n");
    }
    context.printer.json("convexinfra.up/1", serde_json::json!({ "started": started }));
    Ok(Exit::Done)
}

fn failed(project: &ProjectName, backend: &ActualBackend, error: &AppError) -> Vec<Diagnostic> {
    let errors = error.report().errors.into_iter();
    let say =
        |error: Diagnostic| Diagnostic { message: format!("`{}` of `{project}`: {}", backend.name, error.message), ..error };
    errors.map(say).collect()
}

/// Writes a unit of the user's own service manager, and says how it is switched on.
fn install(context: &Context) -> Result<Exit, AppError> {
    let failed = |message: String| AppError::new(Exit::Failed, Diagnostic::new("up.not_installed", message));
    if !cfg!(target_os = "linux") {
        let finding = Diagnostic::new("up.no_systemd", "`--on-boot` writes a unit of systemd, which this system does not have");
        return Err(AppError::new(Exit::Failed, finding.with_help("have your own service manager run\n    convexinfra up")));
    }
    let folder =
        unit_folder().ok_or_else(|| failed("there is no home directory, so there is no place for a unit".to_owned()))?;
    let program = std::env::current_exe().map_err(|error| failed(format!("this program cannot find itself: {error}")))?;
    let text = unit(&program, &context.home()?)
        .ok_or_else(|| failed("the path of this program or of its home cannot stand in a unit".to_owned()))?;
    let path = folder.join(UNIT);
    let write = || {
        std::fs::create_dir_all(&folder)?;
        std::fs::write(&path, &text)
    };
    write().map_err(|error| failed(format!("`{}` could not be written: {error}", path.display())))?;
    context.printer.output(&format!(
        "wrote `{}`; switch it on, also for the time before you log in, with\n    systemctl --user enable {UNIT}\n    \
         loginctl enable-linger\n",
        path.display()
    ));
    context.printer.json("convexinfra.up/1", serde_json::json!({ "unit": path, "started": [] }));
    Ok(Exit::Done)
}

/// Returns the folder of the user's units.
fn unit_folder() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
    Some(config.join("systemd/user"))
}

/// Returns the unit; none where a path cannot be quoted in one.
fn unit(program: &Path, home: &Path) -> Option<String> {
    // A `$` begins a variable in a command, and in nothing else.
    let (program, home) =
        (quoted(program.to_str()?)?.replace('$', "$$"), quoted(&format!("CONVEXINFRA_HOME={}", home.to_str()?))?);
    Some(format!(
        "[Unit]\n\
         Description=Start the Convex backends of convexinfra\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         # What it starts goes on when the unit is stopped.\n\
         KillMode=process\n\
         Environment={home}\n\
         ExecStart={program} up\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n"
    ))
}

/// Quotes a text for a unit, where `%` begins a specifier; none for one of several lines.
fn quoted(text: &str) -> Option<String> {
    if text.contains(char::is_control) {
        return None;
    }
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    Some(format!("\"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_names_the_program_and_its_home_as_they_are() {
        let unit = unit(Path::new("/opt/a b/convexinfra"), Path::new("/home/jane/100%/home")).unwrap();
        assert!(unit.contains("\nExecStart=\"/opt/a b/convexinfra\" up\n"), "{unit}");
        assert!(unit.contains("\nEnvironment=\"CONVEXINFRA_HOME=/home/jane/100%%/home\"\n"), "{unit}");
        assert_eq!(super::unit(Path::new("/opt/a\nExecStart=/bin/evil"), Path::new("/home")), None);
    }
}
