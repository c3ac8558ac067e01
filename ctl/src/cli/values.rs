//! The values of arguments: lengths of time, pairs, choices. Each parser says what it wants when it cannot read one.

use std::time::Duration;

use clap::ValueEnum;
pub use drover_daemon::config::duration;
use drover_proto::v1;
use drover_proto::v1::LifeSigns;

/// How to print what was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

/// `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub key: String,
    pub value: String,
}

/// From when on.
#[derive(Clone, Debug, PartialEq)]
pub enum Since {
    Ago(Duration),
    At(prost_types::Timestamp),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Runtime {
    Process,
    Tmux,
    Container,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workspace {
    Worktree,
    Memory,
    Clone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Conflict {
    Fail,
    Resume,
    Rename,
    Replace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Loss {
    Wait,
    Reschedule,
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Resume {
    Auto,
    Never,
}

/// A command that was given as one argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words(pub Vec<String>);

/// How often in a row a run that failed is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart(pub u32);

/// How often, if `on-failure` says no number.
const RESTARTS: u32 = 3;

impl From<Runtime> for v1::RuntimeKind {
    fn from(kind: Runtime) -> Self {
        match kind {
            Runtime::Process => Self::Process,
            Runtime::Tmux => Self::Tmux,
            Runtime::Container => Self::Container,
        }
    }
}

impl From<Workspace> for v1::WorkspaceKind {
    fn from(kind: Workspace) -> Self {
        match kind {
            Workspace::Worktree => Self::Worktree,
            Workspace::Memory => Self::Memory,
            Workspace::Clone => Self::Clone,
        }
    }
}

impl From<Conflict> for v1::OnConflict {
    fn from(choice: Conflict) -> Self {
        match choice {
            Conflict::Fail => Self::Fail,
            Conflict::Resume => Self::Resume,
            Conflict::Rename => Self::Rename,
            Conflict::Replace => Self::Replace,
        }
    }
}

impl From<Loss> for v1::OnNodeLoss {
    fn from(choice: Loss) -> Self {
        match choice {
            Loss::Wait => Self::Wait,
            Loss::Reschedule => Self::Reschedule,
            Loss::Fail => Self::Fail,
        }
    }
}

impl From<Resume> for v1::ResumePolicy {
    fn from(choice: Resume) -> Self {
        match choice {
            Resume::Auto => Self::Auto,
            Resume::Never => Self::Never,
        }
    }
}

/// `KEY=VALUE`; the value may be empty and may have more `=`.
pub fn pair(text: &str) -> Result<Pair, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(Pair { key: key.to_owned(), value: value.to_owned() }),
        _ => Err(format!("'{text}' is not KEY=VALUE")),
    }
}

/// A length of time ago, or a point in time.
pub fn since(text: &str) -> Result<Since, String> {
    if let Ok(ago) = duration(text) {
        return Ok(Since::Ago(ago));
    }
    let wrong = |_| format!("'{text}' is neither a length of time (10m) nor a time (2026-11-24T10:00:00Z)");
    text.parse().map(Since::At).map_err(wrong)
}

/// `never`, `on-failure`, `on-failure:N`.
pub fn restart(text: &str) -> Result<Restart, String> {
    let wrong = || format!("'{text}' is not one of: never, on-failure, on-failure:N");
    match text.split_once(':') {
        None if text == "never" => Ok(Restart(0)),
        None if text == "on-failure" => Ok(Restart(RESTARTS)),
        Some(("on-failure", most)) => {
            most.parse().ok().filter(|most| *most > 0).map(Restart).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

/// Signs of life, joined by commas; none at all is a choice too.
pub fn signs(text: &str) -> Result<LifeSigns, String> {
    let mut signs = LifeSigns::default();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let sign = match word {
            "touch" => &mut signs.touch,
            "output" => &mut signs.output,
            "cpu" => &mut signs.cpu,
            _ => return Err(format!("'{word}' is not one of: touch, output, cpu")),
        };
        *sign = true;
    }
    Ok(signs)
}

/// The words of a command, as a shell splits them.
pub fn words(text: &str) -> Result<Words, String> {
    match shlex::split(text) {
        None => Err("a quote in it does not end".to_owned()),
        Some(words) if words.is_empty() => Err("it is empty".to_owned()),
        Some(words) => Ok(Words(words)),
    }
}

/// A directory on a node: only a whole path says the same there as here.
pub fn directory_of_node(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err("it is not an absolute path; the directory is one of the node that has the work".to_owned())
    }
}

/// A sort order as the API writes it: `-name` is `name desc`.
pub fn order_by(sort: Option<&str>) -> String {
    match sort {
        None => String::new(),
        Some(sort) => sort.strip_prefix('-').map_or_else(|| sort.to_owned(), |field| format!("{field} desc")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_needs_its_unit() {
        let table =
            [("45s", Some(45_000)), ("1h30m", Some(5_400_000)), ("10", None), ("", None), ("-5s", None)];
        for (text, millis) in table {
            assert_eq!(duration(text).ok(), millis.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn a_pair_has_a_key_and_keeps_everything_after_the_first_equals_sign() {
        let made = |key: &str, value: &str| Some(Pair { key: key.to_owned(), value: value.to_owned() });
        let table = [
            ("a=b", made("a", "b")),
            ("a=", made("a", "")),
            ("a=b=c", made("a", "b=c")),
            ("=b", None),
            ("a", None),
        ];
        for (text, expected) in table {
            assert_eq!(pair(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn since_is_a_length_or_a_point() {
        assert_eq!(since("10m").unwrap(), Since::Ago(Duration::from_secs(600)));
        let point = prost_types::Timestamp { seconds: 1_795_514_400, nanos: 0 };
        assert_eq!(since("2026-11-24T10:00:00Z").unwrap(), Since::At(point));
        assert!(since("yesterday").is_err());
    }

    #[test]
    fn restart_counts() {
        let table = [
            ("never", Some(0)),
            ("on-failure", Some(3)),
            ("on-failure:7", Some(7)),
            ("on-failure:0", None),
            ("always", None),
        ];
        for (text, most) in table {
            assert_eq!(restart(text).ok(), most.map(Restart), "{text:?}");
        }
    }

    #[test]
    fn signs_of_life_are_a_list_and_may_be_none() {
        let some = |touch, output, cpu| Some(LifeSigns { touch, output, cpu });
        let table = [
            ("touch,output,cpu", some(true, true, true)),
            ("cpu, touch", some(true, false, true)),
            ("", some(false, false, false)),
            ("touch,heart", None),
        ];
        for (text, expected) in table {
            assert_eq!(signs(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_command_in_one_argument_is_split_as_a_shell_does_it() {
        let made = |words: &[&str]| Some(words.iter().map(ToString::to_string).collect());
        let table = [
            ("my-agent --continue", made(&["my-agent", "--continue"])),
            (r#"a 'b c' "d e" f\ g $H"#, made(&["a", "b c", "d e", "f g", "$H"])),
            ("a 'b", None),
            ("  ", None),
        ];
        for (text, expected) in table {
            assert_eq!(words(text).ok().map(|words| words.0), expected, "{text:?}");
        }
    }

    #[test]
    fn a_minus_turns_the_order_round() {
        assert_eq!(order_by(Some("-create_time")), "create_time desc");
        assert_eq!(order_by(Some("name")), "name");
        assert_eq!(order_by(None), "");
    }
}
