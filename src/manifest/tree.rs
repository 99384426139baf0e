//! A manifest after its shape was checked: every value has the type that its key takes, or is marked as broken.

use std::ops::Range;

use crate::model::{ByteSize, Cpus, EnvFileContents, Release, RouteTls, SecretRef, SecretSource, TextValue, TimeSpan, Tls};

/// One value and its position.
#[derive(Debug)]
pub(super) struct Entry<'t> {
    /// The position of its key; for an element of a list, the element itself.
    pub(super) key: Range<usize>,
    pub(super) span: Range<usize>,
    pub(super) value: Value<'t>,
}

/// What a value means.
#[derive(Debug)]
pub(super) enum Value<'t> {
    /// It was wrong, and that has been said.
    Broken,
    Flag(bool),
    Count(u32),
    Cores(Cpus),
    Money(f64),
    Size(ByteSize),
    Duration(TimeSpan),
    Word(&'static str),
    Text(&'t str),
    /// A release, and the SHA-256 of its archive.
    PinnedRelease {
        tag: &'t str,
        sha256: &'t str,
    },
    Secret(SecretRef),
    TextOrSecret(TextValue),
    Source(SecretSource),
    Tls(Tls),
    RouteTls(RouteTls),
    List(Vec<Entry<'t>>),
    Table(TableNode<'t>),
}

/// A table: known keys, or names that the user chose.
#[derive(Debug, Default)]
pub(super) struct TableNode<'t> {
    pub(super) span: Range<usize>,
    pub(super) entries: Vec<(&'t str, Entry<'t>)>,
}

impl<'t> TableNode<'t> {
    pub(super) fn get(&self, key: &str) -> Option<&Entry<'t>> {
        self.entries.iter().find(|(name, _)| *name == key).map(|(_, entry)| entry)
    }

    pub(super) fn table(&self, key: &str) -> Option<&TableNode<'t>> {
        self.get(key).and_then(Entry::table)
    }
}

impl<'t> Entry<'t> {
    /// Returns the path of an env file, and its contents where they are given.
    pub(super) fn env_file(&self) -> Option<(&'t str, Option<EnvFileContents>)> {
        match &self.value {
            Value::Text(path) => Some((path, None)),
            Value::Table(node) => {
                let vars = match node.get("vars").map(|entry| &entry.value) {
                    Some(Value::Word(word)) => EnvFileContents::parse(word),
                    _ => None,
                };
                Some((node.get("path")?.text()?, vars))
            }
            _ => None,
        }
    }

    pub(super) fn table(&self) -> Option<&TableNode<'t>> {
        if let Value::Table(node) = &self.value { Some(node) } else { None }
    }

    pub(super) fn list(&self) -> &[Entry<'t>] {
        if let Value::List(list) = &self.value { list } else { &[] }
    }

    pub(super) fn text(&self) -> Option<&'t str> {
        match self.value {
            Value::Text(text) | Value::PinnedRelease { tag: text, .. } => Some(text),
            _ => None,
        }
    }
}

/// A table of one backend on top of the same table of `[defaults]`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MergedTable<'a, 't> {
    pub(super) own: Option<&'a TableNode<'t>>,
    pub(super) base: Option<&'a TableNode<'t>>,
}

impl<'a, 't> MergedTable<'a, 't> {
    /// The entry that counts: the backend's own, even when it is broken, else the default.
    pub(super) fn get(&self, key: &str) -> Option<&'a Entry<'t>> {
        self.own.and_then(|node| node.get(key)).or_else(|| self.base.and_then(|node| node.get(key)))
    }

    /// A nested table, merged key by key.
    pub(super) fn table(&self, key: &str) -> Self {
        let own = self.own.and_then(|node| node.get(key));
        if own.is_some_and(|entry| matches!(entry.value, Value::Broken)) {
            return Self::default();
        }
        Self { own: own.and_then(Entry::table), base: self.base.and_then(|node| node.table(key)) }
    }

