//! The tables of providers, made of what their descriptors say.

use super::{Key, Kind, MAX_PORT, Table, key};
use crate::model::{DESCRIPTORS, SettingKey, SettingKind};
use crate::policy::specification::format_of;

/// The words for providers.
pub(in crate::manifest) static PROVIDERS: [&str; DESCRIPTORS.len()] = {
    let mut words = [""; DESCRIPTORS.len()];
    let mut provider = 0;
    while provider < words.len() {
        words[provider] = DESCRIPTORS[provider].kind.as_str();
        provider += 1;
    }
    words
};

/// The keys of all these tables, one table after another.
static KEYS: [Key; key_count()] = {
    let mut keys = [key("", Kind::Flag, ""); key_count()];
    let (mut at, mut provider) = (0, 0);
    while provider < DESCRIPTORS.len() {
        let settings = DESCRIPTORS[provider].settings.keys;
        let mut own = 0;
        while own < settings.len() {
            keys[at] = key_of(&settings[own]);
            (at, own) = (at + 1, own + 1);
        }
        provider += 1;
    }
    keys
};

static TABLES: [Table; DESCRIPTORS.len()] = {
    let mut tables = [Table { title: "", keys: &[], shared: false }; DESCRIPTORS.len()];
    let mut rest: &'static [Key] = &KEYS;
    let mut provider = 0;
    while provider < tables.len() {
        let settings = DESCRIPTORS[provider].settings;
        let (own, after) = rest.split_at(settings.keys.len());
        tables[provider] = Table { title: settings.title, keys: own, shared: false };
        (rest, provider) = (after, provider + 1);
    }
    tables
};

const fn key_count() -> usize {
    let (mut count, mut provider) = (0, 0);
    while provider < DESCRIPTORS.len() {
        count += DESCRIPTORS[provider].settings.keys.len();
        provider += 1;
    }
    count
}

const fn key_of(setting: &SettingKey) -> Key {
    let kind = match setting.kind {
        SettingKind::Flag => Kind::Flag,
        SettingKind::Port => Kind::Count(MAX_PORT),
        SettingKind::Size => Kind::Size,
        SettingKind::Word { code, noun, words } => Kind::Word(code, noun, words),
        SettingKind::Text(shape) => Kind::Text(format_of(shape)),
        SettingKind::Texts(shape) => Kind::Texts(format_of(shape)),
        SettingKind::Labels => Kind::Labels,
        SettingKind::Variables => Kind::Variables,
    };
    key(setting.name, kind, setting.doc).alias(setting.aliases)
}

/// Returns the keys of a backend: these, and the table of each provider.
pub(super) const fn with_provider_keys<const ALL: usize>(common: &[Key]) -> [Key; ALL] {
    let mut keys = [key("", Kind::Flag, ""); ALL];
    let mut at = 0;
    while at < ALL {
        keys[at] = if at < common.len() {
            common[at]
        } else {
            let provider = at - common.len();
            let settings = DESCRIPTORS[provider].settings;
            key(PROVIDERS[provider], Kind::Table(&TABLES[provider]), settings.doc).alias(settings.aliases)
        };
        at += 1;
    }
    keys
}
