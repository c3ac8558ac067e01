//! What a session is asked to be: immutable once accepted, checked as a whole, every problem reported at once.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use thiserror::Error;

use crate::labels::Labels;
use crate::name::Name;
use crate::repository::Repository;

/// A checked spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec(Parts);

/// The parts of a spec before [`Spec::new`] checks them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    pub repository: Repository,
    /// Branch, tag or commit to start from; none: the repository's HEAD.
    pub base: Option<Box<str>>,
    pub workspace: WorkspaceKind,
    pub runtime: RuntimeKind,
    pub image: Option<Box<str>>,
    pub command: Vec<Box<str>>,
    pub environment: BTreeMap<Box<str>, Box<str>>,
    /// Names of variables whose values are kept apart, see [`Secrets`].
    pub secret_names: Vec<Box<str>>,
    pub limits: Limits,
    pub priority: i32,
    pub node: Option<Name>,
    pub node_selector: Labels,
    pub labels: Labels,
    pub on_node_loss: OnNodeLoss,
    pub restart: Restart,
    pub resume: Resume,
    pub run_as: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub timeout: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub stop_grace: Option<Duration>,
    pub queue_timeout: Option<Duration>,
    /// Cap of one run's log on disk.
    pub log_bytes: Option<u64>,
    /// What keeps a run from being idle. None: everything.
    pub idle_signs: Option<Signs>,
    /// What moves a run's deadline. None: the heartbeat file alone.
    pub extend_signs: Option<Signs>,
    /// How often a run's deadline may be moved.
    pub max_extensions: Option<u32>,
    /// How far signs of life may move it in all, and how far people may.
    pub max_extension: Option<Duration>,
}

/// What counts as a sign that a run lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// The heartbeat file was touched.
    pub touch: bool,
    /// It wrote something.
    pub output: bool,
    /// Its processes used the processor.
    pub cpu: bool,
}

impl Signs {
    pub const ALL: Self = Self { touch: true, output: true, cpu: true };
    pub const TOUCH: Self = Self { touch: true, output: false, cpu: false };
}

impl Limits {
    pub const STOP_GRACE: Duration = Duration::from_secs(10);
    pub const LONGEST_GRACE: Duration = Duration::from_secs(3600);
    pub const MAX_EXTENSIONS: u32 = 10;

    pub fn stop_grace(&self) -> Duration {
        self.stop_grace.unwrap_or(Self::STOP_GRACE)
    }

    pub fn idle_signs(&self) -> Signs {
        self.idle_signs.unwrap_or(Signs::ALL)
    }

    pub fn extend_signs(&self) -> Signs {
        self.extend_signs.unwrap_or(Signs::TOUCH)
    }

