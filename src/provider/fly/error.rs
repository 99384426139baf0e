//! Why Fly did not do what was asked, for users.
//!
//! Must not do: repeat the body of a request, which may hold secrets.

/// Why Fly did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlyError {
    /// The token is no good.
    #[error("Fly does not take the token in `FLY_ACCESS_TOKEN` or `FLY_API_TOKEN`: {said}")]
    Token {
        /// What Fly said.
        said: String,
    },
    /// The token may not do it.
    #[error("the token in `FLY_ACCESS_TOKEN` or `FLY_API_TOKEN` may not do `{what}`: {said}")]
    Forbidden {
        /// What was asked.
        what: String,
        /// What Fly said.
        said: String,
    },
    /// Nothing says which organisation pays.
    #[error(
        "the token in `FLY_ACCESS_TOKEN` or `FLY_API_TOKEN` is for {count} organisations, and nothing says which of them `{backend}` belongs to"
    )]
    Organisation {
        /// How many.
        count: usize,
        /// The backend.
        backend: String,
        /// Their slugs.
        slugs: Vec<String>,
    },
    /// There is no way to Fly.
    #[error("Fly's Machines API did not answer `{what}`: {said}")]
    Unreachable {
        /// What was asked.
        what: String,
        /// Why.
        said: String,
    },
    /// This machine trusts no authority, so it cannot ask.
    #[error("Fly cannot be asked: {}", crate::model::NO_AUTHORITIES)]
    NoAuthorities,
    /// Another organisation has an app of that name.
    #[error("the name `{app}` belongs to an app of another owner, or to one that this token may not see")]
    AppTaken {
        /// The app.
        app: String,
    },
    /// There is an app of that name within reach, and convexinfra did not make it for this backend.
    #[error("the app `{app}` is there and was not made for this backend: {why}")]
    AppForeign {
        /// The app.
        app: String,
        /// What says so.
        why: String,
    },
    /// The app holds something that convexinfra did not make.
    #[error("the app `{app}` holds {what}, which convexinfra did not make and does not take away")]
    ForeignResource {
        /// The app.
        app: String,
        /// What it holds.
        what: String,
        /// The command that takes it away.
        command: String,
    },
    /// No region that may be used has room.
    #[error("no room in {}: {said}", regions.join(", "))]
    NoCapacity {
        /// The regions that were tried.
        regions: Vec<String>,
        /// What Fly said last.
        said: String,
    },
    /// The organisation may not have more.
    #[error("the organisation's quota does not allow it: {said}")]
    Quota {
        /// What Fly said.
        said: String,
    },
    /// The host that the volume is on does not answer.
    #[error("the host of {what} in `{app}` does not answer, and the data is on that host alone")]
    HostUnreachable {
        /// The app.
        app: String,
        /// The machine or the volume.
        what: String,
    },
    /// Another run holds the lease of the machine.
    #[error("machine `{machine}` in `{app}` is being changed by another client: {said}")]
    LeaseHeld {
        /// The app.
        app: String,
        /// The machine.
        machine: String,
        /// What Fly said.
        said: String,
    },
    /// The machine did not come up, and what ran before runs again.
    #[error("machine `{machine}` in `{app}` did not become ready ({why}), so its previous configuration was put back")]
    RolledBack {
        /// The app.
        app: String,
        /// The machine.
        machine: String,
        /// What was seen.
        why: String,
    },
    /// The machine did not come up.
    #[error("machine `{machine}` in `{app}` did not become ready: {why}")]
    NotReady {
        /// The app.
        app: String,
        /// The machine.
        machine: String,
        /// What was seen.
        why: String,
    },
    /// More than one volume could hold the data.
    #[error("`{app}` has more than one volume that could hold the data: {}", volumes.join(", "))]
    AmbiguousVolumes {
        /// The app.
        app: String,
        /// Their ids.
        volumes: Vec<String>,
    },
    /// A machine was to be made over a volume that Fly does not have any more.
    #[error("Fly has no volume `{volume}` in `{app}` for the machine: {said}")]
    VolumeGone {
        /// The app.
        app: String,
        /// The volume.
        volume: String,
        /// What Fly said.
        said: String,
    },
    /// What was taken away is still there.
    #[error("{what} of `{app}` is still there after {seconds} s")]
    NotDeleted {
        /// The app.
        app: String,
        /// What.
        what: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The build behind a release could not be determined.
    #[error("the image of release `{release}` cannot be named: {why}")]
    Image {
        /// The release.
        release: String,
        /// Why.
        why: String,
    },
    /// The specification asks for what Fly does not have.
    #[error("{0}")]
    Unsupported(String),
    /// Fly refused, and nothing here knows why.
    #[error("Fly refused `{what}` with status {status}: {said}{}", request.as_ref().map(|id| format!(" (request {id})")).unwrap_or_default())]
    Refused {
        /// What was asked.
        what: String,
        /// The HTTP status.
        status: u16,
        /// What Fly said.
        said: String,
        /// Fly's own name of the request, for its support.
        request: Option<String>,
    },
    /// The answer is not the document that was asked for.
    #[error("Fly answered `{what}` with something that cannot be read")]
    Unreadable {
        /// What was asked.
        what: String,
    },
}

