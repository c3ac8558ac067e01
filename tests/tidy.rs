//! The house is kept as its rules say: sizes, who may know whom, one foreign library in one place, how a file begins.
//! Reads the sources as text; what the compiler or clippy can hold is held there.

#![allow(clippy::unwrap_used, reason = "a test that cannot read the sources has failed")]

use std::fs;
use std::path::{Path, PathBuf};

/// Every crate, with the ones it may know.
const CRATES: [(&str, &[&str]); 7] = [
    ("domain", &[]),
    ("proto", &["domain"]),
    ("daemon", &["domain"]),
    ("controller", &["domain", "proto", "daemon"]),
    ("agent", &["domain", "proto", "daemon"]),
    ("ctl", &["domain", "proto", "daemon", "controller", "agent"]),
    ("tests", &["domain", "proto", "daemon", "controller", "agent"]),
];

/// Foreign libraries that are a world of their own, with the modules that may speak of them.
const LIBRARIES: [(&str, &[&str]); 20] = [
    ("git2", &["agent/src/git/read.rs"]),
    ("rusqlite", &["controller/src/store", "agent/src/ledger"]),
    ("refinery", &["controller/src/store/open.rs", "agent/src/ledger/open.rs"]),
    ("opentelemetry", &["daemon/src/telemetry.rs"]),
    ("opentelemetry_sdk", &["daemon/src/telemetry.rs"]),
    ("opentelemetry_otlp", &["daemon/src/telemetry.rs"]),
    ("tracing_opentelemetry", &["daemon/src/telemetry.rs"]),
    ("tracing_subscriber", &["daemon/src/telemetry.rs"]),
    ("rcgen", &["controller/src/pki.rs", "agent/src/identity"]),
    ("x509_parser", &["controller/src/pki.rs", "agent/src/identity"]),
    ("comfy_table", &["ctl/src/output/table.rs"]),
    ("indicatif", &["ctl/src/progress.rs"]),
    ("prost_reflect", &["ctl/src/output/message.rs"]),
    ("serde_saphyr", &["ctl/src/output/message.rs"]),
    ("toml", &["daemon/src/config.rs", "ctl/src/context/file.rs"]),
    ("imbl", &["domain/src/fleet", "domain/src/inventory.rs", "controller/src/registry/published.rs"]),
    ("rustls_native_certs", &["controller/src/notify/send.rs"]),
    ("hyper", &["controller/src/listen.rs"]),
    ("hyper_util", &["controller/src/listen.rs"]),
    ("arc_swap", &["controller/src/registry", "controller/src/tls.rs"]),
];

const LONGEST_FILE: usize = 500;
const LONGEST_OPENING: usize = 8;

/// A source file of the workspace.
struct Source {
    /// From the root, with slashes.
    path: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        let is_in_tests = self.path.contains("/tests/") || self.path.ends_with("/tests.rs");
        is_in_tests || self.path.starts_with("tests/")
    }

    /// Without the tests at its end.
    fn product(&self) -> &str {
        let begins_tests = |at: &usize| {
            self.text[*at..].lines().nth(1).is_some_and(|line| line.contains("mod ") && line.ends_with('{'))
        };
        let end = self.text.match_indices("#[cfg(test)]").map(|(at, _)| at).find(begins_tests);
        if self.is_test() { "" } else { &self.text[..end.unwrap_or(self.text.len())] }
    }

    /// Whether it uses something by this name, as `name::`.
    fn speaks_of(&self, name: &str) -> bool {
        let begins_word =
            |at: usize| !self.product()[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        self.product().match_indices(&format!("{name}::")).any(|(at, _)| begins_word(at))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources() -> Vec<Source> {
    let mut open: Vec<PathBuf> = CRATES.iter().map(|(name, _)| root().join(name)).collect();
    let mut found = Vec::new();
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                found.push(Source { path, text });
            }
        }
    }
    assert!(found.len() > 100, "the sources are found");
    found
}

/// Fails with everything that is wrong, a line each.
fn all_well(rule: &str, wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{rule}:\n  {}", wrong.join("\n  "));
}

#[test]
fn no_file_is_longer_than_its_stop() {
    let length = |source: &Source| {
        let counted = if source.is_test() { source.text.as_str() } else { source.product() };
        counted.lines().count()
    };
    let long = sources().into_iter().filter(|source| length(source) > LONGEST_FILE && !may_be_long(source));
    let wrong = long.map(|source| format!("{}: {} lines", source.path, length(&source))).collect();
    all_well(&format!("a file has {LONGEST_FILE} lines at most, without its tests"), wrong);
}

