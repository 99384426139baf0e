//! What a stand-in is told before it starts.

use std::path::PathBuf;
use std::time::Duration;

use super::tokens::{Scope, Token};

/// The token that a stand-in knows when nothing else is said. It belongs to the organization `acme`.
pub const TOKEN: &str = "fm2_stand-in-organization-token";

/// What machines are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Machinery {
    /// They are records, and nothing runs.
    Records,
    /// They run this program: `PROGRAM simulate-backend …`.
    Processes(PathBuf),
}

/// What is not written down is left to the test that starts it. The defaults are the unfriendly choice wherever
/// a driver must be ready for it.
#[derive(Debug, Clone)]
pub struct Settings {
    pub tokens: Vec<Token>,
    pub machinery: Machinery,
    /// How many seconds of the API's own limits and waits go by in one second: rates, and the `timeout` of `wait`.
    pub hurry: u32,
    /// Whether rates are limited at all.
    pub rates_limited: bool,
    /// What `Retry-After` says beside a 429. It is not known whether the real one sends it.
    pub retry_after: Option<String>,
    /// How many requests about a new app are told that it is not there.
    pub app_hidden_for: u32,
    /// How many waits for a new machine are told that it is not there.
    pub machine_hidden_for: u32,
    /// How many looks at a new machine and requests for its lease are told that it is not there.
    pub machine_unknown_for: u32,
    /// How long the image of a machine is pulled that was launched; until then it is `created`.
    pub pull_takes: Duration,
    /// For how long the node that made a new app is the only one that knows it. A cookie leads back to a node.
    pub app_on_one_node_for: Duration,
    /// The real slug of the organization whose alias is `personal`.
    pub personal: Option<String>,
    /// How many lists do not show a machine or a volume that was just made.
    pub list_lag: u32,
    /// How long a machine takes from one state to the next.
    pub step: Duration,
    /// How long a volume says that it is bound to a machine that is gone.
    pub binding_lingers: Duration,
    /// How long a machine can be looked at after it was destroyed.
    pub destroyed_shown: Duration,
    /// How long an app can be looked at after its deletion was accepted.
    pub deletion_takes: Duration,
    /// Whether a deleted app's name is free again.
    pub names_are_reused: bool,
    /// Whether machines see the secrets of one version ago unless they ask for a version.
    pub vault_lags: bool,
    /// What a second shared address gets: 200, 409 or 422. It is not known what the real one answers.
    pub duplicate_address: u16,
    /// Whether an unreachable host makes looks at its machines time out, instead of showing half of them.
    pub unreachable_times_out: bool,
    /// Whether a check is listed that nobody configured, as flyctl knows it.
    pub compatibility_check: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tokens: vec![Token { text: TOKEN.to_owned(), org: "acme".to_owned(), scope: Scope::Organization }],
            machinery: Machinery::Records,
            hurry: 1,
            rates_limited: true,
            retry_after: None,
            app_hidden_for: 2,
            machine_hidden_for: 1,
            machine_unknown_for: 0,
            pull_takes: Duration::from_millis(20),
            app_on_one_node_for: Duration::ZERO,
            personal: None,
            list_lag: 1,
            step: Duration::from_millis(20),
            binding_lingers: Duration::from_millis(50),
            destroyed_shown: Duration::from_secs(60),
            deletion_takes: Duration::from_millis(50),
            names_are_reused: true,
            vault_lags: true,
            duplicate_address: 422,
            unreachable_times_out: false,
            compatibility_check: false,
        }
    }
}

impl Settings {
    /// The friendly choice everywhere, and no limits: for tests about something else.
    pub fn friendly() -> Self {
        Self {
            rates_limited: false,
            app_hidden_for: 0,
            machine_hidden_for: 0,
            pull_takes: Duration::ZERO,
            list_lag: 0,
            step: Duration::ZERO,
            binding_lingers: Duration::ZERO,
            deletion_takes: Duration::ZERO,
            vault_lags: false,
            ..Self::default()
        }
    }

    /// A new app or machine is not known everywhere for a while.
    pub fn eventually_consistent(self) -> Self {
        Self { machine_unknown_for: 2, app_on_one_node_for: Duration::from_millis(300), ..self }
    }

    /// The token's organization is the one whose alias is `personal`, with this slug.
    pub fn personal(mut self, slug: &str) -> Self {
        self.tokens.iter_mut().for_each(|token| token.org = slug.to_owned());
        self.personal = Some(slug.to_owned());
        self
    }

    /// A backend behind every machine.
    pub fn with_processes(mut self) -> Self {
        self.machinery = Machinery::Processes(PathBuf::from(fixture::executable()));
        self
    }

    /// Waits and rates go by this many times as fast.
    pub fn hurried(mut self, times: u32) -> Self {
        self.hurry = times;
        self
    }
}
