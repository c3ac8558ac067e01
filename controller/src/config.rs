//! The controller's settings.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use drover_daemon::config::{Problems, Settings, duration};
use drover_daemon::telemetry::{self, Format, Telemetry};
use drover_domain::lease::Terms;
use drover_domain::reconcile::Rules;
use http::{HeaderValue, Uri};
use rustls_pki_types::ServerName;

use crate::{notify, upkeep};

#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
    /// Names and addresses that clients dial, for its certificate.
    pub names: Vec<String>,
    /// Origins whose pages may call it.
    pub origins: Vec<HeaderValue>,
    pub terms: Terms,
    pub upkeep: upkeep::Terms,
    /// Whom to tell; none: nobody.
    pub notify: Option<notify::Settings>,
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
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7437);

impl Config {
    /// From everywhere, with every mistake at once. `file`: one that was asked for, and must be there.
    pub fn load(file: Option<&Path>, flags: Flags) -> Result<Self, Problems> {
        let default = Path::new(DEFAULT_FILE);
        let file = file.or_else(|| default.exists().then_some(default));
        let mut settings = Settings::load(file);
        let listen = settings.get("listen", flags.listen, address);
        let data_dir = settings.get("data_dir", flags.data_dir, absolute);
        let names = names(&mut settings, &flags.names);
        let origins = origins(&mut settings);
        let terms = terms(&mut settings);
        let upkeep = upkeep(&mut settings);
        let notify = notify(&mut settings);
        let telemetry = Telemetry {
            filter: settings.get("log.filter", flags.log, telemetry::filter).unwrap_or_else(|| "info".into()),
            format: settings.get("log.format", None, str::parse::<Format>).unwrap_or_default(),
            otlp: settings.get("otlp", None, telemetry::endpoint),
        };
        let shutdown = settings.get("shutdown", None, duration).unwrap_or(Duration::from_secs(10));
        settings.finish()?;
        Ok(Self {
            listen: listen.unwrap_or(DEFAULT_LISTEN),
            data_dir: data_dir.unwrap_or_else(default_data_dir),
            names,
            origins,
            terms,
            upkeep,
            notify,
            telemetry,
            shutdown,
        })
    }
}

/// What the certificate shall be good for: a mistake must not wait until the certificate is made.
fn names(settings: &mut Settings, flags: &[String]) -> Vec<String> {
    let names = settings.list("names", flags);
    for name in names.iter().filter(|name| ServerName::try_from(name.as_str()).is_err()) {
        settings.problem(
            "names",
            format!("{name:?} is neither a host name nor an address, such as drover.example.org"),
        );
    }
    names
}

fn origins(settings: &mut Settings) -> Vec<HeaderValue> {
    let mut origins = Vec::new();
    for text in settings.list("origins", &[]) {
        match origin(&text) {
            Some(origin) => origins.push(origin),
            None => settings
                .problem("origins", format!("{text:?} is not an origin such as https://drover.example.org")),
        }
    }
    origins
}

/// As browsers send it: a scheme and a host, no path, no wildcard.
fn origin(text: &str) -> Option<HeaderValue> {
    let uri: Uri = text.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let is_whole = format!("{scheme}://{authority}") == text && !text.contains(['*', '@']);
    if is_whole && matches!(scheme, "http" | "https") { text.parse().ok() } else { None }
}

fn terms(settings: &mut Settings) -> Terms {
    let usual = Terms::DEFAULT;
    let terms = Terms {
        heartbeat: settings.get("lease.heartbeat", None, duration).unwrap_or(usual.heartbeat),
        lease: settings.get("lease.lease", None, duration).unwrap_or(usual.lease),
        lost_after: settings.get("lease.lost_after", None, duration).unwrap_or(usual.lost_after),
    };
    let fits = terms.heartbeat.checked_mul(2).is_some_and(|two| two <= terms.lease);
    if !fits || terms.lease >= terms.lost_after || terms.heartbeat.is_zero() {
        let text = "two heartbeats must fit into a lease, and lost_after must be longer than the lease";
        settings.problem("lease", text);
    }
    terms
}

