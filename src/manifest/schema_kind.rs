//! The types of the table of keys: tables, keys and what a key takes.

use super::formats::TextFormat;

/// A table of a manifest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    pub(super) title: &'static str,
    pub(super) keys: &'static [Key],
    /// Whether keys that belong to one backend only are left out.
    pub(super) shared: bool,
}

impl Table {
    /// The keys that may stand in it.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static Key> + use<> {
        let shared = self.shared;
        self.keys.iter().filter(move |key| !(shared && key.own))
    }

    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }
}

/// One key of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) doc: &'static str,
    /// Whether it makes sense for one backend only, and so not in `[defaults]`.
    pub(super) own: bool,
    /// What others call the same thing.
    pub(super) aliases: &'static [&'static str],
}

/// Examples of keys for which that of their kind says little.
const EXAMPLES: [(&str, &str); 14] = [
    ("aliases", "[\"backend\"]"),
    ("api_port", "3210"),
    ("arguments", "[\"--do-not-require-ssl\"]"),
    ("binary", "\"/opt/convex/convex-local-backend\""),
    ("ca", "\"ca.pem\""),
    ("context", "\"kind-dev\""),
    ("dashboard_image", "\"ghcr.io/get-convex/convex-dashboard:latest\""),
    ("database_image", "\"postgres:16\""),
    ("identity", "\"/home/me/.ssh/id_ed25519\""),
    ("network", "\"my-network\""),
    ("networks", "[\"traefik\"]"),
    ("port", "2222"),
    ("proxy_image", "\"caddy:2\""),
    ("site_port", "3211"),
];

impl Key {
    /// What it takes, in words, with an example.
    pub(super) fn expects(&self) -> (String, String) {
        let (noun, example) = self.kind.expects();
        let own = EXAMPLES.iter().find(|(name, _)| *name == self.name);
        (noun, own.map_or(example, |(_, own)| (*own).to_owned()))
    }

    pub(super) const fn own(mut self) -> Self {
        self.own = true;
        self
    }

    pub(super) const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
}

pub(super) const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, doc, own: false, aliases: &[] }
}

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Flag,
    /// A whole number from one to the given one.
    Count(u32),
    Cores,
    Money,
    Size,
    Duration,
    /// One of a few words: the code of the problem when it is another one, what it is, the words.
    Word(&'static str, &'static str, &'static [&'static str]),
    Text(&'static TextFormat),
    Secret,
    TextOrSecret(&'static TextFormat),
    Tls,
    /// Where certificates of routes come from.
    RouteTls,
    /// A release, or one whose archive is pinned by its digest.
    Release,
    /// Names of backends.
    Names,
    /// A list of texts of one shape.
    Texts(&'static TextFormat),
    Table(&'static Table),
    /// A table of names that the user chooses, each with such a table.
    Backends(&'static Table),
    /// A table of names that the user chooses, each with a server.
    Servers(&'static Table),
    /// Convex environment variables.
    Variables,
    /// One env file, or a list of them.
    EnvFiles,
    /// Texts under names that the user chooses.
    Labels,
    /// `[[moved]]`
    Tables(&'static Table),
}

impl Kind {
    /// What it takes, in words, with an example.
    pub(super) fn expects(&self) -> (String, String) {
        let owned = |noun: &str, example: &str| (noun.to_owned(), example.to_owned());
        match self {
            Self::Flag => owned("`true` or `false`", "true"),
            Self::Count(_) => owned("a whole number above zero", "16"),
            Self::Cores => owned("a number of cores", "1.5"),
            Self::Money => owned("an amount of US dollars", "60"),
            Self::Size => owned("a size in quotes", "\"2 GiB\""),
            Self::Duration => owned("a duration in quotes", "\"7d\""),
            Self::Word(_, noun, words) => (format!("{noun} in quotes"), format!("\"{}\"", words.first().unwrap_or(&""))),
            Self::Text(shape) => (format!("{} in quotes", shape.noun), format!("\"{}\"", shape.example)),
            Self::Secret => owned("a reference to a secret", "{ env = \"NAME\" }"),
            Self::TextOrSecret(shape) => {
                (format!("{} in quotes, or a reference", shape.noun), format!("\"{}\"", shape.example))
            }
            Self::Release => {
                owned("a release in quotes, or a table that pins its archive", "\"precompiled-2026-08-22-652b828\"")
            }
            Self::Tls => owned("`\"verify\"`, `\"disable\"` or a file of certificates", "{ ca = \"ca.pem\" }"),
            Self::RouteTls => owned("`\"auto\"`, `\"internal\"`, an authority or a certificate with its key", "\"auto\""),
            Self::Names => owned("a list of backends", "[\"dev\"]"),
            Self::Texts(shape) => (format!("a list, each {}", shape.noun), format!("[\"{}\"]", shape.example)),
            Self::Table(spec) => {
                let first = spec.keys().next().map(|key| format!("{} = {}", key.name, key.expects().1)).unwrap_or_default();
                ("a table".to_owned(), format!("{{ {first} }}"))
            }
            Self::Backends(_) => owned("a table of backends", "[backends.dev]"),
            Self::Servers(_) => owned("a table of servers", "[servers.shop]"),
            Self::Labels => owned("a table of texts", "{ \"traefik.enable\" = \"true\" }"),
            Self::Variables => owned("a table of variables", "{ SITE_URL = \"https://example.com\" }"),
            Self::EnvFiles => owned("a path in quotes, or a list of paths and tables", "\".env.local\""),
            Self::Tables(_) => owned("a list of tables", "[{ from = \"old\", to = \"new\" }]"),
        }
    }
}
