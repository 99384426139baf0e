//! Objects as YAML, for people and for those who apply them with other tools. Pure.

use serde_json::Value;

/// Returns objects as documents of one file.
///
/// # Errors
/// The writer's words, for what YAML cannot say.
pub(super) fn documents(objects: &[Value]) -> Result<String, String> {
    let texts: Result<Vec<String>, String> =
        objects.iter().map(|object| serde_saphyr::to_string(object).map_err(|error| error.to_string())).collect();
    Ok(texts?.iter().map(|text| text.trim_end()).collect::<Vec<_>>().join("\n---\n") + "\n")
}
