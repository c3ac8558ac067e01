//! The agent's settings: flag, then `DROVER_*`, then `agent.toml`, then default; every mistake is said at once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use drover_daemon::config::{Problems, Settings, duration};
use drover_daemon::telemetry::{self, Format, Telemetry};
use drover_domain::labels::Labels;
use drover_domain::name::Name;

use crate::converge;
use crate::facts::Offer;
use crate::git::limits::{Limits, Own};
use crate::git::runner;
use crate::logs::keep;
use crate::pressure;
use crate::process::Boot;
use crate::workspace::{REGENERABLE, TrashRules};

/// Everything that an agent can be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The controller's address, host:port.
    pub controller: String,
    pub state_dir: PathBuf,
    /// Where worktrees go; none: below the state directory.
    pub worktrees: Option<PathBuf>,
    /// Needed until the agent has joined.
    pub join_token: Option<Secret>,
    /// The node's name; none: after its host name.
    pub name: Option<Name>,
    pub offer: Offer,
    pub git: runner::Settings,
    /// Names of ignored paths that can be made again, and are not saved on removal.
    pub regenerable: Vec<String>,
    pub limits: converge::Limits,
    /// How long the logs of ended runs are kept, and how much of them.
    pub logs: keep::Rules,
    /// How long saved work is kept, and how much of it.
    pub trash: TrashRules,
    /// How long a shutdown may wait for the step in hand.
    pub patience: Duration,
    /// A program that serves the hidden `shim` command: it supervises runs.
    pub shim: PathBuf,
    /// Where sockets go, each node's in a directory of its own: a short path, which need not outlive the boot.
    pub sockets: PathBuf,
    /// Where this boot's name stands: the kernel's file, but for who wants to see what a reboot does.
    pub boot_id: PathBuf,
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What came on the command line.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub controller: Option<String>,
    pub state_dir: Option<String>,
    pub join_token: Option<String>,
    pub join_token_file: Option<String>,
    pub name: Option<String>,
    pub slots: Option<String>,
    pub labels: Vec<String>,
    pub log: Option<String>,
}

/// Where the settings are looked for if no file is named.
pub const USUAL_FILE: &str = "/etc/drover/agent.toml";

impl Config {
    /// What an agent needs to be told at least; everything else is as usual.
    pub fn new(controller: impl Into<String>, state_dir: impl Into<PathBuf>, shim: PathBuf) -> Self {
        let state_dir = state_dir.into();
        Self {
            controller: controller.into(),
            sockets: usual_sockets(&state_dir),
            state_dir,
            worktrees: None,
            join_token: None,
            name: None,
            offer: Offer::default(),
            git: runner::Settings::default(),
            regenerable: REGENERABLE.map(str::to_owned).into(),
            limits: usual_limits(),
            logs: keep::Rules::default(),
            trash: TrashRules::default(),
            patience: Duration::from_secs(20),
            shim,
            boot_id: Boot::FILE.into(),
        }
    }

    /// From a file (the usual one, if it is there and none is named), the environment and the flags.
    pub fn load(file: Option<&Path>, flags: &Flags, shim: PathBuf) -> Result<(Self, Telemetry), Problems> {
        let usual = Path::new(USUAL_FILE);
        let mut from = Settings::load(file.or(usual.exists().then_some(usual)));
        let config = Self::read(&mut from, flags, shim);
        let telemetry = Telemetry {
            filter: from
                .get("log.filter", flags.log.clone(), telemetry::filter)
                .unwrap_or_else(|| "info".into()),
            format: from.get("log.format", None, str::parse::<Format>).unwrap_or_default(),
            otlp: from.get("otlp", None, telemetry::endpoint),
        };
        from.finish()?;
        Ok((config, telemetry))
    }

