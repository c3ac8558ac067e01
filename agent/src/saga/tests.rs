//! Steps taken one at a time, with what a whole saga is too quick for in between.

use std::fs;

use drover_domain::converge::Target;
use drover_domain::session::Removal;

use super::*;
use crate::converge::tests::{Machine, git};

#[test]
fn a_base_is_resolved_once_and_what_comes_during_a_removal_is_saved() {
    let machine = Machine::new();
    let agent = machine.start();
    let assignment = machine.assignment(1, Target::Ready { stop: None });
    let home = agent.converge.means().home.clone();
    let repository = machine.dir.path().join("repository");
    let first = git(&repository, &["rev-parse", "HEAD"]);
    let mut layout = Layout::of(&home, &assignment);
    let mut leaving = removal::Leaving::default();
    let path = machine.worktree(1);
    agent.runtime.as_ref().unwrap().block_on(async {
        let [open, branch, rest @ ..] = &workspace::steps(&home, &assignment)[..] else {
            panic!("the steps")
        };
        open.make(&mut layout).await.unwrap();
        branch.intend(&mut layout).await.unwrap();
        git(&repository, &["commit", "-q", "--allow-empty", "-m", "the branch moves on"]);
        branch.intend(&mut layout).await.unwrap();
        for step in std::iter::once(branch).chain(rest) {
            step.make(&mut layout).await.unwrap();
        }
        assert_eq!(layout.base.as_deref(), Some(first.trim()));
        assert_eq!(git(&path, &["rev-parse", "HEAD"]), first);

        let site = layout.site(&home, &assignment).unwrap().unwrap();
        let steps = removal::steps(&home, &site, Removal::default(), &crate::workspace::Label::default());
        let names: Vec<_> = steps.iter().map(|step| step.name()).collect();
        assert_eq!(names, ["save", "put away", "let go", "branch"]);
        for step in &steps {
            step.make(&mut leaving).await.unwrap();
            if step.name() == "save" {
                fs::write(path.join("late.txt"), "late").unwrap();
            }
        }
    });
    let kept = leaving.kept();
    assert!(kept.reasons.iter().any(|reason| reason.contains("1 written while it was removed")), "{kept:?}");
    let [saved] = &kept.trash[..] else { panic!("{kept:?}") };
    assert_eq!(git(&repository, &["show", &format!("{saved}:late.txt")]), "late");
}
