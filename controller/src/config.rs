//! The controller's settings.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drover_daemon::config::{Problems, Settings, duration};
use drover_daemon::telemetry::{Format, Telemetry};
use drover_domain::lease::Terms;
use http::HeaderValue;

#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
    /// Names and addresses that clients dial, for its certificate.
    pub names: Vec<String>,
    /// Origins whose pages may call it.
    pub origins: Vec<HeaderValue>,
    pub terms: Terms,
    pub telemetry: Telemetry,
    /// How long it takes at most to end.
    pub shutdown: Duration,
}

/// What was given on the command line.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub listen: Option<String>,
    pub data_dir: Option<String>,
    pub names: Vec<String>,
    pub log: Option<String>,
}

pub const DEFAULT_FILE: &str = "/etc/drover/controller.toml";
const DEFAULT_LISTEN: &str = "127.0.0.1:7437";

impl Config {
    /// From everywhere, with every mistake at once. `file`: one that was asked for, and must be there.
    pub fn load(file: Option<&Path>, flags: Flags) -> Result<Self, Problems> {
        let default = Path::new(DEFAULT_FILE);
        let file = file.or_else(|| default.exists().then_some(default));
        let mut settings = Settings::load(file);
        let text = |text: &str| Ok::<_, String>(text.to_owned());
        let listen = settings.get("listen", flags.listen, str::parse::<SocketAddr>);
        let data_dir = settings.get("data_dir", flags.data_dir, absolute);
        let names = settings.list("names", &flags.names);
        let origins = settings.list("origins", &[]);
        let usual = Terms::DEFAULT;
        let terms = Terms {
            heartbeat: settings.get("lease.heartbeat", None, duration).unwrap_or(usual.heartbeat),
            lease: settings.get("lease.lease", None, duration).unwrap_or(usual.lease),
            lost_after: settings.get("lease.lost_after", None, duration).unwrap_or(usual.lost_after),
        };
        if !(terms.heartbeat * 2 <= terms.lease && terms.lease < terms.lost_after)
            || terms.heartbeat.is_zero()
        {
            settings.problem(
                "lease",
                "two heartbeats must fit into a lease, and lost_after must be longer than the lease",
            );
        }
        let telemetry = Telemetry {
            filter: settings.get("log.filter", flags.log, text).unwrap_or_else(|| "info".into()),
            format: settings.get("log.format", None, str::parse::<Format>).unwrap_or_default(),
            otlp: settings.get("otlp", None, text),
        };
        let shutdown = settings.get("shutdown", None, duration).unwrap_or(Duration::from_secs(10));
        let mut parsed = Vec::new();
        for origin in &origins {
            match origin.parse() {
                Ok(origin) => parsed.push(origin),
                Err(_) => settings.problem(
                    "origins",
                    format!("{origin:?} is not an origin such as https://drover.example.org"),
                ),
            }
        }
        settings.finish()?;
        let fallback = || DEFAULT_LISTEN.parse().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 7437)));
        Ok(Self {
            listen: listen.unwrap_or_else(fallback),
            data_dir: data_dir.unwrap_or_else(default_data_dir),
            names,
            origins: parsed,
            terms,
            telemetry,
            shutdown,
        })
    }
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|error| error.to_string())
}

/// `/var/lib/drover/controller` for root, the user's own state directory else.
fn default_data_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/drover/controller");
    }
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    state.or_else(home).unwrap_or_else(|| PathBuf::from(".")).join("drover/controller")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_read_without_a_problem() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/controller.example.toml");
        let config = Config::load(Some(&example), Flags::default()).unwrap();
        assert_eq!(config.terms, Terms::DEFAULT);
    }

    #[test]
    fn settings_that_do_not_go_together_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, "listen = \"nowhere\"\nlissten = 1\n[lease]\nheartbeat = \"60s\"\n").unwrap();
        let problems = Config::load(Some(&path), Flags::default()).unwrap_err();
        assert_eq!(problems.0.len(), 3, "{problems}");
    }
}