    fn read(from: &mut Settings, flags: &Flags, shim: PathBuf) -> Self {
        let state = from.get("state_dir", flags.state_dir.clone(), absolute).unwrap_or_else(usual_state);
        let address = from.get("controller", flags.controller.clone(), address);
        let is_named = flags.controller.is_some() || address.is_some();
        let mut config = Self::new(address.unwrap_or_default(), state, shim);
        if !is_named {
            from.problem("controller", "is missing: where is the controller? --controller HOST:PORT");
        }
        config.join_token = join_token(from, flags);
        config.name = from.get("name", flags.name.clone(), Name::new);
        config.worktrees = from.get("worktrees", None, absolute);
        config.sockets = from.get("sockets", None, absolute).unwrap_or(config.sockets);
        config.boot_id = from.get("boot_id_file", None, absolute).unwrap_or(config.boot_id);
        config.offer.slots = from.get("slots", flags.slots.clone(), slots);
        config.offer.labels = labels(from, &flags.labels);
        config.git = git(from);
        let regenerable = from.list("regenerable", &[]);
        if !regenerable.is_empty() {
            config.regenerable = regenerable;
        }
        let usual = config.limits;
        config.limits.makes = from.get("limits.makes", None, count).unwrap_or(usual.makes);
        config.limits.starts = from.get("limits.starts", None, count).unwrap_or(usual.starts);
        let every = from.get("checkpoint_every", None, duration);
        config.limits.checkpoint_every =
            every.map_or(usual.checkpoint_every, |every| Some(every).filter(|every| !every.is_zero()));
        let usual = config.logs;
        config.logs.longest = from.get("logs.keep", None, duration).unwrap_or(usual.longest);
        config.logs.most_bytes = from.get("logs.most_bytes", None, bytes).unwrap_or(usual.most_bytes);
        config.trash.ttl = from.get("trash.keep", None, duration).unwrap_or(config.trash.ttl);
        config.trash.budget = from.get("trash.most_bytes", None, bytes).or(config.trash.budget);
        config.patience = from.get("shutdown_timeout", None, duration).unwrap_or(config.patience);
        config
    }
}

/// Making a workspace is work for disk and processors; starting a run is little.
fn usual_limits() -> converge::Limits {
    let cpus = usize::try_from(pressure::cpus()).unwrap_or(1);
    let checkpoint_every = Some(Duration::from_secs(600));
    converge::Limits { makes: (cpus * 2).max(4), starts: (cpus * 4).max(8), checkpoint_every }
}

fn usual_state() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let of_user = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).or_else(home);
    match of_user {
        Some(state) if !rustix::process::getuid().is_root() => state.join("drover/agent"),
        _ => PathBuf::from("/var/lib/drover/agent"),
    }
}

/// Below the state directory only if the system offers no place: such a path may be too long for a socket.
fn usual_sockets(state: &Path) -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()) {
        _ if rustix::process::getuid().is_root() => PathBuf::from("/run/drover"),
        Some(runtime) => PathBuf::from(runtime).join("drover"),
        None => state.join("run"),
    }
}

fn join_token(from: &mut Settings, flags: &Flags) -> Option<Secret> {
    let direct = from.get("join_token", flags.join_token.clone(), text);
    let in_file = from.get("join_token_file", flags.join_token_file.clone(), |path| {
        std::fs::read_to_string(path).map(|token| token.trim().to_owned()).map_err(|error| error.to_string())
    });
    direct.or(in_file).map(Secret)
}

fn labels(from: &mut Settings, flags: &[String]) -> Labels {
    let mut pairs = Vec::new();
    for text in from.list("labels", flags) {
        match text.split_once('=') {
            Some((key, value)) => pairs.push((key.to_owned(), value.to_owned())),
            None => from.problem("labels", format!("'{text}' is not KEY=VALUE")),
        }
    }
    Labels::new(pairs).unwrap_or_else(|error| {
        from.problem("labels", error.to_string());
        Labels::default()
    })
}

fn git(from: &mut Settings) -> runner::Settings {
    let usual = runner::Settings::default();
    let limits = Limits {
        quick: from.get("git.timeout", None, duration).unwrap_or(usual.limits.quick),
        long: from.get("git.long_timeout", None, duration).unwrap_or(usual.limits.long),
        connect: from.get("git.connect_timeout", None, duration).unwrap_or(usual.limits.connect),
    };
    runner::Settings {
        program: from.get("git.program", None, text).map_or(usual.program, PathBuf::from),
        limits,
        repositories: from.each("git.repository", |of| {
            let limits = Limits {
                quick: of.get("timeout", duration).unwrap_or(limits.quick),
                long: of.get("long_timeout", duration).unwrap_or(limits.long),
                connect: of.get("connect_timeout", duration).unwrap_or(limits.connect),
            };
            of.needed("match", text).map(|prefix| Own { prefix, limits })
        }),
        grace: from.get("git.grace", None, duration).unwrap_or(usual.grace),
        clock: usual.clock,
    }
}

fn text(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("is empty".into()) } else { Ok(text.to_owned()) }
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|error| error.to_string())
}

fn address(text: &str) -> Result<String, String> {
    let address = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && is_port(port) => Ok(address.to_owned()),
        _ => Err("is not HOST:PORT".into()),
    }
}