fn upkeep(settings: &mut Settings) -> upkeep::Terms {
    let usual = upkeep::Terms::DEFAULT;
    let mut length = |name, usual| settings.get(name, None, duration).unwrap_or(usual);
    let terms = upkeep::Terms {
        every: length("rounds.every", usual.every),
        full: length("rounds.full", usual.full),
        rules: Rules {
            workspaces: length("grace.workspaces", usual.rules.workspaces),
            processes: length("grace.processes", usual.rules.processes),
            stuck: length("grace.stuck", usual.rules.stuck),
            locks: length("grace.locks", usual.rules.locks),
        },
        apply: settings.get("rounds.apply", None, str::parse::<bool>).unwrap_or(usual.apply),
    };
    if terms.every.is_zero() || terms.full < terms.every {
        settings.problem("rounds", "every must be longer than nothing, and full not shorter than every");
    }
    terms
}

/// A command, or a webhook with its secret; not both.
fn notify(settings: &mut Settings) -> Option<notify::Settings> {
    let command = settings.list("notify.command", &[]);
    let url = settings.get("notify.webhook", None, webhook);
    let secret = settings.get("notify.secret_file", None, secret);
    let ca = settings.get("notify.ca_file", None, absolute);
    let gather = settings.get("notify.gather", None, duration).unwrap_or(Duration::from_secs(10));
    let sink = match (command.is_empty(), url, secret) {
        (false, None, None) => notify::Sink::Command(command),
        (true, Some(url), Some(secret)) => {
            notify::Sink::Webhook(notify::Webhook { url, secret: secret.into(), ca })
        }
        (true, None, None) => return None,
        _ => {
            settings.problem("notify", "wants either command, or webhook with secret_file");
            return None;
        }
    };
    Some(notify::Settings { sink, gather })
}

fn webhook(text: &str) -> Result<Uri, &'static str> {
    let uri: Uri = text.parse().map_err(|_| "is not a URL")?;
    let is_whole = matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    if is_whole { Ok(uri) } else { Err("is not an http or https URL") }
}

/// What is in the file; others must not be able to read it.
fn secret(path: &str) -> Result<String, String> {
    let path = Path::new(path);
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(told)?;
    if !drover_daemon::atomic::is_private(path).map_err(told)? {
        return Err(format!("{} may be read by others; make it private: chmod 600 {0}", path.display()));
    }
    match text.trim() {
        "" => Err(format!("{} is empty", path.display())),
        text => Ok(text.to_owned()),
    }
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "is not an address and port such as 127.0.0.1:7437 or [::]:7437")
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
        assert_eq!(config.upkeep, upkeep::Terms::DEFAULT);
    }

    #[test]
    fn every_mistake_is_refused_before_anything_is_opened_and_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        let text = "listen = \"nowhere\"\nlissten = 1\nnames = [\"fine\", \"not fine\"]\norigins = [\"*\"]\n\
                    otlp = \"a\"\n[lease]\nheartbeat = \"60s\"\n[log]\nfilter = \"drover=loud\"\nformat = \"odd\"\n";
        std::fs::write(&path, text).unwrap();
        let problems = Config::load(Some(&path), Flags::default()).unwrap_err();
        let lines: Vec<_> =
            problems.0.iter().map(|problem| problem.place.rsplit(':').next().unwrap()).collect();
        assert_eq!(lines, ["1", "2", "3", "4", "5", "6", "9", "10"], "{problems}");
    }

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for good in ["https://drover.example.org", "http://localhost:8080"] {
            assert!(origin(good).is_some(), "{good}");
        }
        for bad in [
            "*",
            "",
            "drover.example.org",
            "https://*.example.org",
            "https://a/",
            "https://a/x",
            "ftp://a",
            "https://u@a",
        ] {
            assert!(origin(bad).is_none(), "{bad}");
        }
    }
}
