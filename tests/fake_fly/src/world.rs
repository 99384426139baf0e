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
pub struct World {
    pub settings: Settings,
    /// How far the world's clock is ahead of the machine's.
    pub ahead: Duration,
    pub tokens: Vec<Token>,
    pub apps: BTreeMap<String, App>,
    /// Names that other people's apps have.
    pub foreign_apps: BTreeSet<String>,
    /// What was left when its app was deleted.
    pub remains: Vec<(String, Volume)>,
    /// Regions where something does not fit, and how that is said.
    pub full_regions: BTreeMap<String, Shortage>,
    /// Hosts where nothing more can run, and how that is said on start and update.
    pub full_hosts: BTreeMap<String, Shortage>,
    pub unreachable_hosts: BTreeSet<String>,
    /// What the domain name system says about hostnames that are not Fly's.
    pub dns: BTreeMap<String, Vec<String>>,
    /// What `wait` and the checks say about machines, instead of what would come by itself.
    pub omens: LaunchOutcomes,
    pub deletions: Vec<Instant>,
    pub made: u64,
    /// How many requests came without a cookie: each one may come to another node.
    pub strays: usize,
}

/// How machines turn out that are made or started from now on.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LaunchOutcomes {
    /// They end up as `failed`.
    pub launches_fail: bool,
    /// They never leave `starting`.
    pub launches_hang: bool,
    /// They start and stop at once, as a program does that ends by itself.
    pub programs_end: bool,
    /// Checks stay critical.
    pub checks_fail: bool,
    /// Checks are not listed at all.
    pub checks_missing: bool,
    /// A machine that is destroyed never gets further than `destroying`.
    pub destruction_hangs: bool,
    /// A volume that is extended says that its machine has to be restarted.
    pub extension_needs_restart: bool,
}

/// One app.
pub struct App {
    pub id: String,
    pub number: u64,
    pub name: String,
    pub org: String,
    pub network: String,
    /// How many times it will still be said not to be there.
    pub hidden: u32,
    /// The node that made it, and until when it is the only one that knows it.
    pub node: usize,
    pub known_elsewhere: Instant,
    /// When a deletion that was accepted takes effect.
    pub ends: Option<Instant>,
    pub machines: Vec<Machine>,
    pub volumes: Vec<Volume>,
    pub snapshots: Vec<Snapshot>,
    pub addresses: Vec<Address>,
    pub vault: Vault,
    pub certificates: Vec<Certificate>,
}

/// The regions of August 2026, with the alias each belongs to.
pub const REGIONS: [(&str, &str, &str); 18] = [
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
pub const HOSTS: usize = 2;

impl World {
    pub fn new(settings: Settings) -> Self {
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
    pub fn real_org(&self, slug: &str) -> String {
        self.settings.personal.as_deref().filter(|_| slug == "personal").unwrap_or(slug).to_owned()
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::now() + self.ahead
    }

    /// The time in seconds since 1970.
    pub fn second(&self) -> i64 {
        self.now().as_second()
    }

    pub fn instant(&self) -> Instant {
        Instant::now() + self.ahead
    }

    pub fn now_text(&self) -> String {
        format!("{:.0}", self.now())
    }

    /// A number that was not used before, and 64 hex digits made of it.
    pub fn fresh(&mut self) -> (u64, String) {
        self.made += 1;
        (self.made, hex::encode(Sha256::digest(self.made.to_be_bytes())))
    }

    /// An identifier as machines have it.
    pub fn fresh_machine_id(&mut self) -> String {
        self.fresh().1[..14].to_owned()
    }

    /// An identifier with a prefix, as volumes and snapshots have it.
    pub fn fresh_id(&mut self, prefix: &str) -> String {
        format!("{prefix}_{}", &self.fresh().1[..16])
    }

    /// An identifier as versions of machines and events have it: a later one sorts after an earlier one.
    pub fn fresh_ulid(&mut self) -> String {
        let (number, digits) = self.fresh();
        format!("01K{number:07}{}", digits[..16].to_uppercase())
    }

    /// An app as others see it, which may be later than it was made.
    pub fn look_at_app(&mut self, name: &str) -> Result<&mut App, Reply> {
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
    pub fn app(&mut self, name: &str) -> Result<&mut App, Reply> {
        self.apps.get_mut(name).ok_or_else(|| not_found("app"))
    }

    /// The regions that an expression such as `iad,eu` or `any` names, in order.
    pub fn regions(expression: &str) -> Vec<&'static str> {
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

    pub fn hosts(region: &str) -> impl Iterator<Item = String> {
        (1..=HOSTS).map(move |number| format!("{region}-{number}"))
    }

    pub fn is_reachable(&self, host: &str) -> bool {
        !self.unreachable_hosts.contains(host)
    }

    /// The first host of a region that has room for a machine.
    pub fn roomy_host(&self, region: &str) -> Option<String> {
        Self::hosts(region).find(|host| self.is_reachable(host) && !self.full_hosts.contains_key(host))
    }

    pub fn host_status(&self, host: &str) -> Value {
        json!(if self.is_reachable(host) { "ok" } else { "unreachable" })
    }
}

impl App {
    pub fn machine(&mut self, id: &str) -> Result<&mut Machine, Reply> {
        self.machines.iter_mut().find(|machine| machine.id == id).ok_or_else(|| not_found("machine"))
    }

    pub fn volume(&mut self, id: &str) -> Result<&mut Volume, Reply> {
        self.volumes.iter_mut().find(|volume| volume.id == id).ok_or_else(|| not_found("volume"))
    }
}
