//! Follow-up commands: what is printed to be pasted acts on the same home, control plane, manifest and project as the command
//! that prints it.

use std::borrow::Cow;
use std::ffi::OsString;

use super::args::Global;
use crate::model::shell_word;

/// Commands that are run by others, on another machine.
const ELSEWHERE: [&str; 4] = ["quota", "serve", "token", "trust"];

/// The flags that were typed and that every follow-up command needs as well.
#[derive(Debug, Clone, Default)]
pub(super) struct FollowUp {
    flags: Vec<(&'static str, String)>,
}

impl FollowUp {
    /// Collects the flags of a command line. What comes from the environment holds for the next command by itself.
    pub(super) fn new(global: &Global, typed: &[OsString]) -> Self {
        let typed: Vec<Cow<'_, str>> = typed.iter().map(|word| word.to_string_lossy()).collect();
        let is_typed = |flag: &str, short: Option<&str>| {
            let is_flag = |word: &str| word == flag || word.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='));
            typed.iter().any(|word| is_flag(word) || short.is_some_and(|short| word.starts_with(short)))
        };
        let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let flags = [
            ("--manifest", Some("-m"), path(&global.manifest)),
            ("--project", None, global.project.as_ref().map(ToString::to_string)),
            ("--control-plane", None, global.control_plane.clone()),
            ("--home", None, path(&global.home)),
        ];
        let flags = flags.into_iter().filter(|(flag, short, _)| is_typed(flag, *short));
        Self { flags: flags.filter_map(|(flag, _, value)| Some((flag, shell_word(&value?)))).collect() }
    }

    /// Adds the flags to the commands in a text, which are lines of their own behind four blanks.
    pub(super) fn complete<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.flags.is_empty() || !text.contains("    convexinfra ") {
            return Cow::Borrowed(text);
        }
        let lines: Vec<Cow<'_, str>> = text.split('\n').map(|line| self.complete_line(line)).collect();
        Cow::Owned(lines.join("\n"))
    }

    fn complete_line<'t>(&self, line: &'t str) -> Cow<'t, str> {
        let Some(words) = line.strip_prefix("    ").and_then(|line| line.trim_start().strip_prefix("convexinfra ")) else {
            return Cow::Borrowed(line);
        };
        if words.split(' ').next().is_some_and(|verb| ELSEWHERE.contains(&verb)) {
            return Cow::Borrowed(line);
        }
        let missing = self.flags.iter().filter(|(flag, _)| !words.split(' ').any(|word| word == *flag));
        Cow::Owned(missing.fold(line.to_owned(), |line, (flag, value)| format!("{line} {flag} {value}")))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::args::Cli;
    use super::*;

    fn follow_up(words: &[&str]) -> FollowUp {
        let typed: Vec<OsString> = words.iter().map(OsString::from).collect();
        FollowUp::new(&Cli::try_parse_from(&typed).unwrap().global, &typed[1..])
    }

    #[test]
    fn what_is_pasted_acts_where_the_command_did() {
        let given = follow_up(&["convexinfra", "stop", "dev", "--home", "/a b", "--project=shop", "-m", "x/convex.toml"]);
        assert_eq!(
            given.complete("start it with\n    convexinfra start dev\nand wait\n"),
            "start it with\n    convexinfra start dev --manifest x/convex.toml --project shop --home '/a b'\nand wait\n"
        );
        for whole in [
            "    convexinfra serve --allow-publish 0.0.0.0\n",
            "see `convexinfra status`\n",
            "    docker stop edge\n",
            "    convexinfra start dev --manifest y --project z --home w\n",
        ] {
            assert_eq!(given.complete(whole), whole);
        }
        let plain = follow_up(&["convexinfra", "stop", "dev"]);
        assert_eq!(plain.complete("    convexinfra start dev"), "    convexinfra start dev");
    }
}
