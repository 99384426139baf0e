//! Everything that the stand-in remembers: who has which apps, machines and volumes, and what is wrong with the world.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::addresses::Address;
use super::certificates::Certificate;
use super::machines::Machine;
use super::reply::{Reply, Shortage, not_found};
use super::secrets::Vault;
use super::settings::Settings;
use super::tokens::Token;
use super::volumes::{Snapshot, Volume};

/// All of it, behind one lock: the API has no notion of two things at the same instant.
pub(crate) struct World {
    pub(crate) settings: Settings,
    /// How far the world's clock is ahead of the machine's.
    pub(crate) ahead: Duration,
    pub(crate) tokens: Vec<Token>,
    pub(crate) apps: BTreeMap<String, App>,
    /// Names that other people's apps have.
    pub(crate) foreign_apps: BTreeSet<String>,
    /// What was left when its app was deleted.
    pub(crate) remains: Vec<(String, Volume)>,
    /// Regions where something does not fit, and how that is said.
    pub(crate) full_regions: BTreeMap<String, Shortage>,
    /// Hosts where nothing more can run, and how that is said on start and update.
    pub(crate) full_hosts: BTreeMap<String, Shortage>,
    pub(crate) unreachable_hosts: BTreeSet<String>,
    /// What the domain name system says about hostnames that are not Fly's.
    pub(crate) dns: BTreeMap<String, Vec<String>>,
    /// What `wait` and the checks say about machines, instead of what would come by itself.
    pub(crate) omens: LaunchOutcomes,
    pub(crate) deletions: Vec<Instant>,
    pub(crate) made: u64,
    /// How many requests came without a cookie: each one may come to another node.
    pub(crate) strays: usize,
}

/// How machines turn out that are made or started from now on.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LaunchOutcomes {
    /// They end up as `failed`.
    pub(crate) launches_fail: bool,
    /// They never leave `starting`.
    pub(crate) launches_hang: bool,
    /// They start and stop at once, as a program does that ends by itself.
    pub(crate) programs_end: bool,
    /// Checks stay critical.
    pub(crate) checks_fail: bool,
    /// Checks are not listed at all.
    pub(crate) checks_missing: bool,
    /// A machine that is destroyed never gets further than `destroying`.
    pub(crate) destruction_hangs: bool,
    /// A volume that is extended says that its machine has to be restarted.
    pub(crate) extension_needs_restart: bool,
}

/// One app.
pub(crate) struct App {
    pub(crate) id: String,
    pub(crate) number: u64,
    pub(crate) name: String,
    pub(crate) org: String,
    pub(crate) network: String,
    /// How many times it will still be said not to be there.
    pub(crate) hidden: u32,
    /// The node that made it, and until when it is the only one that knows it.
    pub(crate) node: usize,
    pub(crate) known_elsewhere: Instant,
    /// When a deletion that was accepted takes effect.
    pub(crate) ends: Option<Instant>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) snapshots: Vec<Snapshot>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) vault: Vault,
    pub(crate) certificates: Vec<Certificate>,
}

/// The regions of August 2026, with the alias each belongs to.
pub(crate) const REGIONS: [(&str, &str, &str); 18] = [
    ("ams", "Amsterdam, Netherlands", "eu"),
    ("arn", "Stockholm, Sweden", "eu"),
    ("bom", "Mumbai, India", "apac"),
    ("cdg", "Paris, France", "eu"),
    ("dfw", "Dallas, Texas (US)", "us"),
    ("ewr", "Secaucus, NJ (US)", "us"),
    ("fra", "Frankfurt, Germany", "eu"),
    ("gru", "Sao Paulo, Brazil", "sa"),
    ("iad", "Ashburn, Virginia (US)", "us"),
    ("jnb", "Johannesburg, South Africa", "africa"),
    ("lax", "Los Angeles, California (US)", "us"),
    ("lhr", "London, United Kingdom", "eu"),
    ("nrt", "Tokyo, Japan", "apac"),
    ("ord", "Chicago, Illinois (US)", "us"),
    ("sin", "Singapore, Singapore", "apac"),
    ("sjc", "San Jose, California (US)", "us"),
    ("syd", "Sydney, Australia", "apac"),
    ("yyz", "Toronto, Canada", "na"),
];

