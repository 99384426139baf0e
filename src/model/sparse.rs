//! A value that is at its default nearly everywhere, and takes the room of one pointer there.
//!
//! A backend has a table of settings for each provider and uses one: five empty tables are most of a specification's size, and
//! plans hold several specifications of each backend.

use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Returns the one default of a type that everything shares.
pub trait SharedDefault: Default + 'static {
    /// Returns it.
    fn shared() -> &'static Self;
}

/// Implements [`SharedDefault`].
macro_rules! shared_default {
    ($($kind:ty),+ $(,)?) => {$(
        impl $crate::model::sparse::SharedDefault for $kind {
            // Not at every place that reads a setting: the binary grows by megabytes otherwise.
            #[inline(never)]
            fn shared() -> &'static Self {
                static SHARED: std::sync::LazyLock<$kind> = std::sync::LazyLock::new(<$kind>::default);
                &SHARED
            }
        }
    )+};
}
pub(crate) use shared_default;

/// Holds a value, and nothing for its default. It reads, writes and compares as the value.
#[derive(Clone)]
pub struct Sparse<T>(Option<Box<T>>);

impl<T> Default for Sparse<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: SharedDefault> Deref for Sparse<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or_else(|| T::shared())
    }
}

impl<T: SharedDefault> DerefMut for Sparse<T> {
    #[inline(never)]
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T: SharedDefault + PartialEq> From<T> for Sparse<T> {
    fn from(value: T) -> Self {
        Self((value != *T::shared()).then(|| Box::new(value)))
    }
}

impl<T: SharedDefault + PartialEq> PartialEq for Sparse<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.0.is_none() && other.0.is_none()) || **self == **other
    }
}

impl<T: SharedDefault + Eq> Eq for Sparse<T> {}

impl<T: SharedDefault + fmt::Debug> fmt::Debug for Sparse<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: SharedDefault + Serialize> Serialize for Sparse<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: SharedDefault + PartialEq + Deserialize<'de>> Deserialize<'de> for Sparse<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for Sparse<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
    struct Table {
        word: Option<String>,
    }

    shared_default!(Table);

    #[test]
    fn a_default_takes_one_pointer_and_equals_one_that_was_written() {
        assert_eq!(size_of::<Sparse<Table>>(), size_of::<usize>());
        let (empty, mut written) = (Sparse::<Table>::default(), Sparse::<Table>::default());
        written.word = Some("x".to_owned());
        assert_ne!(empty, written);
        assert_eq!(serde_json::to_string(&written).unwrap(), r#"{"word":"x"}"#);
        written.word = None;
        assert_eq!(empty, written);
        let read: Sparse<Table> = serde_json::from_str(r#"{"word":null}"#).unwrap();
        assert!(read.0.is_none() && read == empty);
    }
}