/// One model of a fleet, driven by random commands, is one story however long.
fn may_be_long(source: &Source) -> bool {
    source.path == "domain/src/fleet/tests.rs"
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    let opening = |source: &Source| source.text.lines().take_while(|line| line.starts_with("//!")).count();
    let odd = sources().into_iter().filter(|source| !(1..=LONGEST_OPENING).contains(&opening(source)));
    let wrong = odd.map(|source| format!("{}: {} lines of //!", source.path, opening(&source))).collect();
    all_well(&format!("a file begins with 1 to {LONGEST_OPENING} lines of //!"), wrong);
}

#[test]
fn files_are_named_after_what_they_are_about() {
    const BANNED: [&str; 6] = ["mod", "util", "utils", "helper", "helpers", "common"];
    let stem = |source: &Source| Path::new(&source.path).file_stem().unwrap().to_string_lossy().into_owned();
    let named = sources().into_iter().filter(|source| BANNED.contains(&stem(source).as_str()));
    all_well("these names say nothing", named.map(|source| source.path).collect());
}

#[test]
fn crates_know_only_whom_they_may_know() {
    let mut wrong = Vec::new();
    for (name, may_know) in CRATES {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        for (other, _) in CRATES.iter().filter(|(other, _)| *other != name && !may_know.contains(other)) {
            if manifest.contains(&format!("drover-{other}")) || manifest.contains("droverctl.") {
                wrong.push(format!("{name} knows {other}"));
            }
        }
    }
    all_well("domain <- proto, daemon <- controller, agent <- ctl, tests", wrong);
}

#[test]
fn the_domain_stands_on_nothing_but_std() {
    let manifest = fs::read_to_string(root().join("domain/Cargo.toml")).unwrap();
    let needs = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let needs: Vec<&str> = needs.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).collect();
    let wrong = needs.iter().filter(|name| !name.is_empty() && !["imbl", "thiserror"].contains(name));
    all_well("the domain has std, thiserror and imbl", wrong.map(|name| (*name).to_owned()).collect());
}

#[test]
fn a_foreign_library_is_spoken_of_in_one_place() {
    let sources = sources();
    let mut wrong = Vec::new();
    for (library, places) in LIBRARIES {
        let speakers: Vec<&Source> = sources.iter().filter(|source| source.speaks_of(library)).collect();
        let stray =
            speakers.iter().filter(|source| !places.iter().any(|place| source.path.starts_with(place)));
        wrong.extend(stray.map(|source| format!("{}: {library}", source.path)));
        for place in
            places.iter().filter(|place| !speakers.iter().any(|source| source.path.starts_with(*place)))
        {
            wrong.push(format!("{place} does not speak of {library} any more: take it off the list"));
        }
    }
    all_well("one foreign library, one module", wrong);
}

#[test]
fn unsafe_code_is_in_one_module() {
    let has_unsafe =
        |source: &Source| source.product().contains("unsafe {") || source.product().contains("unsafe_code");
    let wrong =
        sources().into_iter().filter(|source| has_unsafe(source) && source.path != "agent/src/sys.rs");
    all_well("system calls that need it are in agent/src/sys.rs", wrong.map(|source| source.path).collect());
}

#[test]
fn only_tests_are_built_with_places_to_die_at() {
    let manifest = |name: &str| fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
    let asks = |name: &&str| manifest(name).contains("\"failpoints\"");
    let askers: Vec<&str> = CRATES.iter().map(|(name, _)| *name).filter(asks).collect();
    assert_eq!(askers, ["tests"], "a program that is given to people has none");
    let usual = manifest("");
    let usual = usual.lines().find(|line| line.starts_with("default-members")).unwrap();
    assert!(usual.contains("\"agent\"") && !usual.contains("\"tests\""), "what cargo build leaves: {usual}");
}

#[test]
fn tests_wait_for_something_and_none_is_left_out() {
    // Written so that this file is not found itself.
    let (ignore, sleep) = (["#[", "ignore"].concat(), ["sleep", "("].concat());
    let waits: [&str; 3] =
        ["tests/src/patience.rs", "agent/tests/agent/machine.rs", "controller/tests/controller/notify.rs"];
    let mut wrong = Vec::new();
    for source in sources().into_iter().filter(Source::is_test) {
        if source.text.contains(&ignore) {
            wrong.push(format!("{}: a test that is never run", source.path));
        }
        let is_system_test = source.path.contains("/tests/") && !source.path.contains("/src/");
        if is_system_test && source.text.contains(&sleep) && !waits.contains(&source.path.as_str()) {
            wrong.push(format!("{}: waits for time, not for something to become true", source.path));
        }
    }
    all_well("tests wait with patience, and every one counts", wrong);
}
