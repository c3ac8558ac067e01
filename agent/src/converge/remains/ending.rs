//! Ending processes that bear a session's mark: only those that were named and still are who they were, each through a
//! descriptor that cannot come to stand for another one. They are told, then killed, and seen to be gone.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use drover_domain::converge::LocalRun;
use drover_domain::presence::Presence;
use drover_domain::session::{Fault, FaultCode};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::super::{Converge, Means};
use super::{Asked, Deed, Outcome, ids};
use crate::inventory::marked;
use crate::ledger::{Key, Record, Write};
use crate::process::{Boot, ProcessId};
use crate::step::{Around, Ending, OnFailure, Saga, Standing, Step, Stopped};

pub(super) const SAGA: &str = "end processes";

const TOLD: Duration = Duration::from_secs(5);
const KILLED: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(50);

/// Who is to end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Doomed(Vec<ProcessId>);

impl Converge {
    /// In the session's turn.
    pub(super) async fn end_now(&self, asked: &Asked, named: &[(u32, u64)]) -> Deed {
        let session = asked.session;
        // Only the ledger says where else than in this agent's own place a workspace of it was.
        let workspace = self.entry(session).and_then(|row| row.workspace);
        let path = workspace.map(|workspace| PathBuf::from(workspace.path.as_ref()));
        let means = self.means().clone();
        let found = tokio::task::spawn_blocking(move || marked(&means, session, path.as_deref())).await;
        let found = match found {
            Ok(Ok(found)) => found,
            Ok(Err(blind)) => return Deed::failed(blind.why),
            Err(error) => return Deed::failed(error.to_string()),
        };
        let theirs: Vec<_> =
            found.into_iter().filter(|process| named.contains(&(process.pid, process.start))).collect();
        if theirs.is_empty() {
            return Deed::new(Outcome::Nothing, "none of these processes is left, or none is this session's");
        }
        let live = self.entry(session).and_then(|row| match row.local.run {
            LocalRun::Starting(order) | LocalRun::Live(order) => Some(order.run),
            LocalRun::None | LocalRun::Ended(_) => None,
        });
        let is_wanted = self.assignment(session).is_some() && live.is_some();
        if is_wanted && theirs.iter().any(|process| process.run == live) {
            return Deed::failed("the session is assigned to this node, and these are its run's");
        }
        let boot = match Boot::read(Boot::FILE.as_ref()) {
            Ok(boot) => boot,
            Err(error) => return Deed::failed(error.to_string()),
        };
        let named: Vec<(u32, u64)> = theirs.iter().map(|process| (process.pid, process.start)).collect();
        let key = Key { session, saga: SAGA.into() };
        self.end_by(&key, Record::default(), Doomed(ids(&boot, &named))).await
    }

    /// Goes on with what was begun.
    pub(super) async fn end_on(&self, key: &Key, record: Record) -> Deed {
        self.end_by(key, record, Doomed::default()).await
    }

    async fn end_by(&self, key: &Key, record: Record, fresh: Doomed) -> Deed {
        let means = self.means();
        let saga = Saga {
            key: key.clone(),
            steps: vec![Box::new(EndThem { means: means.clone() })],
            on_failure: OnFailure::Halt,
        };
        // Who does not end is seen again, and named again.
        let closing = |_: Ending<'_, Doomed>| vec![Write::End(key.clone())];
        let around = Around { opening: vec![], closing: Box::new(closing), progress: Box::new(|_| {}) };
        match means.engine.run(&means.ledger, &saga, Standing { record, fresh }, around).await {
            Ok(Doomed(ended)) => Deed::new(Outcome::Done, format!("ended: {}", numbers(&ended))),
            Err(Stopped::Failed(fault)) => Deed::failed(fault.text),
            Err(Stopped::Parked) => Deed::failed("the agent ends; it goes on at its next start"),
            Err(Stopped::Ledger(error)) => Deed::failed(error.to_string()),
        }
    }
}

struct EndThem {
    means: Means,
}

#[async_trait]
impl Step<Doomed> for EndThem {
    fn name(&self) -> &'static str {
        "end"
    }

    /// Who is gone needs nothing; a process that got the same number since is never taken for one of them.
    async fn probe(&self, _: &mut Doomed) -> Presence<()> {
        Presence::Absent
    }

    async fn make(&self, doomed: &mut Doomed) -> Result<(), Fault> {
        let Doomed(processes) = doomed;
        let unseen = |error: std::io::Error| fault(FaultCode::Other, error.to_string());
        let boot = Boot::read(Boot::FILE.as_ref()).map_err(unseen)?;
        let signal = |signal| processes.iter().for_each(|process| drop(process.signal(&boot, signal)));
        signal(Signal::TERM);
        // One that is stopped hears nothing until it goes on.
        signal(Signal::CONT);
        let begun = self.means.clock.boot();
        loop {
            let left: Vec<ProcessId> =
                processes.iter().filter(|process| !process.look(&boot).is_absent()).cloned().collect();
            if left.is_empty() {
                return Ok(());
            }
            let waited = self.means.clock.boot().saturating_sub(begun);
            if waited > TOLD + KILLED {
                let text =
                    format!("these processes do not end although they were killed: {}", numbers(&left));
                return Err(fault(FaultCode::Stuck, text));
            }
            if waited > TOLD {
                signal(Signal::KILL);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

fn numbers(processes: &[ProcessId]) -> String {
    processes.iter().map(|process| process.pid.to_string()).collect::<Vec<_>>().join(", ")
}

fn fault(code: FaultCode, text: String) -> Fault {
    let hint = "look at these processes on the node: they wait for a device or a file system";
    Fault { code, step: "end".into(), text: text.into(), hint: hint.into(), retryable: false }
}
