//! What Convex accepts as environment variables of a deployment.

/// The longest name, in characters.
pub const NAME_MAX: usize = 256;
/// The largest value, in bytes.
pub const VALUE_MAX: usize = 8_192;
/// How many variables one deployment has.
pub const COUNT_MAX: usize = 512;
/// How many bytes all names and values have together.
pub const TOTAL_MAX: usize = 512 * 1024;
/// Variables that every deployment has and that cannot be set.
pub const BUILT_IN: [&str; 2] = ["CONVEX_CLOUD_URL", "CONVEX_SITE_URL"];

/// Says why a deployment would refuse its environment variables. Never shows a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// A character that names do not have.
    #[error("`{name}` is not a name for a variable: letters, digits and `_`, with no digit in front")]
    Name {
        /// The name.
        name: String,
    },
    /// The name is longer than [`NAME_MAX`].
    #[error("the name `{start}…` has {length} characters, and {NAME_MAX} are allowed")]
    NameTooLong {
        /// How it begins.
        start: String,
        /// How long it is.
        length: usize,
    },
    /// The name is one of [`BUILT_IN`].
    #[error("`{name}` is set by Convex itself: choose another name")]
    BuiltIn {
        /// The name.
        name: String,
    },
    /// The value is larger than [`VALUE_MAX`].
    #[error("the value of `{name}` has {bytes} bytes, and {VALUE_MAX} are allowed")]
    ValueTooLarge {
        /// The variable.
        name: String,
        /// The size of its value.
        bytes: usize,
    },
    /// There are more than [`COUNT_MAX`].
    #[error("there are {count} variables, and a deployment has at most {COUNT_MAX}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// Together they are larger than [`TOTAL_MAX`].
    #[error("all variables together have {bytes} bytes, and {TOTAL_MAX} are allowed")]
    TotalTooLarge {
        /// How large.
        bytes: usize,
    },
}

impl EnvironmentError {
    /// Returns what the deployment's own answer would carry as its `code`.
    pub fn convex_code(&self) -> &'static str {
        match self {
            Self::Name { .. } => "EnvironmentVariableNameInvalid",
            Self::NameTooLong { .. } => "EnvironmentVariableNameTooLong",
            Self::BuiltIn { .. } => "EnvVarNameForbidden",
            Self::ValueTooLarge { .. } => "EnvironmentVariableValueTooLarge",
            Self::TooMany { .. } => "EnvVarLimitMet",
            // Not recorded; the code is a guess.
            Self::TotalTooLarge { .. } => "EnvVarTotalSizeLimitMet",
        }
    }
}

/// Checks a name alone.
///
/// # Errors
/// The first limit that it breaks.
pub fn check_name(name: &str) -> Result<(), EnvironmentError> {
    let mut bytes = name.bytes();
    let starts_well = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !starts_well || !bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(EnvironmentError::Name { name: name.to_owned() });
    }
    if name.len() > NAME_MAX {
        return Err(EnvironmentError::NameTooLong { start: name.chars().take(32).collect(), length: name.len() });
    }
    if BUILT_IN.contains(&name) {
        return Err(EnvironmentError::BuiltIn { name: name.to_owned() });
    }
    Ok(())
}

/// Checks one variable.
///
/// # Errors
/// The first limit that it breaks.
pub fn check_one(name: &str, value: &str) -> Result<(), EnvironmentError> {
    check_name(name)?;
    match value.len() {
        bytes if bytes > VALUE_MAX => Err(EnvironmentError::ValueTooLarge { name: name.to_owned(), bytes }),
        _ => Ok(()),
    }
}

/// Checks what all variables of a deployment amount to: how many, and how large by names and values.
///
/// # Errors
/// The first limit that they break.
pub fn check_totals(count: usize, bytes: usize) -> Result<(), EnvironmentError> {
    match () {
        () if count > COUNT_MAX => Err(EnvironmentError::TooMany { count }),
        () if bytes > TOTAL_MAX => Err(EnvironmentError::TotalTooLarge { bytes }),
        () => Ok(()),
    }
}

/// Returns every limit that a whole set of variables breaks.
pub fn check_all<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<EnvironmentError> {
    let mut problems = Vec::new();
    let (mut count, mut bytes) = (0, 0);
    for (name, value) in variables {
        problems.extend(check_one(name, value).err());
        count += 1;
        bytes += name.len() + value.len();
    }
    problems.extend(check_totals(count, bytes).err());
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_the_recorded_ones() {
        for name in ["A", "_", "a1", "OPENAI_API_KEY", &"A".repeat(256)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for (name, code) in [
            ("", "EnvironmentVariableNameInvalid"),
            ("1BAD", "EnvironmentVariableNameInvalid"),
            ("A-B", "EnvironmentVariableNameInvalid"),
            ("É", "EnvironmentVariableNameInvalid"),
            (&"A".repeat(257), "EnvironmentVariableNameTooLong"),
            ("CONVEX_CLOUD_URL", "EnvVarNameForbidden"),
        ] {
            assert_eq!(check_name(name).unwrap_err().convex_code(), code, "{name}");
        }
        assert_eq!(check_one("A", &"x".repeat(8_192)), Ok(()));
        assert!(matches!(check_one("A", &"x".repeat(8_193)), Err(EnvironmentError::ValueTooLarge { bytes: 8_193, .. })));
        assert_eq!(check_totals(512, 512 * 1024), Ok(()));
        assert_eq!(check_totals(513, 1).unwrap_err().convex_code(), "EnvVarLimitMet");
    }

    #[test]
    fn every_problem_is_found_in_one_go() {
        let large = "x".repeat(8_193);
        let found = check_all([("1BAD", "x"), ("A", large.as_str()), ("B", "fine"), ("CONVEX_SITE_URL", "x")]);
        assert_eq!(found.len(), 3);
    }
}
