//! What is not this agent's: other installations' and nodes' things on the same machine, and people's.

use drover_domain::fence::Fence;

use super::*;
use crate::git::worktrees::Mark;

/// A worktree of the machine's repository with this mark, outside of the agent's directories.
pub(super) fn foreign(machine: &Machine, name: &str, mark: Option<Mark>) -> PathBuf {
    let path = machine.dir.path().canonicalize().unwrap().join(name);
    let place = path.to_string_lossy().into_owned();
    let branch = format!("drover/{name}");
    git(&machine.repository(), &["worktree", "add", "-q", "-b", &branch, &place]);
    if let Some(mark) = mark {
        git(&machine.repository(), &["worktree", "lock", "--reason", &mark.reason(), &place]);
        let base = format!("refs/drover/base/{}", mark.session);
        git(&machine.repository(), &["update-ref", &base, "HEAD"]);
        git(&machine.repository(), &["update-ref", &format!("refs/drover/wip/{}/1", mark.session), "HEAD"]);
    }
    path
}

pub(super) fn mark(installation: u8, node: u8, number: u8) -> Mark {
    Mark {
        installation: InstallationId::from_random([installation; 10]).short(),
        node: NodeId::from_random([node; 10]).short(),
        session: session(number),
        fence: Fence { generation: 1, epoch: 1 },
    }
}

#[test]
fn what_bears_another_mark_or_none_is_not_told() {
    let machine = Machine::new();
    let agent = rested(&machine);
    foreign(&machine, "unmarked", None);
    foreign(&machine, "elsewhere", Some(mark(9, 1, 31)));
    foreign(&machine, "neighbour", Some(mark(2, 9, 32)));
    git(&machine.repository(), &["branch", "drover/by-hand"]);
    // A base that another agent may have made, whose session left nothing else.
    git(&machine.repository(), &["update-ref", &format!("refs/drover/base/{}", session(33)), "HEAD"]);
    fs::write(machine.dir.path().join("state/beside"), "").unwrap();
    let _theirs = Marked::new(session(34), &machine.dir.path().join("theirs/worktrees/default/s34"));
    // An agent that runs inside of a workspace has its own further down.
    let _inner = Marked::new(session(35), &machine.worktree(1).join("dev/worktrees/default/s35"));
    // The same session, moved to another agent on this machine.
    let _moved = Marked::new(session(1), &machine.dir.path().join("theirs/worktrees/default/s1"));
    let inventory = agent.look();
    assert_eq!(inventory.sessions.keys().copied().collect::<Vec<_>>(), [session(1)]);
    assert_eq!(inventory.sessions[&session(1)].processes, []);
    assert_eq!((inventory.strays, inventory.locks, inventory.blind), (vec![], vec![], vec![]));
}

#[test]
fn another_agents_worktree_in_this_agents_place_is_a_stray() {
    let machine = Machine::new();
    let agent = rested(&machine);
    let place = machine.worktree(9);
    let text = place.to_string_lossy().into_owned();
    git(&machine.repository(), &["worktree", "add", "-q", "-b", "x", &text]);
    git(&machine.repository(), &["worktree", "lock", "--reason", &mark(9, 1, 31).reason(), &text]);
    let strays = agent.look().strays;
    assert_eq!(strays.iter().map(|stray| stray.path.to_string()).collect::<Vec<_>>(), [text]);
    assert!(strays[0].what.contains("without this agent's mark"), "{strays:?}");
}
