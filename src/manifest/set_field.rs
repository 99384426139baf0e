//! The change of one field of a backend's block, which keeps every comment and every blank where they are.

use toml_edit::{Item, Value};

use super::edit::{EditError, edit_block};

/// Returns a manifest in which a field of a backend has this text, below the fields that are there where it is new.
///
/// # Errors
/// [`EditError`] when the text is not TOML or has no such backend.
pub fn set_field(text: &str, name: &str, key: &str, value: &str) -> Result<String, EditError> {
    edit_block(text, name, |block| match block.get_mut(key).and_then(Item::as_value_mut) {
        Some(present) => {
            let decor = present.decor().clone();
            *present = Value::from(value);
            *present.decor_mut() = decor;
        }
        None => {
            block.insert(key, Item::Value(Value::from(value)));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_value_changes() {
        let text = "# mine\n[backends.dev]\nrelease =  \"a\" # pinned\nprovider = \"local\"\n\n[backends.other]\n";
        assert_eq!(set_field(text, "dev", "release", "b").unwrap(), text.replace("\"a\"", "\"b\""));
        let added = set_field(text, "other", "release", "b").unwrap();
        assert_eq!(added, format!("{text}release = \"b\"\n"));
        let inline = "backends = { dev = { provider = \"local\" } }\r\n";
        assert_eq!(
            set_field(inline, "dev", "release", "b").unwrap(),
            "backends = { dev = { provider = \"local\" , release = \"b\" } }\r\n"
        );
        let dotted = "backends.dev.provider = \"local\"\nbackends.dev.release = \"a\"\n";
        assert_eq!(set_field(dotted, "dev", "release", "b").unwrap(), dotted.replace("\"a\"", "\"b\""));
        assert!(matches!(set_field(text, "none", "release", "b"), Err(EditError::Missing { .. })));
        assert!(matches!(set_field("[", "none", "release", "b"), Err(EditError::Syntax)));
    }
}
