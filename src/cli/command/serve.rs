//! `convexinfra serve`: the control plane of this machine for a team.
//!
//! Must not do: print a token more than once, or listen where others could read it in clear.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::api::{Administration, MAX_TOKEN_ORIGINS, ResourceLevel, TokenOrigin};
use crate::app::AppError;
use crate::cli::args::{LogFormat, LogLevel, Serve as Args};
use crate::cli::context::Context;
use crate::cli::signal;
use crate::host::{Host, KeepRunning, LocalBinaries, now};
use crate::model::{Diagnostic, Exit, HostPolicy, Quota, Scope, Secret, TokenRequest};
use crate::provider::docker::AllowList;
use crate::provider::kit::image_reference::ImagePolicy;
use crate::render::IssuedDocument;
use crate::server::{self, ApiServer, BoundListener, Certificate, ListenError, ListenOptions, RequestLimits, ShardRole};
use crate::system::read_regular;

/// How many threads there are at least: a write waits for the disk, and others go on meanwhile.
const MIN_THREADS: usize = 8;

/// Serves, or makes the first token.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, AppError> {
    // A server writes nothing that is for others to read, also where its unit or shell says otherwise. Commands write into
    // repositories as well, so there each file of ours has its own mode.
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let threads = std::thread::available_parallelism().map_or(MIN_THREADS, |count| count.get().max(MIN_THREADS));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let runtime = runtime.map_err(|error| {
        AppError::new(Exit::Failed, Diagnostic::new("host.runtime", format!("the runtime could not be started: {error}")))
    })?;
    let exit = if args.init { runtime.block_on(init(context, args)) } else { runtime.block_on(serve(context, args)) };
    // A thread that waits for a file or a disk for ever does not keep the process.
    runtime.shutdown_background();
    exit
}

async fn init(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let host = Arc::new(context.make_host(crate::host::EMBEDDED, LocalBinaries::ReleasesOnly, AllowList::default())?);
    let control = host.embedded_session().with_token_origins(origins(args));
    let time = now();
    if let Some(there) = control.tokens().await?.iter().find(|record| record.is_active_operator(time))
        && !args.again
    {
        let message = format!("there is an operator's token already: {}, made at {}", there.id, there.created_at);
        let help = "if it is lost, make another one with\n    convexinfra serve --init --again\n\
                    the earlier one stays good until `convexinfra token revoke` ends it";
        return Err(AppError::new(Exit::Refused, Diagnostic::new("serve.initialised", message).with_help(help)));
    }
    // Made first: a token that could not be written down would be lost.
    let file = args.token_file.as_deref().map(|path| create_secret_file(path).map(|file| (path, file))).transpose()?;
    let note = "first operator".to_owned();
    let request = TokenRequest { project: None, scope: Scope::Operator, note, ttl: None };
    let issued = match (control.create_token(&request).await, &file) {
        (Err(error), Some((path, _))) => {
            let _ = std::fs::remove_file(path);
            return Err(error.into());
        }
        (issued, _) => issued?,
    };
    if control.quota(&ResourceLevel::ControlPlane).await? == Quota::default() {
        let quota = Quota::initial();
        control.set_quota(&ResourceLevel::ControlPlane, &quota).await?;
        context.printer.status(&format!(
            "every project may have {} backends; change that with\n    convexinfra quota set --default --backends N\n",
            quota.backends.unwrap_or_default()
        ));
    }
    context.printer.status(&format!(
        "this is the operator's token: it opens everything{}, and it is shown only now\n\
         keep it where secrets are kept, and begin with\n    convexinfra serve\n\
         then, on any machine, with the token in CONVEXINFRA_TOKEN\n    \
         convexinfra token create --project NAME --scope apply\n",
        at_urls(&issued.origins),
    ));
    match file {
        Some((path, mut file)) => {
            let written = file.write_all(format!("{}\n", issued.token.expose()).as_bytes()).and_then(|()| file.sync_all());
            written.map_err(|error| cannot_write(path, &error))?;
            context.printer.status(&format!("it is written to `{}`\n", path.display()));
        }
        None => context.printer.output(&format!("{}\n", issued.token.expose())),
    }
    if args.token_file.is_none() && context.printer.wants_documents() {
        context.printer.document(&IssuedDocument::new(&issued, now()));
    }
    Ok(Exit::Done)
}

/// Creates a file for a secret: only its owner may read it, and it replaces nothing.
fn create_secret_file(path: &Path) -> Result<File, AppError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> AppError {
    let finding = Diagnostic::new("serve.token_file", format!("`{}` cannot be written: {error}", path.display()));
    AppError::new(Exit::Failed, finding.with_help("name a file that does not exist yet, in a folder that does"))
}

/// Says where a token is good, for a sentence about what it opens.
pub(super) fn at_urls(origins: &[String]) -> String {
    if origins.is_empty() { String::new() } else { format!(" at {}", origins.join(" and ")) }
}