/// A number of bytes, or one with K, M, G or T for so many KiB, MiB, GiB, TiB.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].trim() {
        "" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => 64,
    };
    let number = digits.trim().parse::<u64>().ok();
    number
        .and_then(|number| number.checked_mul(1_u64.checked_shl(shift)?))
        .ok_or_else(|| format!("'{text}' is not a number of bytes such as 500M or 20G"))
}

fn count(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=10_000).contains(count))
        .ok_or_else(|| "is not a number from 1 to 10000".into())
}

fn slots(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|slots| *slots <= 100_000)
        .ok_or_else(|| "is not a number from 0 to 100000".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shim() -> PathBuf {
        "/bin/true".into()
    }

    fn load(text: &str, flags: &Flags) -> Result<Config, Problems> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path), flags, shim()).map(|(config, _)| config)
    }

    #[test]
    fn the_shipped_example_is_accepted() {
        let text = include_str!("../../deploy/agent.example.toml");
        let config = load(text, &Flags::default()).unwrap();
        assert_eq!(config.controller, "controller.example.org:7437");
        // What is commented out is right too.
        let all: String = text
            .lines()
            .map(|line| line.strip_prefix("#= ").unwrap_or(line))
            .fold(String::new(), |all, line| all + line + "\n");
        let all = all.replace("/etc/drover/join-token", "/dev/null");
        load(&all, &Flags::default()).unwrap();
    }

    #[test]
    fn every_mistake_is_said_at_once() {
        let text = "controler = \"a:1\"\nslots = \"many\"\nlabels = [\"x\"]\nname = \"-a\"\n[git]\ntimeout = \"5\"\n";
        let problems = load(text, &Flags::default()).unwrap_err().to_string();
        for part in [
            "unknown key 'controler'; did you mean 'controller'?",
            "slots = ",
            "'x' is not KEY=VALUE",
            "name = ",
            "git.timeout = ",
            "controller: is missing",
        ] {
            assert!(problems.contains(part), "{part} in {problems}");
        }
    }

    #[test]
    fn a_repository_may_have_limits_of_its_own_and_has_the_usual_ones_for_the_rest() {
        let text = "controller = \"a:1\"\n[git]\ntimeout = \"5s\"\n\
                    [[git.repository]]\nmatch = \"/srv/huge\"\nlong_timeout = \"1h\"\n\
                    [[git.repository]]\nmatch = \"https://far.example.org/\"\nconnect_timeout = \"2m\"\n";
        let git = load(text, &Flags::default()).unwrap().git;
        let usual = Limits { quick: Duration::from_secs(5), ..Limits::default() };
        assert_eq!(git.limits, usual);
        let huge = Limits { long: Duration::from_secs(3600), ..usual };
        let far = Limits { connect: Duration::from_secs(120), ..usual };
        let own = |prefix: &str, limits| Own { prefix: prefix.into(), limits };
        assert_eq!(git.repositories, [own("/srv/huge", huge), own("https://far.example.org/", far)]);

        let text = "controller = \"a:1\"\n[[git.repository]]\nlong_timeout = \"5\"\nlength = 3\n";
        let problems = load(text, &Flags::default()).unwrap_err().to_string();
        for part in [
            ":2: git.repository: 'match' is missing",
            ":3: git.repository.long_timeout",
            ":4: unknown key 'git.repository.length'",
        ] {
            assert!(problems.contains(part), "{part} in {problems}");
        }
    }

    #[test]
    fn where_the_boot_is_told_is_the_kernels_file_unless_it_is_set() {
        let usual = load("controller = \"one:1\"\n", &Flags::default()).unwrap();
        assert_eq!(usual.boot_id, Path::new(Boot::FILE));
        let text = "controller = \"one:1\"\nboot_id_file = \"/tmp/boot\"\n";
        assert_eq!(load(text, &Flags::default()).unwrap().boot_id, Path::new("/tmp/boot"));
    }

    #[test]
    fn flags_win_and_a_token_is_never_shown() {
        let flags = Flags {
            controller: Some("https://other:9/".into()),
            join_token: Some("hunter2".into()),
            labels: vec!["a=b".into()],
            ..Flags::default()
        };
        let config = load("controller = \"one:1\"\nlabels = [\"c=d\"]\n", &flags).unwrap();
        assert_eq!(config.controller, "other:9");
        assert_eq!(config.offer.labels.to_string(), "a=b");
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