    pub fn max_extensions(&self) -> u32 {
        self.max_extensions.unwrap_or(Self::MAX_EXTENSIONS)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WorkspaceKind {
    #[default]
    Worktree,
    Memory,
    Clone,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuntimeKind {
    #[default]
    Process,
    Tmux,
    Container,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnNodeLoss {
    #[default]
    Wait,
    Reschedule,
    Fail,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    #[default]
    Never,
    /// At most this often in a row.
    OnFailure(u32),
}

/// What to do with a run that a reboot or a dead agent took along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Start it again, with this command if it is not empty.
    Auto {
        command: Vec<Box<str>>,
    },
    Never,
}

impl Default for Resume {
    fn default() -> Self {
        Self::Auto { command: Vec::new() }
    }
}

/// Values of variables that must not be seen again: never shown, logged or sent but to the agent that needs them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(pub BTreeMap<Box<str>, Box<str>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// One problem with a spec: the field as the wire names it, and what is wrong with it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("spec.{field}: {problem}")]
pub struct Problem {
    pub field: String,
    pub problem: String,
}

const LONGEST_COMMAND: usize = 128 * 1024;
const LONGEST_TIMEOUT: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Spec {
    pub fn new(parts: Parts) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems(Vec::new());
        problems.command(&parts);
        problems.base(&parts);
        problems.environment(&parts);
        problems.limits(&parts.limits);
        problems.combinations(&parts);
        if problems.0.is_empty() { Ok(Self(parts)) } else { Err(problems.0) }
    }

    /// One that was accepted before, maybe by a version with other rules: it is taken as it is.
    pub fn accepted(parts: Parts) -> Self {
        Self(parts)
    }

    pub fn into_parts(self) -> Parts {
        self.0
    }
}

impl Deref for Spec {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.0.push(Problem { field: field.into(), problem: problem.into() });
    }

    fn command(&mut self, parts: &Parts) {
        if parts.command.first().is_none_or(|program| program.is_empty()) {
            self.add("command", "is empty; say what to run, after '--'");
        }
        if let Some(at) = parts.command.iter().position(|word| word.contains('\0')) {
            self.add(format!("command[{at}]"), "has a NUL byte");
        }
        let length: usize = parts.command.iter().map(|word| word.len() + 1).sum();
        if length > LONGEST_COMMAND {
            self.add("command", format!("is {length} bytes long; at most {LONGEST_COMMAND} are allowed"));
        }
    }

    fn base(&mut self, parts: &Parts) {
        if let Some(problem) = parts.base.as_deref().and_then(revision_problem) {
            self.add("base", problem);
        }
    }

    fn environment(&mut self, parts: &Parts) {
        for name in parts.environment.keys().chain(&parts.secret_names) {
            if !is_variable(name) {
                self.add(
                    format!("env[{name:?}]"),
                    "is not a variable's name: letters, digits and '_', no digit first",
                );
            } else if name.starts_with("DROVER_") {
                self.add(format!("env[{name:?}]"), "belongs to Drover; choose a name without DROVER_");
            }
        }
        if let Some((name, _)) = parts.environment.iter().find(|(_, value)| value.contains('\0')) {
            self.add(format!("env[{name:?}]"), "has a NUL byte");
        }
        let length: usize = parts.environment.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        if length > LONGEST_COMMAND {
            self.add("env", format!("is {length} bytes long; at most {LONGEST_COMMAND} are allowed"));
        }
    }

    fn limits(&mut self, limits: &Limits) {
        let lengths = [
            ("timeout", limits.timeout),
            ("idle_timeout", limits.idle_timeout),
            ("queue_timeout", limits.queue_timeout),
            ("max_extension", limits.max_extension),
        ];
        for (field, length) in lengths {
            if length.is_some_and(|length| length.is_zero() || length > LONGEST_TIMEOUT) {
                self.add(
                    field,
                    "must be longer than nothing and shorter than ten years; leave it out for no limit",
                );
            }
        }
        if limits.stop_grace.is_some_and(|grace| grace > Limits::LONGEST_GRACE) {
            self.add("stop_grace", "is longer than an hour");
        }
        if limits.timeout.is_none() && (limits.max_extensions.is_some() || limits.max_extension.is_some()) {
            self.add("max_extensions", "goes with a timeout: without one there is nothing to extend");
        }
        if limits.idle_timeout.is_some() && limits.idle_signs() == Signs::default() {
            self.add("idle_signs", "names no sign of life, so that every run would be idle");
        }
        if limits.log_bytes.is_some_and(|bytes| bytes < 64 * 1024) {
            self.add("log_bytes", "is less than 64 KiB");
        }
    }

    fn combinations(&mut self, parts: &Parts) {
        let container = parts.runtime == RuntimeKind::Container;
        if container && parts.workspace != WorkspaceKind::Clone {
            self.add("workspace", "a container needs the workspace kind 'clone'");
        }
        if container != parts.image.is_some() {
            self.add("image", "goes with the runtime 'container', and only with it");
        }
        if let Some(user) = parts.run_as.as_deref()
            && (user.is_empty()
                || user.len() > 32
                || user.starts_with('-')
                || !user.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)))
        {
            self.add("run_as", "is not a user's name");
        }
        if parts.on_node_loss != OnNodeLoss::Wait {
            self.add(
                "on_node_loss",
                "only 'wait' is there yet: the others need checkpoints that leave the node",
            );
        }
        if matches!(&parts.repository, Repository::Path { machine, .. } if machine.is_empty())
            && parts.node.is_none()
        {
            self.add("repository", "a path belongs to a machine: name the node with --node, or use a URL");
        }
    }
}

