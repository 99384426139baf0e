//! A text as one word of a shell, so that commands in messages work where they are pasted.

/// Returns a text as one word of `sh`, `bash`, `zsh` and `fish` alike, as it is where it needs no quotes.
///
/// Between single quotes a POSIX shell keeps every character, and `fish` all but backslash and quote; outside of them all four take
/// a backslash for the quoting of the next character.
pub fn shell_word(text: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./:@+,".contains(character);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    let mut word = String::from("'");
    for character in text.chars() {
        match character {
            '\'' | '\\' => word.extend(["'\\", if character == '\'' { "'" } else { "\\" }, "'"]),
            other => word.push(other),
        }
    }
    word.push('\'');
    word
}

#[cfg(all(test, feature = "native"))]
mod tests {
    use super::*;

    #[test]
    fn every_shell_reads_a_word_as_it_was() {
        let texts = [
            "plain/path.toml",
            "",
            "a b",
            "it's",
            "$HOME `id` $(id)",
            "back\\slash",
            "back\\\\two",
            "quote\\'both",
            "\"double\"",
            "*?[a]~#=",
            "-dash",
            "a!b",
            "é ü",
            "line\nbreak",
            "=x",
            "a{b,c}",
            "%self",
        ];
        let mut tried = Vec::new();
        for shell in ["sh", "dash", "bash", "zsh", "fish"] {
            for text in texts {
                let script = format!("printf %s. {}", shell_word(text));
                let Ok(output) = std::process::Command::new(shell).args(["-c", &script]).output() else { break };
                assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{text}."), "{shell}: {script}");
                tried.push(shell);
            }
        }
        assert!(tried.contains(&"sh"), "{tried:?}");
    }
}