async fn serve(context: &Context, args: &Args) -> Result<Exit, AppError> {
    let certificate = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(Certificate::read(certificate, key).map_err(|error| {
            let source = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
            AppError::new(Exit::Usage, Diagnostic::new("serve.tls", format!("{error}{source}")))
        })?),
        _ => None,
    };
    // Installed first, so that a signal during the start is heard.
    let stop = signal::shutdown_signal();
    let listen = ListenOptions { address: args.listen, certificate, behind_proxy: args.behind_proxy };
    let bound = BoundListener::new(listen).await.map_err(|error| cannot_listen(&error))?;
    let url = args.public_url.first().cloned().unwrap_or_else(|| bound.url());
    let local_binaries = if args.allow_local_binaries { LocalBinaries::Any } else { LocalBinaries::ReleasesOnly };
    let allowed = AllowList::Listed {
        images: ImagePolicy::Listed(args.allow_images.clone()),
        networks: args.allow_networks.clone(),
        publish: args.allow_publish.clone(),
        labels: args.allow_labels.clone(),
    };
    let database_hosts = HostPolicy::Restricted(args.allow_database_hosts.clone());
    let host = Arc::new(context.make_host(&url, local_binaries, allowed)?.with_database_hosts(database_hosts));
    warn_of_damage(context, &host)?;
    warn_without_token(context, &host).await;
    let serving = host.serve_with(&url, if args.keep_running { KeepRunning::Yes } else { KeepRunning::No }).await?;
    let limits = RequestLimits {
        body: usize::try_from(args.body_limit.bytes()).unwrap_or(usize::MAX),
        request: Duration::from_secs(args.request_timeout.seconds()),
        rate: NonZeroU32::new(args.rate_limit),
    };
    let server = ApiServer::with_origins(host, ShardRole::Projects, limits, origins(args))
        .map_err(|error| AppError::new(Exit::Bug, Diagnostic::new("bug", format!("the figures cannot be kept: {error}"))))?;
    start_log(args);
    let metrics = match args.metrics_listen {
        Some(address) => {
            let token = args.metrics_token_file.as_deref().map(metrics_token).transpose()?;
            Some(server::serve_metrics(address, token, Arc::clone(&server)).await.map_err(|error| cannot_listen(&error))?)
        }
        None => None,
    };
    announce(context, &bound, metrics);
    let router = server::router(&server);
    let left = bound.serve(&server, router, serving, stop, Duration::from_secs(args.shutdown_grace.seconds())).await;
    context.printer.status(&match left {
        0 => "stopped\n".to_owned(),
        left => format!("stopped; operations that the next server goes on with: {left}\n"),
    });
    Ok(Exit::Done)
}

/// Returns the origins that tokens are bound to.
fn origins(args: &Args) -> Vec<TokenOrigin> {
    args.public_url.iter().filter_map(|url| TokenOrigin::parse(url)).take(MAX_TOKEN_ORIGINS).collect()
}

/// Reads the token that scrapers of the metrics show.
fn metrics_token(path: &Path) -> Result<Secret, AppError> {
    let failed = |why: &str| {
        let message = format!("`{}` cannot be used as the token of the metrics: {why}", path.display());
        AppError::new(Exit::Usage, Diagnostic::new("serve.metrics_token", message))
    };
    let bytes = zeroize::Zeroizing::new(read_regular(path, 4096).map_err(|error| failed(&error.to_string()))?);
    let text = std::str::from_utf8(&bytes).map(str::trim).map_err(|_| failed("it is not UTF-8 text"))?;
    if text.len() < 16 || text.contains(char::is_whitespace) {
        return Err(failed("a token is one word of at least 16 characters"));
    }
    Ok(Secret::new(text))
}

fn announce(context: &Context, bound: &BoundListener, metrics: Option<SocketAddr>) {
    let metrics = metrics.map(|address| format!("http://{address}/metrics"));
    context.printer.status(&format!("listening on {}\n", bound.url()));
    if let Some(metrics) = &metrics {
        context.printer.status(&format!("figures at {metrics}\n"));
    }
    context.printer.json("convexinfra.serving/1", serde_json::json!({ "url": bound.url(), "metrics_url": metrics }));
}

/// Names what is damaged, before it is passed over.
fn warn_of_damage(context: &Context, host: &Host) -> Result<(), AppError> {
    for row in host.damaged_rows()? {
        context
            .printer
            .status(&format!("warning: {row}; it is passed over, and the rest goes on: put the store back from a backup\n"));
    }
    Ok(())
}

async fn warn_without_token(context: &Context, host: &Arc<Host>) {
    match host.embedded_session().tokens().await {
        Ok(tokens) if tokens.is_empty() => context.printer.status(
            "there is no token yet, so every request is refused; create the first one with\n    convexinfra serve --init\n",
        ),
        Ok(_) => {}
        // A row that cannot be read opens nothing, and was named. The others go on to open what they open.
        Err(_) => {}
    }
}

fn start_log(args: &Args) {
    let format = match args.log_format {
        LogFormat::Text => server::LogFormat::Text,
        LogFormat::Json => server::LogFormat::Json,
    };
    let level = match args.log_level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
    };
    server::start_logging(format, level);
}

fn cannot_listen(error: &ListenError) -> AppError {
    match error {
        ListenError::Cleartext(_) => {
            let help =
                "give it a certificate with `--tls-cert FILE --tls-key FILE`, or say `--behind-proxy` when a proxy does TLS";
            AppError::new(Exit::Refused, Diagnostic::new("serve.in_clear", error.to_string()).with_help(help))
        }
        ListenError::OpenMetrics(_) => {
            let help = "listen on `127.0.0.1`, or name a file with a token for scrapers in `--metrics-token-file`";
            AppError::new(Exit::Refused, Diagnostic::new("serve.open_metrics", error.to_string()).with_help(help))
        }
        ListenError::Bind { source, .. } => {
            let finding = Diagnostic::new("serve.address", format!("{error}: {source}"));
            AppError::new(Exit::Failed, finding.with_help("choose another one with `--listen`"))
        }
    }
}
