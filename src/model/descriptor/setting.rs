//! The table of a provider in a manifest: its keys with what each takes, read by the manifest, its schema and its documentation.

use super::{TextSetting, TextShape};

/// The table of one provider in a manifest.
#[derive(Debug)]
pub struct SettingTable {
    /// Its title in the documentation.
    pub title: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// Other names of the table.
    pub aliases: &'static [&'static str],
    /// Its keys.
    pub keys: &'static [SettingKey],
}

impl SettingTable {
    /// The table of a provider that has no settings.
    pub(super) const NONE: Self = Self { title: "", doc: "", aliases: &[], keys: &[] };

    /// Gives texts among the settings, each by the path of its field, the shape that the key of that name has.
    pub(super) fn shaped<'a>(
        &self,
        texts: impl Iterator<Item = (&'static str, &'a str)>,
    ) -> impl Iterator<Item = TextSetting<'a>> {
        texts.map(|(path, text)| TextSetting { path, shape: self.shape_of(path), text })
    }

    /// A text without a key has to be one line at least; a test holds that each has one.
    fn shape_of(&self, path: &str) -> TextShape {
        let name = path.split_once('.').map_or(path, |(_, name)| name);
        match self.keys.iter().find(|key| key.name == name).map(|key| key.kind) {
            Some(SettingKind::Text(shape) | SettingKind::Texts(shape)) => shape,
            _ => TextShape::Line,
        }
    }
}

/// One key of such a table.
#[derive(Debug)]
pub struct SettingKey {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: SettingKind,
    /// What it is for.
    pub doc: &'static str,
    /// What others call it.
    pub aliases: &'static [&'static str],
}

impl SettingKey {
    pub(super) const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
}

pub(super) const fn setting(name: &'static str, kind: SettingKind, doc: &'static str) -> SettingKey {
    SettingKey { name, kind, doc, aliases: &[] }
}

/// What a setting takes.
#[derive(Debug, Clone, Copy)]
pub enum SettingKind {
    /// A switch.
    Flag,
    /// The number of a port.
    Port,
    /// A size.
    Size,
    /// One of a few words.
    Word {
        /// The code of the diagnostic about another one.
        code: &'static str,
        /// What the words are.
        noun: &'static str,
        /// The words.
        words: &'static [&'static str],
    },
    /// A text of one shape.
    Text(TextShape),
    /// A list of texts of one shape.
    Texts(TextShape),
    /// Texts under names that the user chooses.
    Labels,
    /// Values or references under names that the user chooses.
    Variables,
}