/// What is wrong with `text` as the name of a branch, tag or commit.
fn revision_problem(text: &str) -> Option<&'static str> {
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
    if text.is_empty() || text.len() > 255 {
        Some("is empty or longer than 255 bytes")
    } else if text.starts_with('-') {
        Some("begins with '-', which git would take for an option")
    } else if text.contains(forbidden)
        || ["..", "@{", "//"].iter().any(|part| text.contains(part))
        || text.starts_with('/')
        || text.ends_with(['/', '.'])
        || text.ends_with(".lock")
    {
        Some("is not the name of a branch, tag or commit")
    } else {
        None
    }
}

fn is_variable(name: &str) -> bool {
    name.len() <= 255
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::repository::{AbsolutePath, Url};

    pub(crate) fn parts() -> Parts {
        Parts {
            repository: Repository::Url(Url::new("https://example.org/a.git").unwrap()),
            base: None,
            workspace: WorkspaceKind::Worktree,
            runtime: RuntimeKind::Process,
            image: None,
            command: vec!["true".into()],
            environment: BTreeMap::new(),
            secret_names: vec![],
            limits: Limits::default(),
            priority: 0,
            node: None,
            node_selector: Labels::default(),
            labels: Labels::default(),
            on_node_loss: OnNodeLoss::Wait,
            restart: Restart::Never,
            resume: Resume::default(),
            run_as: None,
        }
    }

    fn fields(change: impl FnOnce(&mut Parts)) -> Vec<String> {
        let mut parts = parts();
        change(&mut parts);
        Spec::new(parts).err().unwrap_or_default().into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn a_plain_spec_is_accepted() {
        assert!(Spec::new(parts()).is_ok());
    }

    #[test]
    fn each_rule_names_the_field_it_is_about() {
        assert_eq!(fields(|p| p.command.clear()), ["command"]);
        assert_eq!(fields(|p| p.command.push("a\0b".into())), ["command[1]"]);
        assert_eq!(fields(|p| p.command.push("x".repeat(200_000).into())), ["command"]);
        assert_eq!(fields(|p| p.image = Some("i".into())), ["image"]);
        assert_eq!(fields(|p| p.runtime = RuntimeKind::Container), ["workspace", "image"]);
        assert_eq!(fields(|p| p.limits.timeout = Some(Duration::ZERO)), ["timeout"]);
        assert_eq!(fields(|p| p.limits.log_bytes = Some(1)), ["log_bytes"]);
        assert_eq!(fields(|p| p.limits.max_extensions = Some(1)), ["max_extensions"]);
        let deaf = |p: &mut Parts| {
            p.limits.idle_timeout = Some(Duration::from_secs(1));
            p.limits.idle_signs = Some(Signs::default());
        };
        assert_eq!(fields(deaf), ["idle_signs"]);
        assert_eq!(fields(|p| p.run_as = Some("-x".into())), ["run_as"]);
        let path = || Repository::Path { path: AbsolutePath::new("/a").unwrap(), machine: "".into() };
        assert_eq!(fields(|p| p.repository = path()), ["repository"]);
        for name in ["A B", "1A", "", "DROVER_RUN"] {
            assert_eq!(fields(|p| drop(p.environment.insert(name.into(), "".into()))).len(), 1, "{name}");
        }
        for base in ["-x", "a..b", "a@{1}", "a b", "a.lock", "", "/a", "a~1"] {
            assert_eq!(fields(|p| p.base = Some(base.into())), ["base"], "{base}");
        }
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let found = fields(|p| {
            p.command.clear();
            p.base = Some("-x".into());
            p.limits.stop_grace = Some(Duration::from_secs(4_000));
        });
        assert_eq!(found, ["command", "base", "stop_grace"]);
    }

    #[test]
    fn secrets_show_their_names_only() {
        let secrets = Secrets([("TOKEN".into(), "hunter2".into())].into());
        assert_eq!(format!("{secrets:?}"), r#"{"TOKEN"}"#);
    }
}
