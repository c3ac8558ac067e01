//! What goes out comes back the same, and what is wrong is said with the path of its field.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drover_domain::command::{Observation, Report};
use drover_domain::converge::{Assignment, Target};
use drover_domain::fence::Fence;
use drover_domain::id::{NodeId, RunId, SessionId, TokenId};
use drover_domain::labels::Labels;
use drover_domain::name::Name;
use drover_domain::node::{Cookie, Drain, Node, NodeFacts, Standing, Token};
use drover_domain::outcome::{Cause, Limit, Outcome, Usage};
use drover_domain::repository::{AbsolutePath, Repository, Url};
use drover_domain::session::{
    Checkpoint, EndedRun, Fault, FaultCode, Grant, Halt, Handle, Hold, Kept, LiveRun, Order, Placement,
    Progress, Queue, Removal, Session, State, Wanted, Workspace,
};
use drover_domain::spec::{
    Limits, OnNodeLoss, Parts, Restart, Resume, RuntimeKind, Secrets, Signs, Spec, WorkspaceKind,
};
use drover_domain::time::Timestamp;
use proptest::option::of;
use proptest::prelude::*;
use prost::Message;

use super::{assignment, record, report, spec};
use crate::v1;

mod upkeep;

fn text() -> impl Strategy<Value = Box<str>> {
    "[a-z/ ]{1,12}".prop_map(Into::into)
}

fn texts() -> impl Strategy<Value = Vec<Box<str>>> {
    proptest::collection::vec(text(), 0..3)
}

fn name() -> impl Strategy<Value = Name> {
    "[a-z][a-z0-9]{0,8}".prop_map(|text| Name::new(&text).unwrap())
}

fn at() -> impl Strategy<Value = Timestamp> {
    (-1_000_000_i64..2_000_000_000_000).prop_map(Timestamp::from_millis)
}

fn length() -> impl Strategy<Value = Duration> {
    (1_u64..1_000_000_000).prop_map(Duration::from_millis)
}

fn order() -> impl Strategy<Value = Order> {
    (any::<[u8; 10]>(), any::<u32>())
        .prop_map(|(run, ordinal)| Order { run: RunId::from_random(run), ordinal })
}

fn fence() -> impl Strategy<Value = Fence> {
    any::<(u64, u64)>().prop_map(|(generation, epoch)| Fence { generation, epoch })
}

fn placement() -> impl Strategy<Value = Placement> {
    (any::<[u8; 10]>(), fence())
        .prop_map(|(node, fence)| Placement { node: NodeId::from_random(node), fence })
}

fn labels() -> impl Strategy<Value = Labels> {
    proptest::collection::btree_map("[a-z]{1,4}", "[a-z ]{0,4}", 0..3)
        .prop_map(|pairs| Labels::new(pairs).unwrap())
}

fn variables() -> impl Strategy<Value = BTreeMap<Box<str>, Box<str>>> {
    let name = "[A-C]{1,3}".prop_map(Into::into);
    proptest::collection::btree_map(name, text(), 0..3)
}

