//! `dev` end to end: a real controller, agent, git, shim and program; and the other commands from "another terminal".

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::world::{Ran, World};

/// Longer than anything here takes, even on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A `dev` that serves until the test is over.
struct Dev<'a> {
    world: &'a World,
    child: Child,
    lines: Receiver<String>,
    told: Vec<String>,
}

impl<'a> Dev<'a> {
    fn start(world: &'a World, arguments: &[&str]) -> Self {
        let mut command = world.command(&[&["dev"], arguments].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let mut dev = Self { world, child, lines, told: Vec::new() };
        dev.hear("serving");
        dev
    }

    /// Waits for a line with these words.
    fn hear(&mut self, words: &str) -> String {
        loop {
            match self.lines.recv_timeout(LONG) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => self.told.push(line),
                Err(error) => panic!("never heard '{words}' ({error}); heard:\n{}", self.told.join("\n")),
            }
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Ends it in order; what it said until then.
    fn end(mut self) -> (i32, String) {
        self.signal("-TERM");
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        self.told.extend(self.lines.iter());
        (code, self.told.join("\n"))
    }
}

impl Drop for Dev<'_> {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            for name in self.world.run(&["ps", "-o", "name", "--filter", "state=running"]).stdout.lines() {
                self.world.run(&["stop", name, "--wait-timeout", "20s"]);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn json(ran: &Ran) -> serde_json::Value {
    assert_eq!(ran.code, 0, "{}", ran.all());
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn dev_runs_a_command_on_a_branch_of_this_repository_and_ends_with_its_code() {
    let world = World::new();
    let app = world.repository("app");
    let script = "echo hello > hello.txt && git add -A && git commit -qm hello && echo done";
    let ran = world.ran(world.command(&["dev", "--once", "--", "sh", "-c", script]).current_dir(&app));
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert!(ran.stdout.starts_with("done\n"), "{}", ran.all());
    assert!(ran.stdout.contains("hello.txt | 1 +"), "the change is shown: {}", ran.all());
    assert!(ran.stderr.contains("What to try next"), "{}", ran.all());
    let worktrees = world.git(&app, &["worktree", "list"]);
    let name = worktrees.split("[drover/").nth(1).and_then(|rest| rest.split(']').next()).unwrap();
    assert_eq!(world.git(&app, &["show", &format!("drover/{name}:hello.txt")]), "hello\n");
    insta::assert_snapshot!(world.run(&["context", "ls", "-o", "name"]).stdout, @"dev");
}

#[test]
fn a_commit_works_where_nobody_told_git_an_address() {
    let world = World::new();
    let app = world.repository("app");
    world.git(&app, &["config", "--unset", "user.email"]);
    let script = "git commit -q --allow-empty -m work && git log -1 --format=%ae";
    let ran = world.ran(world.command(&["dev", "--once", "--", "sh", "-c", script]).current_dir(&app));
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert!(ran.stdout.lines().next().unwrap().contains('@'), "{}", ran.all());
}

#[test]
fn dev_passes_on_streams_and_codes_as_they_are() {
    let world = World::new();
    let app = world.repository("app");
    let dev = |script: &str| {
        world.ran(world.command(&["dev", "--once", "--", "sh", "-c", script]).current_dir(&app))
    };
    let failed = dev("echo out; echo err >&2; exit 7");
    assert_eq!((failed.code, failed.stdout.as_str()), (7, "out\n"), "{}", failed.all());
    assert!(failed.stderr.lines().any(|line| line == "err"), "{}", failed.all());
    let killed = dev("kill -9 $$");
    assert_eq!(killed.code, 137, "{}", killed.all());
    let unknown = world.ran(world.command(&["dev", "--once", "--", "no-such-program"]).current_dir(&app));
    assert!([125, 127].contains(&unknown.code), "{}", unknown.all());
}

#[test]
fn dev_wants_a_repository_for_a_command() {
    let ran = World::new().run(&["dev", "--once", "--", "true"]);
    insta::assert_snapshot!(ran.all(), @r#"
    exit 2
    --- stdout
    --- stderr
    error: there is no git repository here
      where: HOME
        why: neither it nor a directory above it is one
       next: change to one, or make one: git init && git commit --allow-empty -m first
    "#);
}

#[test]
fn from_another_terminal_everything_just_works() {
    let world = World::new();
    let app = world.repository("app");
    let _dev = Dev::start(&world, &[]);
    let here = |arguments: &[&str]| world.ran(world.command(arguments).current_dir(&app));

    let ran =
        here(&["run", "--repo", ".", "--name", "first", "--", "sh", "-c", "echo one; echo two >&2; exit 3"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, "one\n"), "{}", ran.all());
    assert!(ran.stderr.contains("two\n"), "{}", ran.all());

    let first = json(&world.run(&["get", "first", "-o", "json"]));
    assert_eq!(first["state"], "SESSION_STATE_READY");
    assert_eq!(first["lastRun"]["outcome"], "RUN_OUTCOME_FAILED");
    assert_eq!(first["lastRun"]["exitCode"], 3);
    assert_eq!(first["workspace"]["branch"], "drover/first");

    let logs = world.run(&["logs", "first"]);
    assert_eq!((logs.code, logs.stdout.as_str()), (0, "one\ntwo\n"), "{}", logs.all());
    assert_eq!(world.run(&["logs", "first", "--tail", "1"]).stdout, "two\n");

    let detached = here(&[
        "run",
        "--repo",
        ".",
        "--name",
        "second",
        "--detach",
        "--",
        "sh",
        "-c",
        "echo up; exec sleep 60",
    ]);
    assert_eq!((detached.code, detached.stdout.as_str()), (0, "second\n"), "{}", detached.all());
    let list = world.run(&["ps"]);
    assert!(list.stdout.lines().next().unwrap().starts_with("NAME"), "{}", list.all());
    assert_eq!(world.run(&["ps", "--filter", "state=running", "-o", "name"]).stdout, "second\n");
    let stopped = world.run(&["stop", "second", "-o", "json"]);
    assert_eq!(json(&stopped)["lastRun"]["outcome"], "RUN_OUTCOME_STOPPED");
    let started = world.run(&["start", "second", "-o", "json"]);
    assert_eq!(json(&started)["runs"], 2);
    assert_eq!(world.run(&["stop", "second"]).code, 0);

    let stubborn = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"];
    let stubborn = here(
        &[&["run", "--repo", ".", "--name", "third", "--stop-grace", "1h", "--detach", "--"], &stubborn[..]]
            .concat(),
    );
    assert_eq!(stubborn.code, 0, "{}", stubborn.all());
    assert_eq!(world.run(&["stop", "third", "--no-wait"]).code, 0);
    let ended = json(&world.run(&["stop", "third", "--grace", "0s", "--wait-timeout", "60s", "-o", "json"]));
    assert_eq!(ended["lastRun"]["outcome"], "RUN_OUTCOME_STOPPED", "the shorter grace counts");
    assert_eq!(ended["lastRun"]["detail"], "user:operator");

    assert_eq!(json(&world.run(&["health", "-o", "json"]))["level"], "HEALTH_LEVEL_HEALTHY");
    assert_eq!(json(&world.run(&["whoami", "-o", "json"]))["role"], "ROLE_ADMIN");
    assert_eq!(json(&world.run(&["node", "ls", "-o", "json"]))["nodes"].as_array().unwrap().len(), 1);
    assert!(world.run(&["events"]).stdout.contains("session_created"));
    assert_eq!(world.run(&["rm", "first", "second", "third"]).code, 0);
    assert_eq!(
        world.git(&app, &["worktree", "list"]).lines().count(),
        1,
        "only the repository itself is left"
    );
    assert_eq!(world.git(&app, &["branch", "--list", "drover/*"]), "");
}

#[test]
fn work_is_shown_by_diff_and_saved_before_it_is_removed() {
    let world = World::new();
    let app = world.repository("app");
    let _dev = Dev::start(&world, &[]);
    let here = |arguments: &[&str]| world.ran(world.command(arguments).current_dir(&app));
    let ran = here(&[
        "run",
        "--repo",
        ".",
        "--name",
        "work",
        "--",
        "sh",
        "-c",
        "echo changed >> README; echo new > new.txt",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let stat = world.run(&["diff", "work", "--stat"]);
    assert!(stat.stdout.contains("README") && stat.stdout.contains("new.txt"), "{}", stat.all());
    assert!(world.run(&["diff", "work"]).stdout.contains("+changed"));

    let refused = world.run(&["rm", "work"]);
    assert_eq!(refused.code, 4, "{}", refused.all());
    assert!(refused.stderr.contains("new.txt") && refused.stderr.contains("--yes"), "{}", refused.all());
    let preview = world.run(&["rm", "work", "--dry-run"]);
    assert_eq!(preview.code, 0, "{}", preview.all());
    assert_eq!(world.run(&["get", "work", "-o", "json"]).code, 0, "a dry run changes nothing");

    let removed = world.run(&["rm", "work", "--yes"]);
    assert_eq!(removed.code, 0, "{}", removed.all());
    assert!(removed.stderr.contains("refs/drover/trash/"), "{}", removed.all());
    assert_ne!(world.git(&app, &["for-each-ref", "refs/drover/trash"]), "");
}

#[test]
fn mistakes_have_clear_words_and_the_right_codes() {
    let world = World::new();
    let app = world.repository("app");
    let _dev = Dev::start(&world, &[]);
    let here = |arguments: &[&str]| {
        let ran = world.ran(world.command(arguments).current_dir(&app));
        let address = ran.stderr.lines().find_map(|line| line.split("https://").nth(1));
        let address = address.and_then(|rest| rest.split(' ').next()).unwrap_or("nothing").to_owned();
        ran.all().replace(&address, "ADDRESS").replace("0s ago", "1s ago")
    };
    insta::assert_snapshot!(here(&["get", "nobody"]), @r#"
    exit 3
    --- stdout
    --- stderr
    error: there is no session 'nobody'
      where: https://ADDRESS (context dev)
       next: droverctl ps --all lists the sessions; of another project: project/name
    "#);
    insta::assert_snapshot!(here(&["run", "--repo", ".", "--name", "-bad", "--", "true"]), @r#"
    exit 2
    --- stdout
    --- stderr
    error: an argument is not as it must be
      where: https://ADDRESS (context dev)
        why: --name begins or ends with '-'; a name begins and ends with a letter or digit
    "#);
    insta::assert_snapshot!(here(&["run", "--repo", ".", "--name", "Not_A_Name", "--", "true"]), @r#"
    exit 2
    --- stdout
    --- stderr
    error: an argument is not as it must be
      where: https://ADDRESS (context dev)
        why: --name has the character 'N'; a name has only a-z, 0-9 and '-'
    "#);
    insta::assert_snapshot!(here(&["run", "--repo", ".", "--base", "no-such-branch", "--name", "b", "--", "true"]), @r#"
    exit 125
    --- stdout
    --- stderr
    droverctl: session b
    error: session 'b': resolve the base in HOME/app/.git: the base 'no-such-branch' does not exist
      where: step 'branch'
        why: BASE_MISSING
       next: name a branch, tag or commit that the repository has
    "#);
    assert!(here(&["run", "--repo", ".", "--name", "taken", "--detach", "--", "true"]).starts_with("exit 0"));
    insta::assert_snapshot!(here(&["run", "--repo", ".", "--name", "taken", "--", "true"]).split("ses_").next().unwrap(), @r#"
    exit 4
    --- stdout
    --- stderr
    error: the session name 'taken' is taken in project 'default' by
    "#);
    insta::assert_snapshot!(here(&["stop", "taken", "--grace", "2h"]), @r#"
    exit 2
    --- stdout
    --- stderr
    error: an argument is not as it must be
      where: https://ADDRESS (context dev)
        why: --grace is longer than an hour
    "#);
    insta::assert_snapshot!(here(&["ps", "--token", "wrong"]), @r#"
    exit 6
    --- stdout
    --- stderr
    error: the controller does not know this token
      where: https://ADDRESS (context dev)
       next: look at the token of the context: droverctl context ls
    "#);
    insta::assert_snapshot!(here(&["logs", "taken", "--run", "9"]), @r#"
    exit 4
    --- stdout
    --- stderr
    error: there is no such run yet
        why: session 'taken' is ready: succeeded 1s ago
    "#);
}

#[test]
fn a_second_dev_on_the_same_directory_is_refused_and_another_directory_is_another_dev() {
    let world = World::new();
    let _dev = Dev::start(&world, &[]);
    insta::assert_snapshot!(world.run(&["dev"]).all(), @r#"
    exit 4
    --- stdout
    --- stderr
    error: another `droverctl dev` has this data directory
      where: HOME/state/drover/dev
       next: it serves already: `droverctl run --repo . -- CMD` runs something there
       next: `--data-dir DIR` starts another one, with everything of its own
    "#);
    let _other = Dev::start(&world, &["--data-dir", "elsewhere"]);
    let contexts = world.run(&["context", "ls", "-o", "name"]).stdout;
    let names: Vec<&str> = contexts.lines().collect();
    assert!(names.len() == 2 && names[0] == "dev" && names[1].starts_with("dev-"), "{names:?}");
    assert_eq!(world.run(&["--context", names[1], "whoami"]).code, 0);
}

#[test]
fn ending_dev_leaves_runs_going_and_starting_it_again_takes_them_up() {
    let world = World::new();
    let app = world.repository("app");
    // Not the usual port, which another test's `dev` takes as soon as it is free.
    let dev = Dev::start(&world, &["--listen", "127.0.0.1:0"]);
    let detached =
        ["run", "--repo", ".", "--name", "long", "--detach", "--", "sh", "-c", "echo begun; exec sleep 120"];
    assert_eq!(world.ran(world.command(&detached).current_dir(&app)).code, 0);
    let before = json(&world.run(&["get", "long", "-o", "json"]));
    let (code, told) = dev.end();
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("1 run goes on: long"), "{told}");
    assert_eq!(world.run(&["ps"]).code, 5, "nobody serves");

    let mut dev = Dev::start(&world, &[]);
    let after = json(&world.run(&["get", "long", "-o", "json"]));
    assert_eq!(after["state"], "SESSION_STATE_RUNNING");
    assert_eq!(after["currentRun"]["handle"], before["currentRun"]["handle"], "the same process");
    assert_eq!(world.run(&["logs", "long"]).stdout, "begun\n");

    dev.child.kill().unwrap();
    dev.child.wait().unwrap();
    drop(dev);
    let _dev = Dev::start(&world, &[]);
    let again = json(&world.run(&["get", "long", "-o", "json"]));
    assert_eq!(again["currentRun"]["handle"], before["currentRun"]["handle"], "the same process");
    let stopped = world.run(&["stop", "long", "-o", "json"]);
    assert_eq!(json(&stopped)["lastRun"]["outcome"], "RUN_OUTCOME_STOPPED");
}

#[test]
fn an_attached_run_that_is_interrupted_leaves_the_run_going() {
    let world = World::new();
    let app = world.repository("app");
    let _dev = Dev::start(&world, &[]);
    let arguments = ["run", "--repo", ".", "--name", "left", "--", "sh", "-c", "echo begun; exec sleep 120"];
    let mut child = world
        .command(&arguments)
        .current_dir(&app)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "begun\n");
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(world.run(&["ps", "--filter", "state=running", "-o", "name"]).stdout, "left\n");
}
