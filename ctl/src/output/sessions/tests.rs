//! What sessions look like: in a list, on a page of their own, and before one is removed.

use drover_proto::v1::{Fault, Kept, Placement, Progress, Run, RunOutcome, SessionSpec, Usage, Workspace};
use prost_types::Timestamp;

use super::*;

const NOW: Look = Look { wide: false, colour: false, now: 1_795_514_400_000 };

fn at(seconds_ago: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds: 1_795_514_400 - seconds_ago, nanos: 0 })
}

fn session(name: &str, state: SessionState) -> Session {
    Session {
        id: "ses_abcdefgh23456777".into(),
        name: name.into(),
        project: "default".into(),
        owner: "operator".into(),
        state: state.into(),
        create_time: at(300),
        state_time: at(100),
        spec: Some(SessionSpec {
            repository: "/home/me/app".into(),
            command: vec!["sh".into(), "-c".into(), "echo it's".into()],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn all() -> Vec<Session> {
    let placed = |session| Session {
        placement: Some(Placement { node: "build-1".into(), ..Default::default() }),
        ..session
    };
    let run = Run {
        ordinal: 2,
        start_time: at(200),
        end_time: at(80),
        outcome: RunOutcome::Failed.into(),
        exit_code: Some(3),
        ..Default::default()
    };
    vec![
        Session { wait_reason: "no node is free".into(), ..session("waits", SessionState::Queued) },
        placed(Session {
            current_run: Some(Run { start_time: at(90), ..Default::default() }),
            ..session("runs", SessionState::Running)
        }),
        placed(Session {
            last_run: Some(run),
            project: "web".into(),
            workspace: Some(Workspace {
                path: "/w/done".into(),
                branch: "drover/web.done".into(),
                base_commit: "c0ffee".into(),
            }),
            ..session("done", SessionState::Ready)
        }),
        Session {
            fault: Some(Fault {
                code: "DISK_FULL".into(),
                text: "no space".into(),
                hint: "make room".into(),
                step: "checkout".into(),
                retryable: true,
            }),
            ..session("broken", SessionState::Error)
        },
        Session {
            kept: Some(Kept {
                branch: "drover/gone".into(),
                trash: vec!["refs/x".into()],
                reasons: vec!["unmerged".into()],
            }),
            ..session("gone", SessionState::Cleaned)
        },
    ]
}

#[test]
fn a_list_says_for_every_state_what_matters() {
    let list = ListSessionsResponse { sessions: all(), ..Default::default() };
    insta::assert_snapshot!(list.show(&NOW), @r"
    NAME      STATE    NODE     AGE  DETAIL
    waits     queued   -        5m   no node is free
    runs      running  build-1  5m   for 1m30s
    web/done  ready    build-1  5m   failed(3) 1m20s ago
    broken    error    -        5m   DISK_FULL: no space (at: checkout)
    gone      cleaned  -        5m   branch drover/gone, saved work refs/x, unmerged
    ");
    assert_eq!(list.names(), ["waits", "runs", "web/done", "broken", "gone"]);
}

#[test]
fn one_session_is_shown_with_all_that_is_known() {
    insta::assert_snapshot!(all()[2].show(&NOW), @r"
    name        web/done
    id          ses_abcdefgh23456777
    state       ready for 1m40s
    node        build-1
    owner       operator
    created     5m ago, 2026-11-24T09:55:00Z (controller's clock)
    repository  /home/me/app
    base        c0ffee
    branch      drover/web.done
    workspace   /w/done
    command     sh -c 'echo it'\''s'
    last run    #2, failed(3) after 2m, ended 2026-11-24T09:58:40Z (node's clock),
    ");
}

#[test]
fn a_session_at_work_shows_its_deadline_and_what_was_saved_of_it() {
    let mut session = Session { ..all()[1].clone() };
    let spec = session.spec.as_mut().unwrap();
    spec.timeout = Some(prost_types::Duration { seconds: 1800, nanos: 0 });
    spec.max_extension = Some(prost_types::Duration { seconds: 7200, nanos: 0 });
    spec.extend_signs = Some(LifeSigns { touch: true, output: true, cpu: false });
    spec.idle_signs = Some(LifeSigns::default());
    spec.resume_command = vec!["my-agent".into(), "--continue".into()];
    let run = session.current_run.as_mut().unwrap();
    (run.ordinal, run.deadline, run.extensions) = (3, at(-1500), 2);
    run.usage = Some(Usage { peak_processes: Some(4), ..Default::default() });
    let session = Session {
        checkpoint: Some(SavedCheckpoint {
            reference: "refs/drover/wip/ses_a/2\u{1b}[2J".into(),
            commit: "c0ffee".into(),
            create_time: at(60),
        }),
        restored_from: "ses_zzzzzzzz".into(),
        resumes: true,
        interruptions: 2,
        rebuilds: 1,
        ..session
    };
    insta::assert_snapshot!(session.show(&Look { wide: true, ..NOW }), @r"
    name            runs
    id              ses_abcdefgh23456777
    state           running for 1m40s
    node            build-1
    owner           operator
    created         5m ago, 2026-11-24T09:55:00Z (controller's clock)
    repository      /home/me/app
    command         sh -c 'echo it'\''s'
    run             #3, runs for 1m30s, 
    deadline        in 25m, 2026-11-24T10:25:00Z (node's clock); 2 of 10 extensions used, 2h in all at most
    interrupted     2 times in a row
    resumes         what an earlier run began
    checkpoint      1m ago, refs/drover/wip/ses_a/2\x1b[2J, commit c0ffee
    restored from   ses_zzzzzzzz
    made anew       once
    timeout         30m
    extended by     touch, output
    most extension  2h
    signs of life   nothing
    resumed with    my-agent --continue
    revision        0
    ");
    let creating = Session {
        progress: Some(Progress { step: 2, steps: 7, name: "checkout".into() }),
        ..self::session("new", SessionState::Creating)
    };
    assert!(creating.show(&NOW).contains("creating for 1m40s: step 2 of 7: checkout"));
}

#[test]
fn a_preview_names_what_would_be_saved_and_what_becomes_of_the_branch() {
    let sample = |paths: &[&str], count| {
        Some(PathSample { paths: paths.iter().map(ToString::to_string).collect(), count, bytes: 2048 })
    };
    let found = RemovalPreview {
        has_workspace: true,
        changed: sample(&["a.txt"], 1),
        untracked: sample(&["b", "c"], 7),
        unmerged_commits: 1,
        branch: "drover/x".into(),
        branch_fate: BranchFate::KeptUnmerged.into(),
        saves_work: true,
        stops_run: true,
        ..Default::default()
    };
    insta::assert_snapshot!(preview(&found).join("\n"), @r"
    its run would be stopped
    changed, saved: 1 file, 2.0 KiB (a.txt)
    untracked, saved: 7 files, 2.0 KiB (b, c, …)
    1 commit on no other branch
    branch drover/x: has commits of its own, would be kept
    ");
}
