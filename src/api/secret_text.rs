//! Secrets and consents as they are in a document on the wire.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::Secret;

/// A secret in the body of a request or response: in clear there, and nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(pub Secret);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose())
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

impl schemars::JsonSchema for SecretText {
    fn schema_name() -> Cow<'static, str> {
        "SecretText".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "password" })
    }
}

/// Writes and reads secrets by field in clear, for the body of a request and nothing else.
pub(super) mod secret_values {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::SecretText;
    use crate::model::{FieldPath, Secret};

    pub(in crate::api) fn serialize<S: Serializer>(
        secrets: &BTreeMap<FieldPath, Secret>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(secrets.iter().map(|(path, value)| (path, value.expose())))
    }

    pub(in crate::api) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<FieldPath, Secret>, D::Error> {
        let texts = BTreeMap::<FieldPath, SecretText>::deserialize(deserializer)?;
        Ok(texts.into_iter().map(|(path, text)| (path, text.0)).collect())
    }
}

/// Writes and reads the consent to a downgrade as a boolean that is left out where it is missing.
pub(super) mod downgrade_consent {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::DowngradeConsent;

    pub(in crate::api) fn is_missing(consent: &DowngradeConsent) -> bool {
        *consent == DowngradeConsent::Missing
    }

    pub(in crate::api) fn serialize<S: Serializer>(consent: &DowngradeConsent, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(!is_missing(consent))
    }

    pub(in crate::api) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DowngradeConsent, D::Error> {
        let is_given = bool::deserialize(deserializer)?;
        Ok(if is_given { DowngradeConsent::Given } else { DowngradeConsent::Missing })
    }
}

/// Writes and reads the consent to a move as a boolean that is left out where it is missing.
pub(super) mod move_consent {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::MoveConsent;

    pub(in crate::api) fn is_missing(consent: &MoveConsent) -> bool {
        *consent == MoveConsent::Missing
    }

    pub(in crate::api) fn serialize<S: Serializer>(consent: &MoveConsent, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(!is_missing(consent))
    }

    pub(in crate::api) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MoveConsent, D::Error> {
        let is_given = bool::deserialize(deserializer)?;
        Ok(if is_given { MoveConsent::Given } else { MoveConsent::Missing })
    }
}
