//! What needs no controller: help, usage, contexts, and the words for a controller that is not there.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::world::{World, certificate, text};

fn check(arguments: &[&str]) -> String {
    World::new().run(arguments).all()
}

#[cfg(feature = "dev")]
#[test]
fn the_help_is_grouped_and_has_examples() {
    let ran = World::new().run(&["--help"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    insta::assert_snapshot!(ran.stdout, @"
    Many coding agents at work in many worktrees, on many machines

    Usage: droverctl [OPTIONS] <COMMAND>

    Try it, in a git repository:
      dev         Controller and agent in one process, on this machine

    Sessions:
      run         Create a session and run a command in it
      ps          List sessions
      get         Show one session
      why         Why a session is as it is, and what comes next
      watch       Follow sessions as they change
      logs        Show what a run wrote
      diff        Show what changed in a session's workspace
      start       Run a session's command again
      stop        Stop a session's run; its workspace stays
      extend      Give a run more time
      hold        Keep a session from being started
      release     End a hold
      reset       Stop a session and begin anew, in the same workspace or in a new one
      rm          Save a session's work and remove it

    Saved work:
      checkpoint  Save a workspace while it is in use
      trash       What removed and reset sessions left: list, restore, purge

    Machines:
      node        See nodes, let them join, take them out of service

    The whole:
      health      How healthy everything is
      repair      Put right what is recorded wrongly
      cleanup     Find and remove what no session owns
      plan        Show a plan of repair or cleanup, or carry it out
      safe-mode   Refuse new work, or take it again
      events      What happened
      whoami      Who the controller takes you for

    This program:
      context     The controllers that this program knows
      completion  Completions for your shell
      help        Help on a command

    Options:
          --context <NAME>    The context to use instead of the current one
      -p, --project <NAME>    The project that plain names belong to
      -o, --output <FORMAT>   How to print: table, wide, json, yaml or name
          --no-color          No colours, as with NO_COLOR
          --config <FILE>     The file of contexts instead of $XDG_CONFIG_HOME/drover/config.toml
          --server <ADDRESS>  The controller's address instead of the context's: HOST:PORT
          --token <TOKEN>     The token instead of the context's (others can see arguments: better set
                              DROVER_TOKEN)
          --ca <FILE>         The certificate authority to trust instead of the context's, PEM
      -h, --help              Print help
      -V, --version           Print version

    Examples:
      droverctl dev -- make test                          run a command in a worktree of this repository
      droverctl run --repo . -- make test                 the same, once `dev` or a controller is there
      droverctl run --repo . --name fix --detach -- make  do not wait for the end
      droverctl logs fix -f                               follow what it writes
      droverctl diff fix --stat                           what it changed
      droverctl why fix                                   why it is as it is, and what comes next
      droverctl rm fix                                    save what is not committed, and remove it
      droverctl trash restore fix                         bring it back

    A session is named by its name, by project/name, or by the beginning of its id.
    Options can be given by the environment too: DROVER_CONTEXT, DROVER_PROJECT, DROVER_TOKEN …

    Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict or precondition, 5 unavailable, 6 not
    allowed, 7 timed out waiting, 130 interrupted.

    Not built yet: attach, backup, batch, debug, exec, hook, preflight, project, pull, push, send,
    token, top, node preflight.
    ");
}

#[test]
fn every_commands_help_can_be_printed() {
    for command in [
        "run",
        "ps",
        "get",
        "why",
        "watch",
        "logs",
        "diff",
        "start",
        "stop",
        "extend",
        "hold",
        "release",
        "reset",
        "rm",
        "checkpoint",
        "trash",
        "node",
        "health",
        "events",
        "whoami",
        "context",
        "completion",
    ] {
        let ran = World::new().run(&[command, "--help"]);
        assert_eq!(ran.code, 0, "{command}: {}", ran.stderr);
        assert!(ran.stdout.contains("Usage:"), "{command}");
    }
}

#[test]
fn the_help_of_run_says_what_is_not_built_yet() {
    let help = World::new().run(&["run", "--help"]).stdout;
    assert!(help.contains("tmux and container are not built yet"), "{help}");
    assert!(help.contains("Ctrl-C asks"), "{help}");
}

#[test]
fn the_version_is_on_standard_output() {
    let ran = World::new().run(&["--version"]);
    assert_eq!((ran.code, ran.stdout), (0, format!("droverctl {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn wrong_usage_is_exit_2_with_advice() {
    insta::assert_snapshot!(check(&["pz"]), @"
    exit 2
    --- stdout
    --- stderr
    error: unrecognized subcommand 'pz'

    Usage: droverctl [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(check(&["run", "--repo", "."]), @"
    exit 2
    --- stdout
    --- stderr
    error: the following required arguments were not provided:
      <CMD>...

    Usage: droverctl run --repo <URL|PATH> -- <CMD>...

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(check(&["run", "--repo", ".", "--timeout", "5", "--", "true"]), @"
    exit 2
    --- stdout
    --- stderr
    error: invalid value '5' for '--timeout <D>': '5' is not a length of time such as 10s, 1h30m, 250ms or 2d

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(check(&["run", "--repo", ".", "--runtime", "vm", "--", "true"]), @"
    exit 2
    --- stdout
    --- stderr
    error: invalid value 'vm' for '--runtime <KIND>'
      [possible values: process, tmux, container]

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(check(&["run", "--repo", ".", "--env", "x", "--", "true"]), @"
    exit 2
    --- stdout
    --- stderr
    error: invalid value 'x' for '--env <K=V>': 'x' is not KEY=VALUE

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(check(&["rm", "a", "--force", "--keep-branch"]), @"
    exit 2
    --- stdout
    --- stderr
    error: the argument '--force' cannot be used with '--keep-branch'

    Usage: droverctl rm --force <SESSION>...

    For more information, try '--help'.
    ");
}

#[test]
fn a_command_that_is_to_come_says_so() {
    insta::assert_snapshot!(check(&["attach", "fix", "--read-only"]), @"
    exit 1
    --- stdout
    --- stderr
    error: `droverctl attach` is not built yet
       next: droverctl --help lists what is
    ");
    insta::assert_snapshot!(check(&["backup", "create"]), @"
    exit 1
    --- stdout
    --- stderr
    error: `droverctl backup` is not built yet
       next: droverctl --help lists what is
    ");
    insta::assert_snapshot!(check(&["node", "preflight", "build-1"]), @"
    exit 1
    --- stdout
    --- stderr
    error: `droverctl node preflight` is not built yet
       next: droverctl node --help lists what is
    ");
}

#[test]
fn without_any_controller_the_first_steps_are_told() {
    insta::assert_snapshot!(check(&["ps"]), @"
    exit 2
    --- stdout
    --- stderr
    error: no controller is known yet
       next: `droverctl dev` starts one on this machine
       next: `droverctl context add` makes another one known
    ");
}

#[test]
fn a_controller_that_does_not_listen_is_exit_5() {
    let world = World::new();
    let ca = certificate(&world);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ran = world.run(&["ps", "--server", &free.to_string(), "--ca", text(&ca), "--token", "t"]);
    let shown = ran.all().replace(&free.to_string(), "ADDRESS");
    insta::assert_snapshot!(shown, @"
    exit 5
    --- stdout
    --- stderr
    error: cannot reach the controller
      where: https://ADDRESS
        why: nobody listens at that address
       next: is the controller running, and is the address right? droverctl context ls
    ");
}

#[test]
fn wrong_addresses_and_files_are_named() {
    let world = World::new();
    let ca = certificate(&world);
    let server =
        |server: &str| world.run(&["ps", "--server", server, "--ca", text(&ca), "--token", "t"]).all();
    insta::assert_snapshot!(server("http://h:1"), @"
    exit 2
    --- stdout
    --- stderr
    error: 'http://h:1' is not a controller's address
        why: the only scheme is https
       next: write it like drover.example.org:7443
    ");
    insta::assert_snapshot!(server("host"), @"
    exit 2
    --- stdout
    --- stderr
    error: 'host' is not a controller's address
        why: it has no port
       next: write it like drover.example.org:7443
    ");
    insta::assert_snapshot!(world.run(&["ps", "--server", "h:1", "--token", "t"]).all(), @"
    exit 2
    --- stdout
    --- stderr
    error: --server is given, but no authority to trust
       next: add --ca FILE, the controller's CA certificate
    ");
    insta::assert_snapshot!(world.run(&["ps", "--server", "h:1", "--ca", "none.pem", "--token", "t"]).all(), @"
    exit 2
    --- stdout
    --- stderr
    error: cannot read the file
      where: none.pem
        why: No such file or directory (os error 2)
    ");
}

#[test]
fn contexts_are_added_listed_chosen_and_forgotten() {
    let world = World::new();
    let ca = certificate(&world);
    let token = world.write("token", "secret\n");
    let add = |name: &str| {
        let arguments =
            ["context", "add", name, "--server", "h:1", "--ca", text(&ca), "--token-file", text(&token)];
        world.run(&arguments).all()
    };
    insta::assert_snapshot!(add("first"), @"
    exit 0
    --- stdout
    --- stderr
    context 'first' is known, and it is the current one
    ");
    insta::assert_snapshot!(add("second"), @"
    exit 0
    --- stdout
    --- stderr
    context 'second' is known
    ");
    insta::assert_snapshot!(add("No Name"), @"
    exit 2
    --- stdout
    --- stderr
    error: the context's name 'No Name' has the character 'N'; a name has only a-z, 0-9 and '-'
    ");
    insta::assert_snapshot!(world.run(&["context", "ls"]).all(), @"
    exit 0
    --- stdout
    CURRENT  NAME    ADDRESS      PROJECT
    *        first   https://h:1  -
    -        second  https://h:1  -
    --- stderr
    ");
    insta::assert_snapshot!(world.run(&["context", "use", "second"]).all(), @"
    exit 0
    --- stdout
    --- stderr
    context 'second' is the current one
    ");
    insta::assert_snapshot!(world.run(&["context", "ls", "-o", "json"]).stdout, @r#"
    {
      "contexts": [
        {
          "address": "https://h:1",
          "current": false,
          "name": "first",
          "project": null
        },
        {
          "address": "https://h:1",
          "current": true,
          "name": "second",
          "project": null
        }
      ]
    }
    "#);
    insta::assert_snapshot!(world.run(&["context", "use", "third"]).all(), @"
    exit 3
    --- stdout
    --- stderr
    error: there is no context 'third'
       next: droverctl context ls lists the contexts
    ");
    insta::assert_snapshot!(world.run(&["context", "rm", "second"]).all(), @"
    exit 0
    --- stdout
    --- stderr
    context 'second' is forgotten; it was the current one: choose another with `droverctl context use`
    ");
    insta::assert_snapshot!(world.run(&["context", "ls", "-o", "name"]).stdout, @"first");
    let mode = fs::metadata(world.path().join("config/drover/config.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_of_contexts_with_an_unknown_key_is_refused_with_its_line() {
    let world = World::new();
    let file = world.write("config/drover/config.toml", "current = \"a\"\nfavourite = \"b\"\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    insta::assert_snapshot!(world.run(&["ps"]).all(), @"
    exit 2
    --- stdout
    --- stderr
    error: the file of contexts is not as it must be
      where: HOME/config/drover/config.toml:2
        why: unknown field `favourite`, expected `current` or `contexts`
    ");
}

#[test]
fn a_file_of_contexts_that_others_may_read_is_refused() {
    let world = World::new();
    let file = world.write("elsewhere.toml", "");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    insta::assert_snapshot!(world.run(&["ps", "--config", "elsewhere.toml"]).all(), @"
    exit 2
    --- stdout
    --- stderr
    error: others may read the file of contexts, which holds tokens
      where: elsewhere.toml
       next: chmod 600 elsewhere.toml
    ");
}

#[test]
fn where_there_is_no_repository_run_says_so_before_it_asks_anybody() {
    let world = World::new();
    let ran = world.run(&["run", "--repo", ".", "--", "true"]);
    insta::assert_snapshot!(ran.all(), @"
    exit 2
    --- stdout
    --- stderr
    error: there is no git repository here
      where: HOME
        why: neither it nor a directory above it is one
       next: change to one, or make one: git init && git commit --allow-empty -m first
    ");
    insta::assert_snapshot!(world.run(&["run", "--repo", "missing", "--", "true"]).all(), @"
    exit 2
    --- stdout
    --- stderr
    error: the repository cannot be found
      where: missing
        why: No such file or directory (os error 2)
       next: give --repo a directory of this machine, or a URL
    ");
}

#[test]
fn a_file_of_variables_that_is_wrong_is_named_line_by_line() {
    let world = World::new();
    fs::create_dir_all(world.path().join(".git/objects")).unwrap();
    world.write(".git/HEAD", "ref: refs/heads/main\n");
    world.write("secrets", "A=1\nmysecret\n1B=mysecret\n");
    let ran = world.run(&["run", "--repo", ".", "--env-file", "secrets", "--", "true"]);
    insta::assert_snapshot!(ran.all(), @"
    exit 2
    --- stdout
    --- stderr
    error: the file of variables is not as it must be
      where: secrets
        why: line 2: there is no =
        why: line 3: what is before the = is not a variable's name
       next: a line is KEY=VALUE, or a comment after #
    ");
}

#[test]
fn completions_are_a_script() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = World::new().run(&["completion", shell]);
        assert_eq!(ran.code, 0);
        assert!(ran.stdout.contains("droverctl") && ran.stdout.contains("whoami"), "{shell}");
        for word in ["checkpoint", "extend-signs", "restore", "purge", "max-extensions"] {
            assert!(ran.stdout.contains(word), "{shell}: {word}");
        }
        assert!(!ran.stdout.contains("batch"), "{shell}: what is to come is not completed");
    }
}
