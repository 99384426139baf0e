//! Words that follow a number.

/// `1 step`, `2 steps`.
pub fn counted(number: usize, noun: &str) -> String {
    format!("{number} {}", plural(number, noun))
}

/// The noun in the number that fits.
pub fn plural(number: usize, noun: &str) -> String {
    match noun.strip_suffix('y') {
        _ if number == 1 => noun.to_owned(),
        Some(stem) => format!("{stem}ies"),
        None => format!("{noun}s"),
    }
}

/// A duration for people: `34 ms`, `0.3 s`, `12 s`, `2 min 5 s`.
pub fn duration(milliseconds: u64) -> String {
    match milliseconds {
        0..100 => format!("{milliseconds} ms"),
        100..10_000 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        10_000..120_000 => format!("{} s", milliseconds / 1000),
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_follow_numbers() {
        assert_eq!(counted(1, "step"), "1 step");
        assert_eq!(counted(0, "step"), "0 steps");
        assert_eq!(counted(2, "entry"), "2 entries");
        assert_eq!(duration(34), "34 ms");
        assert_eq!(duration(340), "0.3 s");
        assert_eq!(duration(12_900), "12 s");
        assert_eq!(duration(125_000), "2 min 5 s");
    }
}
