//! Who would lose his ground: processes that are inside of a directory, or have something in it open, or belong to the
//! session.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use drover_domain::id::SessionId;

use super::super::Means;
use super::subject::Subject;
use crate::inventory::{group, marked};
use crate::process;

/// Named as a person can find them. The error says why they cannot be seen.
pub(super) fn of(
    means: &Means,
    session: SessionId,
    subject: Option<&Subject>,
) -> Result<Vec<String>, String> {
    let path = subject.map(|subject| subject.site.path.as_path());
    let marked = marked(means, session, path).map_err(|blind| blind.why.to_string())?;
    let mut found: BTreeSet<u32> = marked.into_iter().map(|process| process.pid).collect();
    let directories = subject.map(Subject::directories).unwrap_or_default();
    for stat in process::all().into_iter().filter(process::Stat::is_alive) {
        let is_grouped = || group(stat.pid, means.home.node).is_some_and(|(of, _)| of == session);
        if stat.pid != std::process::id() && (is_inside(stat.pid, &directories) || is_grouped()) {
            found.insert(stat.pid);
        }
    }
    Ok(found.into_iter().map(|pid| format!("process {pid} ({})", process::name(pid))).collect())
}

/// What may not be looked into is another user's, who cannot be seen inside.
fn is_inside(pid: u32, directories: &[PathBuf]) -> bool {
    let links = ["cwd", "root"].map(|name| PathBuf::from(format!("/proc/{pid}/{name}")));
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let all = links.into_iter().chain(open.map(|entry| entry.path()));
    let mut targets = all.filter_map(|link| fs::read_link(link).ok());
    targets.any(|target| directories.iter().any(|directory| target.starts_with(directory)))
}
