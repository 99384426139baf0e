//! What a `package.json` says about the project: a name for it, and the prefix of its client variables.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::model::{NAME_MAX, ProjectName};

/// The dependency that gives a framework away and the prefix it wants, in the order in which the Convex client looks.
const FRAMEWORKS: [(&str, &str); 8] = [
    ("react-scripts", "REACT_APP_"),
    ("next", "NEXT_PUBLIC_"),
    ("expo", "EXPO_PUBLIC_"),
    ("@sveltejs/kit", "PUBLIC_"),
    ("@tanstack/start", "VITE_"),
    ("@tanstack/react-start", "VITE_"),
    ("vite", "VITE_"),
    ("@remix-run/dev", ""),
];

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Package {
    name: Value,
    dependencies: Value,
    dev_dependencies: Value,
}

impl Package {
    fn lists(&self, name: &str) -> bool {
        let listed = |table: &Value| table.as_object().is_some_and(|table: &Map<String, Value>| table.contains_key(name));
        listed(&self.dependencies) || listed(&self.dev_dependencies)
    }
}

fn package(json: &str) -> Package {
    serde_json::from_str(json.strip_prefix('\u{feff}').unwrap_or(json)).unwrap_or_default()
}

/// The prefix of the client variables, such as `NEXT_PUBLIC_`; empty where no known framework is used.
pub fn client_prefix(package_json: &str) -> &'static str {
    let package = package(package_json);
    FRAMEWORKS.iter().find(|(name, _)| package.lists(name)).map_or("", |(_, prefix)| prefix)
}

/// Whether a package depends on another one.
pub(super) fn depends_on(package_json: &str, name: &str) -> bool {
    package(package_json).lists(name)
}

/// Names that many repositories have, so that one alone does not tell them apart.
const GENERIC: [&str; 22] = [
    "app",
    "apps",
    "api",
    "backend",
    "client",
    "convex",
    "core",
    "db",
    "demo",
    "frontend",
    "functions",
    "monorepo",
    "my-app",
    "my-v0-project",
    "nextjs",
    "project",
    "root",
    "server",
    "template",
    "test",
    "web",
    "website",
];

/// Whether a project name is one that many repositories have.
pub fn is_generic(name: &ProjectName) -> bool {
    GENERIC.contains(&name.as_str()) || name.as_str().starts_with("my-") || name.as_str().ends_with("-template")
}

/// Returns a project name with the name of its repository in front; the name alone where that adds nothing or does not fit.
pub fn qualified(repository: &str, name: &ProjectName) -> ProjectName {
    let Some(repository) = name_from(repository).filter(|repository| repository != name) else { return name.clone() };
    ProjectName::parse(&format!("{repository}-{name}")).unwrap_or(repository)
}

/// A project name made of the package's name: its scope dropped, everything else than letters, digits and dashes
/// turned into dashes. None when no letter is left.
pub fn project_name(package_json: &str) -> Option<ProjectName> {
    name_from(package(package_json).name.as_str()?)
}

/// A project name made of any text, such as the name of a folder.
pub fn name_from(text: &str) -> Option<ProjectName> {
    let unscoped = text.rsplit('/').next().unwrap_or(text);
    let mut name = String::new();
    for character in unscoped.chars() {
        let next = character.to_ascii_lowercase();
        if next.is_ascii_alphanumeric() {
            if !name.is_empty() || next.is_ascii_lowercase() {
                name.push(next);
            }
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
        if name.len() == NAME_MAX {
            break;
        }
    }
    ProjectName::parse(name.trim_end_matches('-')).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frameworks_in_the_order_of_the_client() {
        let of = |json: &str| client_prefix(json);
        assert_eq!(of(r#"{"dependencies":{"next":"15"},"devDependencies":{"vite":"7"}}"#), "NEXT_PUBLIC_");
        assert_eq!(of(r#"{"devDependencies":{"vite":"7"}}"#), "VITE_");
        assert_eq!(of(r#"{"devDependencies":{"vite":"7","@sveltejs/kit":"2"}}"#), "PUBLIC_");
        assert_eq!(of(r#"{"dependencies":{"expo":"1","next":"2","react-scripts":"5"}}"#), "REACT_APP_");
        assert_eq!(of(r#"{"dependencies":{"@remix-run/dev":"1"}}"#), "");
        assert_eq!(of(r#"{"dependencies":{"nuxt":"1"}}"#), "");
        assert_eq!(of(r#"{"dependencies":["next"],"devDependencies":{"next":"1"}}"#), "NEXT_PUBLIC_");
        assert_eq!(of("not json"), "");
    }

    #[test]
    fn names_from_packages() {
        let of = |name: &str| project_name(&serde_json::json!({ "name": name }).to_string()).map(|name| name.to_string());
        assert_eq!(of("@acme/My_App.web").as_deref(), Some("my-app-web"));
        assert_eq!(of("3d-viewer-").as_deref(), Some("d-viewer"));
        assert_eq!(of("日本"), None);
        assert_eq!(of(&format!("{}-b", "a".repeat(39))).as_deref(), Some("a".repeat(39).as_str()));
        assert_eq!(project_name(r#"{"name":1}"#), None);
        assert_eq!(project_name("{}"), None);
    }

    proptest! {
        #[test]
        fn any_text_with_a_letter_gives_a_name(text in "\\PC{0,20}[a-zA-Z]\\PC{0,60}") {
            if !text.contains('/') {
                prop_assert!(name_from(&text).is_some());
            }
        }
    }
}