fn repository() -> impl Strategy<Value = Repository> {
    prop_oneof![
        "[a-z]{1,8}"
            .prop_map(|path| Repository::Url(Url::new(&format!("https://example.org/{path}")).unwrap())),
        "[a-z]{1,8}".prop_map(|path| Repository::Url(Url::new(&format!("git@example.org:{path}")).unwrap())),
        ("[a-z]{1,8}", text()).prop_map(|(path, machine)| {
            Repository::Path { path: AbsolutePath::new(&format!("/{path}")).unwrap(), machine }
        }),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let lengths = (of(length()), of(length()), of(length()), of(length()), of(any::<u64>()));
    let signs =
        || of(any::<(bool, bool, bool)>().prop_map(|(touch, output, cpu)| Signs { touch, output, cpu }));
    (lengths, signs(), signs(), of(any::<u32>()), of(length())).prop_map(
        |(lengths, idle_signs, extend_signs, max_extensions, max_extension)| {
            let (timeout, idle_timeout, stop_grace, queue_timeout, log_bytes) = lengths;
            Limits {
                timeout,
                idle_timeout,
                stop_grace,
                queue_timeout,
                log_bytes,
                idle_signs,
                extend_signs,
                max_extensions,
                max_extension,
            }
        },
    )
}

fn a_spec() -> impl Strategy<Value = Spec> {
    let kinds = (
        prop_oneof![Just(WorkspaceKind::Worktree), Just(WorkspaceKind::Memory), Just(WorkspaceKind::Clone)],
        prop_oneof![Just(RuntimeKind::Process), Just(RuntimeKind::Tmux), Just(RuntimeKind::Container)],
        prop_oneof![Just(OnNodeLoss::Wait), Just(OnNodeLoss::Reschedule), Just(OnNodeLoss::Fail)],
        prop_oneof![Just(Restart::Never), (1_u32..9).prop_map(Restart::OnFailure)],
        prop_oneof![Just(Resume::Never), texts().prop_map(|command| Resume::Auto { command })],
    );
    let words = (of(text()), of(text()), texts(), texts(), of(text()));
    let rest = (variables(), limits(), any::<i32>(), of(name()), labels(), labels());
    (repository(), kinds, words, rest).prop_map(|(repository, kinds, words, rest)| {
        let (workspace, runtime, on_node_loss, restart, resume) = kinds;
        let (base, image, command, secret_names, run_as) = words;
        let (environment, limits, priority, node, node_selector, labels) = rest;
        Spec::accepted(Parts {
            repository,
            base,
            workspace,
            runtime,
            image,
            command,
            environment,
            secret_names,
            limits,
            priority,
            node,
            node_selector,
            labels,
            on_node_loss,
            restart,
            resume,
            run_as,
        })
    })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Succeeded),
        (1..256_i32).prop_map(Outcome::Failed),
        (1..64_i32).prop_map(Outcome::Signalled),
        prop_oneof![Just(Limit::Run), Just(Limit::Idle), Just(Limit::Cap)].prop_map(Outcome::TimedOut),
        text().prop_map(Outcome::Stopped),
        prop_oneof![Just(Cause::Reboot), Just(Cause::Agent)].prop_map(Outcome::Interrupted),
        Just(Outcome::RateLimited),
        Just(Outcome::Lost),
    ]
}

fn handle() -> impl Strategy<Value = Handle> {
    prop_oneof![
        any::<u32>().prop_map(|pid| Handle::Process { pid }),
        text().prop_map(|name| Handle::Tmux { name }),
        text().prop_map(|id| Handle::Container { id }),
    ]
}

fn usage() -> impl Strategy<Value = Usage> {
    (of(any::<u64>()), of(length()), of(any::<u32>())).prop_map(
        |(peak_memory_bytes, cpu_time, peak_processes)| Usage { peak_memory_bytes, cpu_time, peak_processes },
    )
}

fn ended() -> impl Strategy<Value = EndedRun> {
    (order(), of(at()), at(), outcome(), usage()).prop_map(|(order, started, ended, outcome, usage)| {
        EndedRun { order, started, ended, outcome, usage }
    })
}

fn grant() -> impl Strategy<Value = Grant> {
    (length(), any::<u32>()).prop_map(|(total, count)| Grant { total, count })
}

fn checkpoint() -> impl Strategy<Value = Checkpoint> {
    (text(), text(), at()).prop_map(|(reference, commit, at)| Checkpoint { reference, commit, at })
}

fn live() -> impl Strategy<Value = LiveRun> {
    (order(), at(), of(at()), any::<u32>(), grant(), handle()).prop_map(
        |(order, started, deadline, extensions, grant, handle)| LiveRun {
            order,
            started,
            deadline,
            extensions,
            grant,
            handle,
        },
    )
}

fn progress() -> impl Strategy<Value = Progress> {
    (any::<u32>(), any::<u32>(), text()).prop_map(|(step, of, name)| Progress { step, of, name })
}

fn kept() -> impl Strategy<Value = Kept> {
    (of(text()), texts(), texts()).prop_map(|(branch, trash, reasons)| Kept { branch, trash, reasons })
}

fn fault() -> impl Strategy<Value = Fault> {
    (0..FaultCode::ALL.len(), text(), text(), text(), any::<bool>()).prop_map(
        |(code, step, text, hint, retryable)| Fault {
            code: FaultCode::ALL[code],
            step,
            text,
            hint,
            retryable,
        },
    )
}

fn workspace() -> impl Strategy<Value = Workspace> {
    (text(), text(), text()).prop_map(|(path, branch, base_commit)| Workspace { path, branch, base_commit })
}

fn removal() -> impl Strategy<Value = Removal> {
    any::<(bool, bool)>().prop_map(|(keep_branch, force_branch)| Removal { keep_branch, force_branch })
}

fn wanted() -> impl Strategy<Value = Wanted> {
    prop_oneof![Just(Wanted::Running), Just(Wanted::Ready), removal().prop_map(Wanted::Cleaned)]
}

