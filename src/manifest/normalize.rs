//! What people write when they mean a size, a duration or a word of ours, brought into our spelling.

use crate::model::{ByteSize, TimeSpan};

/// `512Mi` and `2 G` were probably meant to be `512 MiB` and `2 GiB`.
pub(super) fn size(text: &str) -> Option<String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let unit = match text[split..].trim().to_ascii_lowercase().as_str() {
        "k" | "ki" | "kib." | "kilobytes" => "KiB",
        "m" | "mi" | "mib." | "mo" | "meg" | "megabytes" => "MiB",
        "g" | "gi" | "gib." | "go" | "gig" | "gigs" | "gigabytes" => "GiB",
        "t" | "ti" | "tib." | "to" | "terabytes" => "TiB",
        _ => return None,
    };
    let repaired = format!("{} {unit}", &text[..split]);
    ByteSize::parse(&repaired).ok().map(|_| repaired)
}

/// `7 days` and `30min` were probably meant to be `7d` and `30m`.
pub(super) fn duration(text: &str) -> Option<String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let unit = match text[split..].trim().to_ascii_lowercase().as_str() {
        "w" | "week" | "weeks" => "w",
        "d" | "day" | "days" => "d",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        "min" | "mins" | "minute" | "minutes" => "m",
        "s" | "sec" | "secs" | "second" | "seconds" => "s",
        _ => return None,
    };
    let repaired = format!("{}{unit}", &text[..split]);
    TimeSpan::parse(&repaired).ok().map(|_| repaired)
}

/// What others call one of our words.
pub(super) fn word(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "postgresql" | "pg" | "psql" | "neon" | "postgres" => Some("postgres"),
        "mariadb" | "planetscale" | "mysql" => Some("mysql"),
        "sqlite3" | "sqlite" => Some("sqlite"),
        "k8s" | "kube" | "kubernetes" => Some("kubernetes"),
        "fly.io" | "flyio" | "fly" => Some("fly"),
        "container" | "docker-compose" | "compose" | "docker" => Some("docker"),
        "binary" | "process" | "disk" | "local" => Some("local"),
        "mock" | "fake" | "simulator" | "simulated" => Some("simulated"),
        "aws" | "minio" | "r2" | "s3" => Some("s3"),
        "ifnotpresent" | "if-not-present" | "missing" => Some("missing"),
        "always" => Some("always"),
        "never" => Some("never"),
        "require" | "required" | "verify-full" | "verify-ca" | "on" | "true" | "verify" => Some("verify"),
        "disabled" | "off" | "none" | "disable" => Some("disable"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_is_repaired_and_amounts_are_not_invented() {
        assert_eq!(size("512Mi").as_deref(), Some("512 MiB"));
        assert_eq!(size("2 G").as_deref(), Some("2 GiB"));
        assert_eq!(size("2"), None);
        assert_eq!(size("0G"), None);
        assert_eq!(duration("7 days").as_deref(), Some("7d"));
        assert_eq!(duration("30min").as_deref(), Some("30m"));
        assert_eq!(duration("7"), None);
        assert_eq!(word("PostgreSQL"), Some("postgres"));
    }
}
