//! Templates and placeholders: texts that another tool, or their author, would have filled in.

/// Describes what in a text waits to be filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Template<'t> {
    /// `$NAME` or `${NAME}`, with or without a default, as shells and compose files have it.
    Variable {
        /// The name.
        name: &'t str,
        /// Whether it is the whole text.
        is_whole: bool,
    },
    /// `$(command)`, `{{ name }}`, `<%= name %>` or `%NAME%`: the part of the text.
    Expression(&'t str),
    /// `<name>`, `changeme`, `your-key-here`: the whole text.
    Placeholder,
}

impl Template<'_> {
    /// Returns how such a template is written, without anything of the text.
    #[cfg(feature = "native")]
    pub(crate) fn form(self) -> &'static str {
        match self {
            Self::Variable { .. } => "${NAME}",
            Self::Expression(text) if text.starts_with("$(") => "$(command)",
            Self::Expression(text) if text.starts_with('%') => "%NAME%",
            Self::Expression(text) if text.starts_with("<%") => "<%= name %>",
            Self::Expression(_) => "{{ name }}",
            Self::Placeholder => "changeme",
        }
    }
}

/// Returns the first template in a text of a manifest.
pub(crate) fn template(text: &str) -> Option<Template<'_>> {
    variable(text)
        .or_else(|| enclosed(text, "$(", ")").filter(|found| !is_escaped(text, found)).map(Template::Expression))
        .or_else(|| in_one_word(text, "{{", "}}"))
        .or_else(|| in_one_word(text, "<%=", "%>"))
        .or_else(|| percent(text).map(Template::Expression))
        .or_else(|| is_placeholder(text).then_some(Template::Placeholder))
}

/// Returns the template that a secret is. A generated one may have any of these letters in it, so a part is none.
#[cfg(feature = "native")]
pub(crate) fn whole_template(text: &str) -> Option<Template<'_>> {
    let text = text.trim();
    template(text).filter(|found| match found {
        Template::Variable { name, is_whole } => {
            *is_whole && (text.starts_with("${") || !name.bytes().any(|byte| byte.is_ascii_lowercase()))
        }
        Template::Expression(part) => part.len() == text.len() || text.strip_prefix('$') == Some(part),
        Template::Placeholder => true,
    })
}

fn variable(text: &str) -> Option<Template<'_>> {
    for (at, _) in text.match_indices('$') {
        let rest = &text[at + 1..];
        let (rest, is_braced) = rest.strip_prefix('{').map_or((rest, false), |inner| (inner, true));
        let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (name, after) = rest.split_at(length);
        // `${NAME:-default}` and its like end with the brace as well.
        let end = match is_braced {
            true if after.starts_with(['}', ':', '-', '?', '+']) => after.find('}').map(|at| at + 1),
            true => None,
            false => Some(0),
        };
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.len() > 1;
        if let Some(end) = end.filter(|_| is_name && (at == 0 || !text[..at].ends_with(['$', '\\']))) {
            return Some(Template::Variable { name, is_whole: at == 0 && after.len() == end });
        }
    }
    None
}

/// Returns the first part of a text between two marks, which are part of it, with something in between.
fn enclosed<'t>(text: &'t str, open: &str, close: &str) -> Option<&'t str> {
    let start = text.find(open)?;
    let inner = &text[start + open.len()..];
    let length = inner.find(close).filter(|length| !inner[..*length].trim().is_empty())?;
    Some(&text[start..start + open.len() + length + close.len()])
}

fn is_escaped(text: &str, found: &str) -> bool {
    text.split(found).next().is_some_and(|before| before.ends_with(['$', '\\']))
}

/// Returns an expression in a text that is one word but for it: a sentence with `{{ name }}` is the program's own template.
fn in_one_word<'t>(text: &'t str, open: &str, close: &str) -> Option<Template<'t>> {
    let found = enclosed(text, open, close)?;
    (!text.replace(found, "").contains(char::is_whitespace)).then_some(Template::Expression(found))
}

/// Returns the first `%NAME%`; `%20a%20` is an encoded blank.
fn percent(text: &str) -> Option<&str> {
    let found = enclosed(text, "%", "%")?;
    let name = &found[1..found.len() - 1];
    let is_name = name.len() > 2
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let is_encoded = name.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()) && found.len() < text.len();
    (is_name && !is_encoded).then_some(found)
}

/// Returns whether a text says that something else belongs in its place.
fn is_placeholder(text: &str) -> bool {
    let is_word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" _-.".contains(&byte))
    };
    if let Some(inner) = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) {
        return is_word(inner);
    }
    let lower = text.to_ascii_lowercase();
    if ["your-", "your_", "my-secret-", "insert-", "insert_"].iter().any(|start| lower.starts_with(start)) {
        return is_word(text) && !lower.contains('.');
    }
    let letters: String = lower.chars().filter(char::is_ascii_alphanumeric).collect();
    matches!(letters.as_str(), "changeme" | "changethis" | "pleasechangeme" | "replaceme" | "replacethis")
        || (letters.len() > 3 && letters.len() == lower.len() && letters.bytes().all(|byte| byte == b'x'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_of_shells_compose_files_and_generators_are_found() {
        let variable = |name, is_whole| Some(Template::Variable { name, is_whole });
        for (text, found) in [
            ("$HOME/x", variable("HOME", false)),
            ("${SITE_URL}", variable("SITE_URL", true)),
            ("http://h:${PORT:-3210}", variable("PORT", false)),
            ("${HOST?unset}", variable("HOST", true)),
            ("a$(pass show x)b", Some(Template::Expression("$(pass show x)"))),
            ("https://{{ .Values.host }}/x", Some(Template::Expression("{{ .Values.host }}"))),
            ("${{ secrets.KEY }}", Some(Template::Expression("{{ secrets.KEY }}"))),
            ("<%= host %>", Some(Template::Expression("<%= host %>"))),
            ("%SITE_URL%/a", Some(Template::Expression("%SITE_URL%"))),
            ("%ADDRESS%", Some(Template::Expression("%ADDRESS%"))),
            ("<your key>", Some(Template::Placeholder)),
            ("Change-Me", Some(Template::Placeholder)),
            ("your_api_key", Some(Template::Placeholder)),
            ("xxxx", Some(Template::Placeholder)),
        ] {
            assert_eq!(template(text), found, "{text}");
        }
    }

    #[test]
    fn what_only_looks_alike_is_a_value() {
        for text in [
            "",
            "$",
            "costs $5",
            "$$HOME",
            "\\$(x)",
            "$()",
            "Hello {{ name }}, welcome",
            "{\"a\":{\"b\":1}}",
            "{{}}",
            "%20caf%C3%A9%20",
            "a%20abc%20b",
            "100% of 5% of it",
            "%Y-%m-%d",
            "<p>Hello</p>",
            "A <b@example.com>",
            "<!-- x -->",
            "your-shop.example.com",
            "youryear",
            "xxx",
            "x",
        ] {
            assert_eq!(template(text), None, "{text}");
        }
    }

    #[test]
    fn a_secret_is_a_template_as_a_whole_only() {
        for text in ["${KEY}", "$KEY_OF_STRIPE", "$(cat key)", "${{ secrets.KEY }}", "{{ key }}", "%KEY%", "<key>", "changeme"]
        {
            assert!(whole_template(text).is_some_and(|found| !found.form().is_empty()), "{text}");
        }
        for text in ["pa$sword1", "$ecret", "$1$salt$hash", "a%KEY%b", "x{{y}}", "$2b$10$abcdefghijk", "$(", "sk_live_1"] {
            assert_eq!(whole_template(text), None, "{text}");
        }
    }
}