fn state() -> impl Strategy<Value = State> {
    let state = prop_oneof![
        Just(State::Queued(Queue::Place)),
        placement().prop_map(|placement| State::Queued(Queue::Slot(placement))),
        (placement(), order()).prop_map(|(placement, order)| State::Queued(Queue::Start(placement, order))),
        (placement(), of(order()), progress()).prop_map(|(placement, order, progress)| State::Creating {
            placement,
            order,
            progress
        }),
        placement().prop_map(|placement| State::Ready { placement }),
        (placement(), live()).prop_map(|(placement, run)| State::Running { placement, run }),
        (placement(), of(order()), progress()).prop_map(|(placement, run, progress)| State::Cleaning {
            placement,
            run,
            progress
        }),
        kept().prop_map(|kept| State::Cleaned { kept }),
        (of(placement()), fault()).prop_map(|(placement, fault)| State::Error { placement, fault }),
    ];
    (state, of(text())).prop_map(|(state, evidence)| match evidence {
        Some(evidence) => State::Orphaned { was: Box::new(state), evidence },
        None => state,
    })
}

fn a_session() -> impl Strategy<Value = Session> {
    let names = (any::<[u8; 10]>(), name(), name(), text(), a_spec());
    let numbers = any::<(u64, u64, u64, u32, u32, u32)>();
    let hold = (of(at()), text()).prop_map(|(until, reason)| Hold { until, reason });
    let halt = (text(), of(0..9_000_000_u64))
        .prop_map(|(by, grace)| Halt { by, grace: grace.map(Duration::from_millis) });
    let rest =
        (wanted(), (of(halt), of(hold)), state(), of(workspace()), of(ended()), of(text()), at(), at());
    let anew = (any::<(u32, bool, u32, u32)>(), of(text()), of(text()), of(checkpoint()));
    (names, numbers, rest, anew).prop_map(|(names, numbers, rest, anew)| {
        let ((interruptions, resumes, rebuilds, rebuilt), base_commit, origin, checkpoint) = anew;
        let (id, project, name, owner, spec) = names;
        let (number, revision, epoch, runs, failures, attempt) = numbers;
        let (wanted, (halt, hold), state, workspace, last_run, trace, created, since) = rest;
        Session {
            number,
            id: SessionId::from_random(id),
            project,
            name,
            owner,
            spec: Arc::new(spec),
            created,
            revision,
            epoch,
            wanted,
            halt,
            hold,
            state,
            since,
            workspace,
            last_run,
            runs,
            failures,
            interruptions,
            resumes,
            rebuilds,
            rebuilt,
            base_commit,
            origin,
            checkpoint,
            attempt,
            trace,
        }
    })
}

fn facts() -> impl Strategy<Value = NodeFacts> {
    (text(), text(), text(), labels(), 0..100_u32, texts(), texts()).prop_map(
        |(machine, hostname, boot, labels, slots, capabilities, notes)| NodeFacts {
            machine,
            hostname,
            agent_version: "1".into(),
            boot,
            incarnation: "i".into(),
            labels,
            slots,
            capabilities,
            notes,
        },
    )
}

fn a_node() -> impl Strategy<Value = Node> {
    let standing = (0..Standing::ALL.len()).prop_map(|at| Standing::ALL[at]);
    let cookie = (of(any::<[u8; 32]>()), of(any::<[u8; 32]>()))
        .prop_map(|(current, previous)| Cookie { current, previous });
    let drain = (text(), at(), of(at())).prop_map(|(by, since, deadline)| Drain { by, since, deadline });
    let stamps = (at(), at(), of(drain));
    (any::<[u8; 10]>(), name(), facts(), standing, cookie, stamps, any::<(bool, u64, u64)>()).prop_map(
        |(id, name, facts, standing, cookie, (joined, since, drain), (cordoned, revision, acknowledged))| {
            Node {
                id: NodeId::from_random(id),
                name,
                facts,
                standing,
                cordoned,
                drain,
                joined,
                revision,
                since,
                cookie,
                acknowledged,
            }
        },
    )
}

fn a_token() -> impl Strategy<Value = Token> {
    let used =
        of((any::<[u8; 10]>(), at())).prop_map(|used| used.map(|(node, at)| (NodeId::from_random(node), at)));
    (any::<[u8; 10]>(), any::<[u8; 32]>(), at(), text(), at(), used).prop_map(
        |(id, secret_hash, expires, made_by, made, used)| Token {
            id: TokenId::from_random(id),
            secret_hash,
            expires,
            made_by,
            made,
            used,
        },
    )
}