    /// `storage` or `files`: another engine than the default one takes nothing from it but itself, and of two
    /// keys that exclude each other the backend's own one wins, also over what refines the default one.
    pub(super) fn engine_table(
        &self,
        key: &str,
        exclusive: (&'static str, &'static str),
        refinement: Option<&'static str>,
    ) -> EngineTable<'a, 't> {
        let view = self.table(key);
        let word = |node: Option<&'a TableNode<'t>>| node.and_then(|node| node.get("engine")).map(|entry| &entry.value);
        let differs = match (word(view.own), word(view.base)) {
            (Some(Value::Word(own)), Some(Value::Word(base))) => own != base,
            (Some(Value::Broken), _) => true,
            // Defaults without an engine leave it to each backend; the plain engines take nothing but their name.
            (Some(Value::Word(own)), None) => matches!(*own, "sqlite" | "local"),
            _ => false,
        };
        let owns = |key: &str| view.own.is_some_and(|node| node.get(key).is_some());
        let hide = match (owns(exclusive.0), owns(exclusive.1)) {
            (true, false) => [Some(exclusive.1), refinement],
            (false, true) => [Some(exclusive.0), refinement],
            _ => [None, None],
        };
        let hide = hide.map(|key| key.filter(|key| !owns(key)));
        EngineTable { view: Self { own: view.own, base: if differs { None } else { view.base } }, hide }
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        if let Some(Value::Flag(flag)) = self.get(key).map(|entry| &entry.value) { Some(*flag) } else { None }
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.get(key).and_then(Entry::text).map(str::to_owned)
    }

    pub(super) fn word(&self, key: &str) -> Option<&'static str> {
        if let Some(Value::Word(word)) = self.get(key).map(|entry| &entry.value) { Some(word) } else { None }
    }

    pub(super) fn count(&self, key: &str) -> Option<u32> {
        if let Some(Value::Count(count)) = self.get(key).map(|entry| &entry.value) { Some(*count) } else { None }
    }

    pub(super) fn cores(&self, key: &str) -> Option<Cpus> {
        if let Some(Value::Cores(cores)) = self.get(key).map(|entry| &entry.value) { Some(*cores) } else { None }
    }

    pub(super) fn money(&self, key: &str) -> Option<f64> {
        if let Some(Value::Money(money)) = self.get(key).map(|entry| &entry.value) { Some(*money) } else { None }
    }

    pub(super) fn size(&self, key: &str) -> Option<ByteSize> {
        if let Some(Value::Size(size)) = self.get(key).map(|entry| &entry.value) { Some(*size) } else { None }
    }

    pub(super) fn duration(&self, key: &str) -> Option<TimeSpan> {
        if let Some(Value::Duration(duration)) = self.get(key).map(|entry| &entry.value) { Some(*duration) } else { None }
    }

    /// Returns the digest that pins a release's archive, as `sha256:` and 64 hex digits.
    pub(super) fn release_digest(&self, key: &str) -> Option<String> {
        let Some(Value::PinnedRelease { sha256, .. }) = self.get(key).map(|entry| &entry.value) else { return None };
        Some(format!("sha256:{}", sha256.trim_start_matches("sha256:")))
    }

    pub(super) fn release(&self, key: &str) -> Option<Release> {
        self.get(key).and_then(Entry::text).and_then(|text| Release::parse(text).ok())
    }
}

/// A table with an engine, on top of its defaults.
#[derive(Debug, Clone, Copy)]
pub(super) struct EngineTable<'a, 't> {
    pub(super) view: MergedTable<'a, 't>,
    /// Defaults that the backend's own key excludes.
    hide: [Option<&'static str>; 2],
}

impl<'a, 't> EngineTable<'a, 't> {
    pub(super) fn get(&self, key: &str) -> Option<&'a Entry<'t>> {
        if self.hide.contains(&Some(key)) { None } else { self.view.get(key) }
    }

    /// A nested table, merged key by key where the defaults count.
    pub(super) fn table(&self, key: &str) -> MergedTable<'a, 't> {
        if self.hide.contains(&Some(key)) { MergedTable::default() } else { self.view.table(key) }
    }

    pub(super) fn secret(&self, key: &str) -> Option<SecretRef> {
        if let Some(Value::Secret(secret)) = self.get(key).map(|entry| &entry.value) { Some(secret.clone()) } else { None }
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        matches!(self.get(key).map(|entry| &entry.value), Some(Value::Flag(true)))
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.get(key).and_then(Entry::text).map(str::to_owned)
    }
}