/// How many hosts each region has. Two are enough to be moved from one to another.
pub(crate) const HOSTS: usize = 2;

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            tokens: settings.tokens.clone(),
            settings,
            ahead: Duration::ZERO,
            apps: BTreeMap::new(),
            foreign_apps: BTreeSet::new(),
            remains: Vec::new(),
            full_regions: BTreeMap::new(),
            full_hosts: BTreeMap::new(),
            unreachable_hosts: BTreeSet::new(),
            dns: BTreeMap::new(),
            omens: LaunchOutcomes::default(),
            deletions: Vec::new(),
            made: 0,
            strays: 0,
        }
    }

    /// The slug that is meant by one that may be an alias.
    pub(crate) fn real_org(&self, slug: &str) -> String {
        self.settings.personal.as_deref().filter(|_| slug == "personal").unwrap_or(slug).to_owned()
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now() + self.ahead
    }

    /// The time in seconds since 1970.
    pub(crate) fn second(&self) -> i64 {
        self.now().as_second()
    }

    pub(crate) fn instant(&self) -> Instant {
        Instant::now() + self.ahead
    }

    pub(crate) fn now_text(&self) -> String {
        format!("{:.0}", self.now())
    }

    /// A number that was not used before, and 64 hex digits made of it.
    pub(crate) fn fresh(&mut self) -> (u64, String) {
        self.made += 1;
        (self.made, hex::encode(Sha256::digest(self.made.to_be_bytes())))
    }

    /// An identifier as machines have it.
    pub(crate) fn fresh_machine_id(&mut self) -> String {
        self.fresh().1[..14].to_owned()
    }

    /// An identifier with a prefix, as volumes and snapshots have it.
    pub(crate) fn fresh_id(&mut self, prefix: &str) -> String {
        format!("{prefix}_{}", &self.fresh().1[..16])
    }

    /// An identifier as versions of machines and events have it: a later one sorts after an earlier one.
    pub(crate) fn fresh_ulid(&mut self) -> String {
        let (number, digits) = self.fresh();
        format!("01K{number:07}{}", digits[..16].to_uppercase())
    }

    /// An app as others see it, which may be later than it was made.
    pub(crate) fn look_at_app(&mut self, name: &str) -> Result<&mut App, Reply> {
        match self.apps.get_mut(name) {
            Some(app) if app.hidden > 0 => {
                app.hidden -= 1;
                Err(not_found("app"))
            }
            Some(app) => Ok(app),
            None => Err(not_found("app")),
        }
    }

    /// An app, or the refusal that it is not there.
    pub(crate) fn app(&mut self, name: &str) -> Result<&mut App, Reply> {
        self.apps.get_mut(name).ok_or_else(|| not_found("app"))
    }

    /// The regions that an expression such as `iad,eu` or `any` names, in order.
    pub(crate) fn regions(expression: &str) -> Vec<&'static str> {
        let mut named = Vec::new();
        for word in expression.split(',').map(str::trim) {
            let matching = REGIONS.iter().filter(|(code, _, alias)| {
                *code == word || *alias == word || word == "any" || (word == "na" && *alias == "us")
            });
            for (code, _, _) in matching {
                if !named.contains(code) {
                    named.push(*code);
                }
            }
        }
        named
    }

    pub(crate) fn hosts(region: &str) -> impl Iterator<Item = String> {
        (1..=HOSTS).map(move |number| format!("{region}-{number}"))
    }

    pub(crate) fn is_reachable(&self, host: &str) -> bool {
        !self.unreachable_hosts.contains(host)
    }

    /// The first host of a region that has room for a machine.
    pub(crate) fn roomy_host(&self, region: &str) -> Option<String> {
        Self::hosts(region).find(|host| self.is_reachable(host) && !self.full_hosts.contains_key(host))
    }

    pub(crate) fn host_status(&self, host: &str) -> Value {
        json!(if self.is_reachable(host) { "ok" } else { "unreachable" })
    }
}

impl App {
    pub(crate) fn machine(&mut self, id: &str) -> Result<&mut Machine, Reply> {
        self.machines.iter_mut().find(|machine| machine.id == id).ok_or_else(|| not_found("machine"))
    }

    pub(crate) fn volume(&mut self, id: &str) -> Result<&mut Volume, Reply> {
        self.volumes.iter_mut().find(|volume| volume.id == id).ok_or_else(|| not_found("volume"))
    }
}