fn observation() -> impl Strategy<Value = Observation> {
    prop_oneof![
        progress().prop_map(Observation::Progress),
        workspace().prop_map(Observation::WorkspaceReady),
        live().prop_map(|run| Observation::RunStarted {
            run: run.order.run,
            started: run.started,
            deadline: run.deadline,
            handle: run.handle
        }),
        ended().prop_map(|run| Observation::RunEnded {
            run: run.order.run,
            started: run.started,
            ended: run.ended,
            outcome: run.outcome,
            usage: run.usage
        }),
        (any::<[u8; 10]>(), at(), any::<u32>()).prop_map(|(run, deadline, extensions)| {
            Observation::RunExtended { run: RunId::from_random(run), deadline, extensions }
        }),
        checkpoint().prop_map(Observation::Checkpointed),
        kept().prop_map(Observation::Removed),
        fault().prop_map(Observation::Faulted),
    ]
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        Just(Target::Keep),
        of(order()).prop_map(|stop| Target::Ready { stop }),
        order().prop_map(|order| Target::Running { order }),
        (removal(), of(order())).prop_map(|(removal, stop)| Target::Cleaned { removal, stop }),
    ]
}

/// Through bytes, as the wire and the store have it.
fn through<M: Message + Default>(message: M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

proptest! {
    #[test]
    fn a_spec_comes_back_as_it_was(given in a_spec()) {
        prop_assert_eq!(spec::accepted("spec", through(spec::to_wire(&given))), Ok(given));
    }

    #[test]
    fn a_stored_session_comes_back_as_it_was(given in a_session()) {
        let back = record::session_from(through(record::session(&given)), given.spec.clone());
        prop_assert_eq!(back, Ok(given));
    }

    #[test]
    fn a_stored_node_and_token_come_back_as_they_were(node in a_node(), token in a_token(), secrets in variables()) {
        prop_assert_eq!(record::node_from(&through(record::node(&node))), Ok(node));
        prop_assert_eq!(record::token_from(&through(record::token(&token))), Ok(token));
        let secrets = Secrets(secrets);
        prop_assert_eq!(record::secrets_from(through(record::secrets(&secrets))), secrets);
    }

    #[test]
    fn a_report_comes_back_as_it_was(ids in any::<([u8; 10], [u8; 10], u64)>(), fence in fence(), observation in observation()) {
        let (node, session) = (NodeId::from_random(ids.0), SessionId::from_random(ids.1));
        let given = Report { node, sequence: ids.2, session, fence, observation };
        prop_assert_eq!(report::from_wire(node, &through(report::to_wire(&given, 1))), Ok(given));
    }

    #[test]
    fn an_assignment_comes_back_as_it_was(session in a_session(), secrets in variables(), fence in fence(), target in target(), grant in grant()) {
        let given = Assignment {
            session: session.id,
            project: session.project,
            name: session.name,
            owner: session.owner,
            fence,
            attempt: session.attempt,
            spec: session.spec,
            secrets: Arc::new(Secrets(secrets)),
            branch: "b".into(),
            workspace: session.workspace,
            base_commit: session.base_commit,
            origin: session.origin,
            rebuild: session.rebuilt,
            resumes: session.resumes,
            grant,
            target,
            halt: session.halt,
            trace: session.trace,
        };
        prop_assert_eq!(assignment::from_wire(through(assignment::to_wire(&given))), Ok(given));
    }
}

#[test]
fn every_problem_of_a_spec_is_said_with_its_path() {
    let good = v1::SessionSpec {
        repository: "https://example.org/a".into(),
        command: vec!["true".into()],
        ..v1::SessionSpec::default()
    };
    assert!(spec::from_wire("spec", good.clone()).is_ok());
    let check = |change: &dyn Fn(&mut v1::SessionSpec), expected: &[&str]| {
        let mut wire = good.clone();
        change(&mut wire);
        let invalid = spec::from_wire("spec", wire).unwrap_err();
        let fields: Vec<_> = invalid.0.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, expected, "{invalid}");
    };
    check(&|s| s.repository = "../x".into(), &["spec.repository"]);
    check(&|s| s.repository = "ext::sh".into(), &["spec.repository"]);
    check(&|s| s.repository = "/a".into(), &["spec.repository"]);
    check(&|s| s.node = "-x".into(), &["spec.node"]);
    check(&|s| s.base = "--upload-pack=x".into(), &["spec.base"]);
    check(&|s| s.command.clear(), &["spec.command"]);
    check(&|s| s.timeout = Some(prost_types::Duration { seconds: -1, nanos: 0 }), &["spec.timeout"]);
    check(&|s| drop(s.labels.insert("A".into(), "b".into())), &["spec.labels"]);
    check(&|s| s.runtime = 77, &["spec.runtime"]);
    check(&|s| (s.runtime, s.workspace) = (77, 78), &["spec.workspace", "spec.runtime"]);
    check(&|s| (s.node, s.repository) = ("A".into(), "-u".into()), &["spec.node", "spec.repository"]);
}