impl FlyError {
    /// A stable name of the situation.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Token { .. } => "fly.token",
            Self::Forbidden { .. } => "fly.forbidden",
            Self::Organisation { .. } => "fly.organisation",
            Self::Unreachable { .. } => "fly.unreachable",
            Self::NoAuthorities => "local.no_authorities",
            Self::AppTaken { .. } => "fly.app_taken",
            Self::AppForeign { .. } => "fly.app_foreign",
            Self::ForeignResource { .. } => "fly.foreign",
            Self::NoCapacity { .. } => "fly.full",
            Self::Quota { .. } => "fly.quota",
            Self::HostUnreachable { .. } => "fly.host_unreachable",
            Self::LeaseHeld { .. } => "fly.lease_held",
            Self::RolledBack { .. } => "fly.restored",
            Self::NotReady { .. } => "fly.not_ready",
            Self::AmbiguousVolumes { .. } => "fly.volumes_unclear",
            Self::VolumeGone { .. } => "fly.volume_gone",
            Self::NotDeleted { .. } => "fly.still_there",
            Self::Image { .. } => "fly.image",
            Self::Unsupported(_) => "provider.unsupported",
            Self::Refused { .. } => "fly.refused",
            Self::Unreadable { .. } => "fly.unreadable",
        }
    }

    /// What to do about it, where there is something.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Token { .. } => {
                "make one that may create apps, and set it as `FLY_API_TOKEN`\n    fly tokens create org".to_owned()
            }
            Self::Forbidden { .. } => {
                "a deploy token is for one app only; make one for the organisation\n    fly tokens create org".to_owned()
            }
            Self::Organisation { slugs, .. } => {
                format!("name it in the manifest, `org = \"…\"` in the table `fly`: one of {}", slugs.join(", "))
            }
            Self::Unreachable { .. } => "run the same command again: what is done is found".to_owned(),
            Self::AppTaken { .. } | Self::AppForeign { .. } => {
                "leave `fly.app` out to have a name derived, or name another one".to_owned()
            }
            Self::ForeignResource { command, .. } => format!("if it is not needed, remove it with\n    {command}"),
            Self::NoCapacity { .. } => {
                "try again later, or allow other regions with `fallback_regions = [\"…\"]` in the table `fly`".to_owned()
            }
            Self::Quota { .. } => "ask Fly for more, or remove what is not needed".to_owned(),
            Self::HostUnreachable { .. } => {
                "wait until Fly has the host back; nothing was changed, and nothing is moved or restored without you".to_owned()
            }
            Self::LeaseHeld { .. } => "wait until they are done, and run the same command again".to_owned(),
            Self::RolledBack { machine, app, .. } | Self::NotReady { machine, app, .. } => {
                format!("look at its log with\n    fly logs --app {app} --machine {machine}")
            }
            Self::AmbiguousVolumes { app, .. } => {
                format!("remove those that hold nothing you need; look at them with\n    fly volumes list --app {app}")
            }
            Self::VolumeGone { .. } | Self::NotDeleted { .. } => "run the same command again".to_owned(),
            Self::Image { .. } => "name the commit with all its 40 digits, or an image in the table `fly`".to_owned(),
            Self::NoAuthorities | Self::Unsupported(_) | Self::Refused { .. } | Self::Unreadable { .. } => return None,
        })
    }
}
