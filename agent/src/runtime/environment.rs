//! What a command finds in its environment: little of the agent's (nothing that may be a secret), what the session's spec
//! says, and the marks of its run, which nothing else can set.

use std::collections::BTreeMap;

use drover_domain::converge::Assignment;

use crate::facts;
use crate::git::runner::Account;
use crate::shim::record::Run;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a command shares with the agent whose user it is.
const PASSED: [&str; 10] =
    ["PATH", "HOME", "USER", "LOGNAME", "EMAIL", "SHELL", "LANG", "LC_ALL", "TZ", "XDG_RUNTIME_DIR"];
/// What it shares with the agent of another user.
const PASSED_TO_ALL: [&str; 3] = ["LANG", "LC_ALL", "TZ"];

/// The environment of an assigned session's command, as `who`; none: as the agent.
pub(super) fn of(assignment: &Assignment, who: Option<&Account>) -> BTreeMap<String, String> {
    let passed: &[&str] = if who.is_some() { &PASSED_TO_ALL } else { &PASSED };
    let passed = passed.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    let mut environment = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
    environment.extend(passed);
    if let Some(who) = who {
        let home = who.home.to_string_lossy().into_owned();
        environment.insert("HOME".into(), home);
        environment.extend(["USER", "LOGNAME"].map(|name| (name.to_owned(), who.name.clone())));
    }
    // Git takes it where nobody told it who the user is: without, a commit on a new machine fails.
    let user = environment.get("USER").cloned().unwrap_or_else(|| "drover".to_owned());
    environment.entry("EMAIL".into()).or_insert_with(|| format!("{user}@{}", facts::hostname()));
    let asked = assignment.spec.environment.iter().chain(&assignment.secrets.0);
    environment.extend(asked.map(|(name, value)| (name.to_string(), value.to_string())));
    if assignment.resumes {
        environment.insert("DROVER_RESUMED".into(), "1".into());
    }
    environment
}

/// Adds the marks of the run.
pub(super) fn mark(run: &mut Run) {
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let marks = [
        ("DROVER_SESSION", run.session.clone()),
        ("DROVER_RUN", run.id.clone()),
        ("DROVER_FENCE", run.fence.clone()),
        ("DROVER_WORKSPACE", text(&run.directory)),
        ("DROVER_HEARTBEAT", text(&run.heartbeat())),
        ("DROVER_STATE", text(&run.desk.join("state"))),
    ];
    run.environment.extend(marks.map(|(name, value)| (name.to_owned(), value)));
}
