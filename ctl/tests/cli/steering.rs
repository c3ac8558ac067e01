//! What steers a session once it is there: more time, beginning anew, and why it is as it is; and what of it `run` decides
//! in advance.

use drover_proto::v1::{
    BranchFate, CreateSessionRequest, CreateSessionResponse, Decision, ExplainSessionResponse,
    ExtendSessionRequest, ExtendSessionResponse, GetSessionResponse, LifeSigns, ListRunsResponse, PathSample,
    Progress, RemovalPreview, ResetSessionRequest, ResetSessionResponse, ResumePolicy, Run, RunOutcome,
    SavedCheckpoint, Session, SessionState, SessionWanted, StartSessionRequest, StartSessionResponse, Usage,
};
use tonic::Code;

use crate::server::{Server, ago, placed, session, watched};

fn working() -> Session {
    let run = Run {
        id: "run_abcdefgh23456777".into(),
        ordinal: 3,
        start_time: ago(630),
        deadline: ago(-5430),
        extensions: 2,
        ..Default::default()
    };
    Session {
        current_run: Some(run),
        runs: 3,
        ..placed("fix", SessionState::Running, SessionWanted::Running)
    }
}

fn resting() -> Session {
    placed("fix", SessionState::Ready, SessionWanted::Ready)
}

