//! Which backends the npm package `convex` of a repository needs.

/// Least versions of the package, and the day from which on backends have what it asks for.
const NEEDS: [((u64, u64, u64), &str); 1] = [((1, 31, 7), "2026-01-22")];

/// Returns the range of `convex` in a `package.json`; none where it has no such dependency.
pub fn client_range(package: &str) -> Option<String> {
    let package: serde_json::Value = serde_json::from_str(package).ok()?;
    let range = |key| package.get(key)?.get("convex")?.as_str().map(str::to_owned);
    ["dependencies", "devDependencies"].into_iter().find_map(range)
}

/// Returns the day from which on backends serve the least version of a range, `YYYY-MM-DD`; none where every one does, or
/// where the range is none that is understood.
pub fn needed_backend_day(range: &str) -> Option<&'static str> {
    let least = range.trim().trim_start_matches(['^', '~', '=', '>', 'v', ' ']);
    let mut numbers = least.split(['.', '-', ' ']).map_while(|part| part.parse::<u64>().ok());
    let least = (numbers.next()?, numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    NEEDS.into_iter().filter(|(version, _)| *version <= least).map(|(_, day)| day).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_needs_what_its_least_version_needs() {
        for (range, day) in [
            ("^1.31.7", Some("2026-01-22")),
            ("~1.45.0", Some("2026-01-22")),
            (">=1.31.6", None),
            ("1", None),
            ("2.x", Some("2026-01-22")),
            ("latest", None),
            ("workspace:*", None),
            ("", None),
        ] {
            assert_eq!(needed_backend_day(range), day, "{range}");
        }
        assert_eq!(client_range(r#"{"devDependencies":{"convex":"^1.40.0"}}"#).as_deref(), Some("^1.40.0"));
        assert_eq!(client_range(r#"{"dependencies":{"react":"1"}}"#), None);
        assert_eq!(client_range("["), None);
    }
}
