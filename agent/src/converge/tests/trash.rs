//! Saved work that is put beside or deleted while the agent dies: it is finished or taken back by the next start.

use super::*;
use crate::workspace::TrashItem;

impl Agent {
    /// One whose session 1 was removed with work in its workspace and a commit of its own.
    fn with_saved_work(machine: &Machine) -> Self {
        let agent = Self::with_workspace(machine);
        let worktree = machine.worktree(1);
        fs::write(worktree.join("a.txt"), "changed").unwrap();
        git(&worktree, &["commit", "-qam", "two"]);
        for number in 0..50 {
            fs::write(worktree.join(format!("new-{number}")), vec![b'x'; 100_000]).unwrap();
        }
        let removal = Removal { force_branch: true, ..Removal::default() };
        agent.assign(&machine.assignment(1, Target::Cleaned { removal, stop: None }));
        agent.hears("removed", |seen| matches!(seen, Observation::Removed(_)));
        agent
    }

    fn waits_for<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(work)
    }

    fn saved(&self) -> Vec<TrashItem> {
        let Means { home, ledger, .. } = self.converge.means();
        self.waits_for(async { home.saved(&ledger.repositories().await.unwrap()).await })
    }

    fn has_finished(&self) -> bool {
        let book = self.waits_for(self.converge.means().ledger.load()).unwrap();
        book.sagas.keys().all(|key| !key.saga.starts_with("trash."))
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_agent_that_dies_while_it_puts_saved_work_beside_finishes_it_or_takes_it_back() {
    let machine = Machine::new();
    let mut agent = Agent::with_saved_work(&machine);
    let room = machine.dir.path().canonicalize().unwrap().join("room");
    fs::create_dir(&room).unwrap();
    let branches =
        || git(&machine.repository(), &["branch", "--list", "back-*", "--format=%(refname:short)"]);
    let (mut begun, mut finished) = (0, 0);
    for number in 0..100_u64 {
        if number > 15 && begun > 0 && finished > 0 {
            return;
        }
        let [item] = &agent.saved()[..] else { panic!("one item") };
        let (directory, branch) = (room.join("back"), format!("back-{number}"));
        let put = agent.converge.put_beside(item.clone(), directory.clone(), branch.clone());
        let moment = Duration::from_millis(number * number / 2);
        let _ = agent.waits_for(async { tokio::time::timeout(moment, put).await });
        agent.dies();
        let there = names(&room);
        begun += usize::from(there.iter().any(|name| name != "back"));
        agent = machine.start();
        eventually("it is finished or taken back", || agent.has_finished());
        match &names(&room)[..] {
            [] => assert_eq!(branches(), ""),
            [name] if name == "back" => {
                finished += 1;
                assert_eq!(names(&directory).len(), 51);
                assert_eq!(fs::read(directory.join("a.txt")).unwrap(), b"changed");
                let tip = git(&machine.repository(), &["rev-parse", &branch]);
                assert_eq!(Some(tip.trim()), item.record.tip.as_deref());
                git(&machine.repository(), &["branch", "-D", &branch]);
                fs::remove_dir_all(&directory).unwrap();
            }
            other => panic!("this is left: {other:?}"),
        }
    }
    panic!("it never died in the middle of it: {begun}, {finished}");
}

#[test]
fn a_refused_restore_leaves_no_record_and_one_after_it_is_made() {
    let machine = Machine::new();
    let agent = Agent::with_saved_work(&machine);
    let [item] = &agent.saved()[..] else { panic!("one item") };
    let directory = machine.dir.path().canonicalize().unwrap().join("back");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("mine"), "mine").unwrap();
    let put = || agent.converge.put_beside(item.clone(), directory.clone(), "back".into());
    let refused = agent.waits_for(put()).unwrap_err();
    assert!(matches!(&refused, crate::step::Stopped::Failed(fault) if fault.code == FaultCode::PathTaken));
    assert!(agent.has_finished());
    fs::remove_file(directory.join("mine")).unwrap();
    for _ in 0..2 {
        agent.waits_for(put()).unwrap();
        assert_eq!(names(&directory).len(), 51, "the second time it is there already");
    }
    agent.waits_for(agent.converge.purge(item.clone())).unwrap();
    assert_eq!(agent.saved(), []);
    assert!(agent.has_finished());
}