#[test]
fn a_run_that_gets_more_time_is_told_with_its_new_deadline_and_what_is_left_of_the_extensions() {
    let server = Server::start();
    server.says("ExtendSession", &ExtendSessionResponse { session: Some(working()) });
    insta::assert_snapshot!(server.shown(&["extend", "fix", "1h30m", "--request-id", "once"]), @"
    exit 0
    --- stdout
    --- stderr
    fix: the deadline is in 1h30m, TIME (node's clock); 2 of 10 extensions used
    ");
    insta::assert_snapshot!(server.shown(&["extend", "web/fix", "30m", "--dry-run"]), @"
    exit 0
    --- stdout
    --- stderr
    fix: the deadline would be in 1h30m, TIME (node's clock); 2 of 10 extensions used
    ");
    let asked: Vec<ExtendSessionRequest> = server.heard("ExtendSession");
    assert_eq!((asked[0].request_id.as_str(), asked[0].session.as_str()), ("once", "fix"));
    assert_eq!(asked[0].duration.unwrap().seconds, 5400);
    assert!(!asked[0].validate_only && asked[1].validate_only);
    let json = server.run(&["extend", "fix", "30m", "-o", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["currentRun"]["extensions"], 2);
    assert_eq!(server.run(&["extend", "fix", "30m", "-o", "name"]).stdout, "fix\n");
}

#[test]
fn what_is_wrong_with_an_extension_is_said() {
    let server = Server::start();
    insta::assert_snapshot!(server.shown(&["extend", "fix", "30"]), @"
    exit 2
    --- stdout
    --- stderr
    error: invalid value '30' for '<D>': '30' is not a length of time such as 10s, 1h30m, 250ms or 2d

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(server.shown(&["extend", "fix"]), @"
    exit 2
    --- stdout
    --- stderr
    error: the following required arguments were not provided:
      <D>

    Usage: droverctl extend <SESSION> <D>

    For more information, try '--help'.
    ");
    assert!(server.heard::<ExtendSessionRequest>("ExtendSession").is_empty(), "nobody was asked");
    let words = "session 'fix' cannot be given more time: its run may have 10 extensions";
    server.refuses("ExtendSession", (Code::ResourceExhausted, "LIMIT_REACHED"), words, "make room");
    insta::assert_snapshot!(server.shown(&["extend", "fix", "30m"]), @"
    exit 4
    --- stdout
    --- stderr
    error: session 'fix' cannot be given more time: its run may have 10 extensions
      where: https://ADDRESS
       next: make room
    ");
    let server = Server::start();
    let words = "session 'fix' is ready and cannot be extended: only a run that goes on has a deadline";
    let hint = "droverctl get shows what it is doing";
    server.refuses("ExtendSession", (Code::FailedPrecondition, "SESSION_STATE"), words, hint);
    insta::assert_snapshot!(server.shown(&["extend", "fix", "30m"]), @"
    exit 4
    --- stdout
    --- stderr
    error: session 'fix' is ready and cannot be extended: only a run that goes on has a deadline
      where: https://ADDRESS
       next: droverctl get shows what it is doing
    ");
}

#[test]
fn a_reset_waits_until_the_session_is_ready() {
    let server = Server::start();
    let stopping = Session { wanted: SessionWanted::Ready.into(), ..working() };
    let run = Run {
        ordinal: 3,
        end_time: ago(630),
        outcome: RunOutcome::Stopped.into(),
        detail: "user:operator".into(),
        ..Default::default()
    };
    let stopped = Session { last_run: Some(run), ..resting() };
    server.says("ResetSession", &ResetSessionResponse { session: Some(stopping.clone()), preview: None });
    server.streams("WatchSessions", &[watched(stopping), watched(stopped)]);
    insta::assert_snapshot!(server.shown(&["reset", "fix"]), @"
    exit 0
    --- stdout
    --- stderr
    fix is ready: stopped(user:operator) 10m ago
    ");
    insta::assert_snapshot!(server.shown(&["reset", "fix", "--no-wait"]), @"
    exit 0
    --- stdout
    --- stderr
    fix: it will be ready
    ");
    insta::assert_snapshot!(server.shown(&["reset", "fix", "--dry-run"]), @"
    exit 0
    --- stdout
    --- stderr
    fix would be stopped; its workspace would stay
    ");
    let asked: Vec<ResetSessionRequest> = server.heard("ResetSession");
    let asked: Vec<_> = asked.iter().map(|asked| (asked.hard, asked.validate_only)).collect();
    assert_eq!(asked, [(false, false), (false, false), (false, true)], "what only stops is not asked about");
}

fn found() -> RemovalPreview {
    RemovalPreview {
        has_workspace: true,
        untracked: Some(PathSample { paths: vec!["new\u{1b}[2J.txt".into()], count: 1, bytes: 2048 }),
        unmerged_commits: 2,
        branch: "drover/fix".into(),
        branch_fate: BranchFate::SavedAndDeleted.into(),
        saves_work: true,
        ..Default::default()
    }
}

#[test]
fn a_hard_reset_without_a_terminal_wants_a_yes_before_work_is_removed() {
    let server = Server::start();
    server.says("ResetSession", &ResetSessionResponse { session: Some(resting()), preview: Some(found()) });
    insta::assert_snapshot!(server.shown(&["reset", "fix", "--hard"]), @r"
    exit 4
    --- stdout
    --- stderr
    fix has:
      untracked, saved: 1 file, 2.0 KiB (new\x1b[2J.txt)
      2 commits on no other branch
      branch drover/fix: its commits would be saved, then it is deleted
    error: session 'fix' has work that would have to be saved first
        why: there is no terminal to ask on
       next: --yes saves the work and makes the workspace anew
       next: droverctl diff fix shows the work
    ");
    insta::assert_snapshot!(server.shown(&["reset", "fix", "--hard", "--dry-run"]), @r"
    exit 0
    --- stdout
    --- stderr
    fix would be made anew:
      untracked, saved: 1 file, 2.0 KiB (new\x1b[2J.txt)
      2 commits on no other branch
      branch drover/fix: its commits would be saved, then it is deleted
      its workspace begins anew at c0ffee12 (main)
    ");
    let json = server.run(&["reset", "fix", "--hard", "--dry-run", "-o", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["preview"]["branchFate"], "BRANCH_FATE_SAVED_AND_DELETED");
    let asked: Vec<ResetSessionRequest> = server.heard("ResetSession");
    assert!(asked.iter().all(|asked| asked.hard && asked.validate_only), "nothing was changed");
}

#[test]
fn a_hard_reset_ends_when_the_new_workspace_is_there_and_says_where_the_old_ones_work_is() {
    let server = Server::start();
    let queued = placed("fix", SessionState::Queued, SessionWanted::Ready);
    let progress = Progress { step: 2, steps: 7, name: "checkout".into() };
    let making =
        Session { progress: Some(progress), ..placed("fix", SessionState::Creating, SessionWanted::Ready) };
    let anew = Session { rebuilds: 1, ..resting() };
    server.says("ResetSession", &ResetSessionResponse { session: Some(queued), preview: None });
    server.streams("WatchSessions", &[watched(making), watched(anew)]);
    insta::assert_snapshot!(server.shown(&["reset", "fix", "--hard", "--yes"]), @"
    exit 0
    --- stdout
    --- stderr
    fix is ready: its workspace begins anew at c0ffee12 (main)
    `droverctl trash ls --session fix` shows what was saved
    ");
    let asked: Vec<ResetSessionRequest> = server.heard("ResetSession");
    assert!(asked.len() == 1 && asked[0].hard && !asked[0].validate_only, "with a yes nobody looks first");
    let json = server.run(&["reset", "fix", "--hard", "--yes", "-o", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["state"], "SESSION_STATE_READY", "a place in the queue is not the end");
    insta::assert_snapshot!(server.shown(&["reset", "fix", "--hard", "--yes", "--no-wait"]), @"
    exit 0
    --- stdout
    --- stderr
    fix: its workspace will be made anew
    ");
}

#[test]
fn a_hard_reset_of_a_workspace_without_work_is_not_asked_about() {
    let server = Server::start();
    let clean = RemovalPreview { has_workspace: true, branch: "drover/fix".into(), ..Default::default() };
    server.says("ResetSession", &ResetSessionResponse { session: Some(resting()), preview: Some(clean) });
    assert_eq!(server.run(&["reset", "fix", "--hard"]).code, 0);
    let asked: Vec<ResetSessionRequest> = server.heard("ResetSession");
    assert_eq!(asked.iter().map(|asked| asked.validate_only).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_reset_that_the_controller_refuses_is_exit_4_in_its_words() {
    let server = Server::start();
    let words = "session 'fix' is cleaning and cannot be reset: it is being removed";
    let hint = "droverctl get shows what it is doing";
    server.refuses("ResetSession", (Code::FailedPrecondition, "SESSION_STATE"), words, hint);
    insta::assert_snapshot!(server.shown(&["reset", "fix", "--hard", "--yes"]), @"
    exit 4
    --- stdout
    --- stderr
    error: session 'fix' is cleaning and cannot be reset: it is being removed
      where: https://ADDRESS
       next: droverctl get shows what it is doing
    ");
}

#[test]
fn why_tells_the_last_decisions_and_what_comes_next() {
    let server = Server::start();
    let decision = |seconds, what: &str, actor: &str, evidence: &[&str]| Decision {
        time: ago(seconds),
        what: what.into(),
        evidence: evidence.iter().map(ToString::to_string).collect(),
        actor: actor.into(),
    };
    let held = "held: restart 1 of 3 after failed(3)\u{1b}[31m";
    server.says(
        "ExplainSession",
        &ExplainSessionResponse {
            session: Some(Session {
                wait_reason: "held".into(),
                ..session("fix", SessionState::Queued, SessionWanted::Running)
            }),
            decisions: vec![
                decision(630, "run_ended", "node:node-a", &["run 1 failed(3)", "then queued", held]),
                decision(3630, "run_started", "node:node-a", &["run 1 on node-a", "then running"]),
                decision(7230, "session_created", "user:operator", &["then queued"]),
            ],
            next: "it runs again as soon as this is no longer so: held".into(),
        },
    );
    insta::assert_snapshot!(server.shown(&["why", "fix"]), @r"
    exit 0
    --- stdout
    fix is queued for 10m: held (wanted: running)

    AGE  WHAT             BY             EVIDENCE
    2h   session_created  user:operator  then queued
    1h   run_started      node:node-a    run 1 on node-a; then running
    10m  run_ended        node:node-a    run 1 failed(3); then queued; held: restart 1 of 3 after failed(3)\x1b[31m

    next: it runs again as soon as this is no longer so: held
    --- stderr
    ");
    insta::assert_snapshot!(server.shown(&["why", "fix", "-o", "wide"]), @r"
    exit 0
    --- stdout
    fix is queued for 10m: held (wanted: running)

    TIME                  AGE  WHAT             BY             EVIDENCE
    TIME  2h   session_created  user:operator  then queued
    TIME  1h   run_started      node:node-a    run 1 on node-a; then running
    TIME  10m  run_ended        node:node-a    run 1 failed(3); then queued; held: restart 1 of 3 after failed(3)\x1b[31m

    next: it runs again as soon as this is no longer so: held
    --- stderr
    ");
    let json = server.run(&["why", "fix", "-o", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["decisions"][0]["what"], "run_ended", "as the API has it: the newest first");
    assert_eq!(json["session"]["state"], "SESSION_STATE_QUEUED");
    assert!(server.run(&["why", "fix", "-o", "yaml"]).stdout.contains("actor: node:node-a"));
    assert_eq!(server.run(&["why", "fix", "-o", "name"]).stdout, "fix\n");
}

#[test]
fn starting_with_resume_asks_for_it() {
    let server = Server::start();
    server.says("StartSession", &StartSessionResponse { session: Some(working()) });
    insta::assert_snapshot!(server.shown(&["start", "fix", "--resume"]), @"
    exit 0
    --- stdout
    --- stderr
    fix is running: for 10m
    ");
    assert!(server.heard::<StartSessionRequest>("StartSession")[0].resume);
}

#[test]
fn run_takes_signs_of_life_caps_and_a_resume_command() {
    let server = Server::start();
    server.says("CreateSession", &CreateSessionResponse { session: Some(working()) });
    let run = ["run", "--repo", "https://example.org/app.git", "--dry-run"];
    let options = [
        "--timeout",
        "1h",
        "--extend-signs",
        "touch,output",
        "--max-extensions",
        "4",
        "--max-extension",
        "3h",
        "--idle-timeout",
        "5m",
        "--idle-signs",
        "output,cpu",
        "--resume",
        "auto",
        "--resume-command",
        "my-agent --continue 'fix it'",
        "--",
        "my-agent",
        "fix it",
    ];
    let ran = server.run(&[&run[..], &options].concat());
    assert_eq!(ran.code, 0, "{}", ran.all());
    let none = ["--extend-signs", "", "--resume", "never", "--", "true"];
    assert_eq!(server.run(&[&run[..], &none].concat()).code, 0);
    let asked: Vec<CreateSessionRequest> = server.heard("CreateSession");
    let spec = asked[0].spec.clone().unwrap();
    assert_eq!(spec.extend_signs, Some(LifeSigns { touch: true, output: true, cpu: false }));
    assert_eq!(spec.idle_signs, Some(LifeSigns { touch: false, output: true, cpu: true }));
    assert_eq!((spec.max_extensions, spec.max_extension.unwrap().seconds), (Some(4), 10_800));
    assert_eq!(spec.resume(), ResumePolicy::Auto);
    assert_eq!(spec.resume_command, ["my-agent", "--continue", "fix it"]);
    let spec = asked[1].spec.clone().unwrap();
    assert_eq!((spec.extend_signs, spec.idle_signs), (Some(LifeSigns::default()), None));
    assert_eq!(spec.resume(), ResumePolicy::Never);
}

#[test]
fn what_is_wrong_with_signs_and_commands_is_said() {
    let server = Server::start();
    let run = |options: &[&str]| {
        let rest = ["--", "true"];
        server.shown(&[&["run", "--repo", "https://example.org/app.git"], options, &rest].concat())
    };
    insta::assert_snapshot!(run(&["--idle-signs", "touch,heart"]), @"
    exit 2
    --- stdout
    --- stderr
    error: invalid value 'touch,heart' for '--idle-signs <SIGNS>': 'heart' is not one of: touch, output, cpu

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(run(&["--resume-command", "my-agent 'fix"]), @"
    exit 2
    --- stdout
    --- stderr
    error: invalid value 'my-agent 'fix' for '--resume-command <'CMD…'>': a quote in it does not end

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(run(&["--resume", "always"]), @"
    exit 2
    --- stdout
    --- stderr
    error: invalid value 'always' for '--resume <CHOICE>'
      [possible values: auto, never]

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(run(&["--max-extension", "3"]), @"
    exit 2
    --- stdout
    --- stderr
    error: invalid value '3' for '--max-extension <D>': '3' is not a length of time such as 10s, 1h30m, 250ms or 2d

    For more information, try '--help'.
    ");
}

#[test]
fn get_shows_the_deadline_the_last_runs_and_what_is_saved() {
    let server = Server::start();
    let over = |ordinal, outcome: RunOutcome, code| Run {
        id: format!("run_{ordinal}"),
        ordinal,
        start_time: ago(2430 + 600 / i64::from(ordinal)),
        end_time: ago(2430),
        outcome: outcome.into(),
        exit_code: code,
        usage: Some(Usage { peak_memory_bytes: Some(3 << 20), ..Default::default() }),
        ..Default::default()
    };
    let session = Session {
        checkpoint: Some(SavedCheckpoint {
            reference: "refs/drover/wip/ses_a/2\u{1b}]0;x\u{7}".into(),
            commit: "deadbeef".into(),
            create_time: ago(630),
        }),
        restored_from: "ses_zzzzzzzz23456777".into(),
        interruptions: 1,
        resumes: true,
        rebuilds: 2,
        ..working()
    };
    server.says("GetSession", &GetSessionResponse { session: Some(session) });
    let interrupted = Run { detail: "reboot".into(), ..over(2, RunOutcome::Interrupted, None) };
    let running = working().current_run.unwrap();
    let runs = vec![running, interrupted, over(1, RunOutcome::Failed, Some(3))];
    server.says("ListRuns", &ListRunsResponse { runs, ..Default::default() });
    insta::assert_snapshot!(server.shown(&["get", "fix"]), @r"
    exit 0
    --- stdout
    name           fix
    id             ses_abcdefgh23456777
    state          running for 10m
    node           node-a
    owner          operator
    created        1h ago, TIME (controller's clock)
    repository     https://example.org/app.git
    base           main c0ffee12
    branch         drover/fix
    workspace      /w/fix
    command        my-agent 'fix it'
    run            #3, runs for 10m, run_abcdefgh23456777
    deadline       in 1h30m, TIME (node's clock); 2 of 10 extensions used
    interrupted    once
    resumes        what an earlier run began
    checkpoint     10m ago, refs/drover/wip/ses_a/2\x1b]0;x\x07, commit deadbeef
    restored from  ses_zzzzzzzz23456777
    made anew      2 times

    RUN  OUTCOME              ENDED    TOOK  PEAK     CPU
    #2   interrupted(reboot)  40m ago  5m    3.0 MiB  -
    #1   failed(3)            40m ago  10m   3.0 MiB  -
    --- stderr
    ");
}
