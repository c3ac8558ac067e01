//! Living processes that bear a session's mark. Supervisors have none: they are given no environment, and count as
//! their run. A mark is ours if the workspace in it is one of this agent's, or if the process sits in the control group
//! that this agent made for that session; a mark with neither is another agent's.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drover_domain::id::{NodeId, RunId, SessionId};
use drover_domain::inventory::{Blind, Kind, Process};

use super::ledger_view::Known;
use super::{machine, since};
use crate::cgroup;
use crate::process::{self, Environments, Stat, value};

#[derive(Debug, Default)]
pub(super) struct Census {
    pub marked: Vec<(SessionId, Process)>,
    pub blind: Option<Blind>,
}

/// Whose processes are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whose<'a> {
    pub root: &'a Path,
    pub node: NodeId,
    pub known: &'a Known,
}

impl Census {
    pub(super) fn take(whose: Whose<'_>, now_millis: i64, boot: Duration) -> Self {
        let environments = match Environments::with("DROVER_SESSION=") {
            Ok(environments) => environments,
            Err(error) => {
                let blind = machine::blind(Kind::Processes, Path::new("/proc"), &error);
                return Self { marked: vec![], blind: Some(blind) };
            }
        };
        let marked = environments.found.iter().filter_map(|(stat, environment)| {
            let session = whose.session(stat.pid, environment)?;
            let run = value(environment, "DROVER_RUN").and_then(|run| run.parse::<RunId>().ok());
            Some((session, told(stat, run, now_millis, boot)))
        });
        let mut census = Self { marked: marked.collect(), blind: None };
        let mut unknown = 0;
        for stat in &environments.hidden {
            match group(stat.pid, whose.node) {
                Some((session, run)) => census.marked.push((session, told(stat, run, now_millis, boot))),
                // The first process of a machine is nobody's run.
                None if stat.pid != 1 => unknown += 1,
                None => {}
            }
        }
        // Who is not root runs nothing as others, and who makes control groups finds his own in them: what may not be
        // looked into is somebody else's then.
        if unknown > 0 && rustix::process::geteuid().is_root() && cgroup::home().is_none() {
            let why = format!("{unknown} processes may not be looked into");
            census.blind = Some(Blind { kind: Kind::Processes, place: None, why: why.into() });
        }
        census
    }
}

impl Whose<'_> {
    fn session(&self, pid: u32, environment: &[u8]) -> Option<SessionId> {
        let session: SessionId = value(environment, "DROVER_SESSION")?.parse().ok()?;
        let workspace = value(environment, "DROVER_WORKSPACE").map(PathBuf::from);
        let is_ours = match &workspace {
            Some(workspace) => {
                self.is_place(workspace) || self.known.path(session).as_ref() == Some(workspace)
            }
            None => self.known.knows(session),
        };
        let is_in_group = || group(pid, self.node).is_some_and(|(of, _)| of == session);
        (is_ours || is_in_group()).then_some(session)
    }

    /// Exactly where this agent makes workspaces: an agent that runs inside one has its own further down.
    fn is_place(&self, workspace: &Path) -> bool {
        workspace.strip_prefix(self.root).is_ok_and(|below| below.components().count() == 2)
    }
}

/// The session and the run of the control group of this node's agent that the process is in.
pub(crate) fn group(pid: u32, node: NodeId) -> Option<(SessionId, Option<RunId>)> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    group_of(&groups, &node.short())
}

fn group_of(groups: &str, node: &str) -> Option<(SessionId, Option<RunId>)> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (_, below) = group.split_once(&format!("/drover/{node}/"))?;
    let (session, run) = below.split('/').next()?.split_once('.')?;
    Some((session.parse().ok()?, run.parse().ok()))
}

fn told(stat: &Stat, run: Option<RunId>, now_millis: i64, boot: Duration) -> Process {
    let age = boot.saturating_sub(stat.started());
    Process {
        pid: stat.pid,
        start: stat.start,
        run,
        name: process::name(stat.pid).into(),
        since: since(now_millis, age),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_group_tells_its_session_only_to_the_agent_that_made_it() {
        let (session, run) = (SessionId::from_random([1; 10]), RunId::from_random([2; 10]));
        let text = format!("5:memory:/x\n0::/a/drover/n1/{session}.{run}/tree/drover/n2/x\n");
        assert_eq!(group_of(&text, "n1"), Some((session, Some(run))));
        assert_eq!(group_of(&text, "n2"), None);
        assert_eq!(group_of("0::/\n", "n1"), None);
    }
}
