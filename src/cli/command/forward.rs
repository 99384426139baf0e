//! `convexinfra forward`: ports of this machine that lead to a backend in a cluster, through the API server, or on a server of the
//! user's own, over SSH.
//!
//! It needs the kubeconfig or the SSH keys of its user and no secret of the backend. Must not do: end because a connection does.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::app::{AppError, select_backend};
use crate::cli::args::{Forward as Args, ForwardedPart};
use crate::cli::context::Context;
use crate::cli::signal;
use crate::model::{ActualBackend, Diagnostic, Exit, PortPair, error_chain};
use crate::provider::ProviderError;
use crate::provider::docker::{ForwardPart, ServerForward};
use crate::provider::kubernetes::{ForwardTarget, Kubernetes};

/// Where a dashboard is forwarded to: Convex's own port for it.
const DASHBOARD_PORT: u16 = 6791;
/// How long a forwarding in the background may take to begin.
const BEGINS_WITHIN: Duration = Duration::from_secs(20);

/// Forwards until it is interrupted, or starts what does.
pub(super) async fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let (project, loaded) = context.project()?;
    let desired = loaded.as_ref().map(|loaded| &loaded.desired);
    let control = context.control(desired)?;
    let snapshot = control.snapshot(&project).await?;
    let name = select_backend(&snapshot, desired, args.backend.name.as_ref())?;
    let backend = snapshot.backend(&name).ok_or_else(|| {
        AppError::new(Exit::Failed, Diagnostic::new("forward.unknown", format!("there is no backend `{name}`")))
    })?;
    let provider = backend.recorded.provider;
    let server = backend.recorded.settings.docker.server.as_ref();
    if !backend.recorded.is_forwardable() {
        let message = format!("`{name}` is reached without being forwarded: its provider is `{provider}`, on no server");
        return Err(AppError::new(Exit::Usage, Diagnostic::new("forward.not_needed", message)));
    }
    let ports = if server.is_some() { parts(backend, args)? } else { whole(backend, args)? };
    if args.background {
        let ports: Vec<u16> = ports.iter().map(|(_, port)| *port).collect();
        return start_in_background(context, &ports).await;
    }
    let printer = context.printer.clone();
    let tell = move |words: String| printer.status(&format!("{words}\n"));
    let (id, instance_name, spec) = (&backend.id, &backend.instance_name, &backend.recorded);
    let forwarding = async {
        match (server, ports.as_slice()) {
            (None, [(_, api), (_, site)]) => {
                let local = PortPair { api: *api, site: *site };
                Kubernetes::new().forward(&ForwardTarget { id, instance_name, spec, local }, tell).await
            }
            (_, ports) => context.docker()?.forward(&ServerForward { id, instance_name, spec, ports }, tell).await,
        }
        .map_err(|error| {
            let finding = Diagnostic::new(error.code(), error_chain(&error));
            let finding = if let ProviderError::Ssh(error) = &error { finding.with_help(error.help()) } else { finding };
            AppError::new(Exit::Failed, finding)
        })
    };
    tokio::select! {
        ended = forwarding => ended.map(|()| Exit::Done),
        () = signal::shutdown_signal() => Ok(Exit::Interrupted),
    }
}

/// Returns both parts of a backend in a cluster.
fn whole(backend: &ActualBackend, args: &Args) -> Result<Vec<(ForwardPart, u16)>, AppError> {
    if args.part.is_some() {
        let message =
            format!("`{}` is in a cluster, and both of its ports are forwarded together; leave the part out", backend.name);
        return Err(AppError::new(Exit::Usage, Diagnostic::new("forward.part", message)));
    }
    let local = local_ports(backend, args.port)?;
    Ok(vec![(ForwardPart::Api, local.api), (ForwardPart::Site, local.site)])
}

/// Returns the parts of a backend on a server that are asked for.
fn parts(backend: &ActualBackend, args: &Args) -> Result<Vec<(ForwardPart, u16)>, AppError> {
    Ok(match args.part {
        None => {
            let local = local_ports(backend, args.port)?;
            vec![(ForwardPart::Api, local.api), (ForwardPart::Site, local.site)]
        }
        Some(ForwardedPart::Api) => vec![(ForwardPart::Api, local_ports(backend, args.port)?.api)],
        Some(ForwardedPart::Site) => {
            let port = match args.port {
                Some(port) => port,
                None => local_ports(backend, None)?.site,
            };
            vec![(ForwardPart::Site, port)]
        }
        Some(ForwardedPart::Dashboard) => vec![(ForwardPart::Dashboard, args.port.unwrap_or(DASHBOARD_PORT))],
    })
}

/// Returns the ports of this machine: those that were asked for, or those of the URL that clients know.
fn local_ports(backend: &ActualBackend, asked: Option<u16>) -> Result<PortPair, AppError> {
    let known = || {
        let url = url::Url::parse(&backend.endpoints.as_ref()?.url).ok()?;
        url.port().filter(|_| url.host_str() == Some("127.0.0.1"))
    };
    let api = asked.or_else(known).ok_or_else(|| {
        let message = format!("clients reach `{}` elsewhere, so its URL says no port of this machine", backend.name);
        let finding = Diagnostic::new("forward.port_missing", message).with_help("name one with `--port`");
        AppError::new(Exit::Usage, finding)
    })?;
    Ok(PortPair { api, site: api.saturating_add(1) })
}

/// Starts this very command again, apart from this terminal, and waits until its port is open.
async fn start_in_background(context: &Context, local: &[u16]) -> Result<Exit, AppError> {
    use std::os::unix::process::CommandExt as _;
    let failed = |message: String| AppError::new(Exit::Failed, Diagnostic::new("forward.background", message));
    // Otherwise what has the port would be taken for what was started.
    for port in local {
        if std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, *port)).is_err() {
            return Err(failed(format!("port {port} is taken by another process; name another one with `--port`")));
        }
    }
    let first = local.first().copied().unwrap_or_default();
    let program = std::env::current_exe().map_err(|error| failed(format!("this program cannot find itself: {error}")))?;
    let words = std::env::args_os().skip(1).filter(|word| word != "--background");
    let mut command = std::process::Command::new(program);
    command.args(words).env_remove("CONVEXINFRA_BACKGROUND").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| failed(format!("it could not be started: {error}")))?;
    let began = Instant::now();
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(failed(format!("it ended at once ({status}); run it without `--background` to see why")));
        }
        if tokio::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, first)).await.is_ok() {
            break;
        }
        if began.elapsed() > BEGINS_WITHIN {
            let _ = child.kill();
            return Err(failed(format!("port {first} was not opened within {} s", BEGINS_WITHIN.as_secs())));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let process = child.id();
    context.printer.status(&format!("forwards 127.0.0.1:{first} in the background; end it with\n    kill {process}\n"));
    context.printer.json("convexinfra.forward/1", serde_json::json!({ "port": first, "process": process }));
    Ok(Exit::Done)
}
