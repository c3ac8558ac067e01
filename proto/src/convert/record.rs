//! How the registry's rows look inside. What was stored is what was decided: reading it back gives the same value.

use std::sync::Arc;
use std::time::Duration;

use drover_domain::fence::Fence;
use drover_domain::name::Name;
use drover_domain::node::{Cookie, Drain, Node, Token};
use drover_domain::session::{
    Grant, Halt, Hold, LiveRun, Order, Placement, Queue, Removal, Session, State, Wanted,
};
use drover_domain::spec::{Secrets, Spec};
use drover_domain::time::Timestamp;

use super::{Invalid, known, node, parsed, required, run, session};
use crate::store_v1 as store;
use crate::store_v1::state_record::State as Row;
use crate::v1;

/// A session but for its spec, which is a row of its own.
pub fn session(session: &Session) -> store::SessionRecord {
    let removal = match session.wanted {
        Wanted::Cleaned(removal) => removal,
        Wanted::Running | Wanted::Ready => Removal::default(),
    };
    store::SessionRecord {
        id: session.id.to_string(),
        project: session.project.to_string(),
        name: session.name.to_string(),
        owner: session.owner.to_string(),
        created: session.created.millis(),
        revision: session.revision,
        epoch: session.epoch,
        wanted: Some(store::WantedRecord {
            wanted: session::wanted(session.wanted).into(),
            keep_branch: removal.keep_branch,
            force_branch: removal.force_branch,
        }),
        halt: session.halt.as_ref().map(|halt| store::HaltRecord {
            by: halt.by.to_string(),
            grace: halt.grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)),
        }),
        hold: session.hold.as_ref().map(|hold| store::HoldRecord {
            until: hold.until.map(Timestamp::millis),
            reason: hold.reason.to_string(),
        }),
        state: Some(state(&session.state)),
        since: session.since.millis(),
        workspace: session.workspace.as_ref().map(run::workspace),
        last_run: session.last_run.as_ref().map(run::ended),
        runs: session.runs,
        failures: session.failures,
        attempt: session.attempt,
        trace: session.trace.as_deref().map(ToOwned::to_owned),
        number: session.number,
        interruptions: session.interruptions,
        resumes: session.resumes,
        rebuilds: session.rebuilds,
        rebuilt: session.rebuilt,
        base_commit: session.base_commit.as_deref().map(ToOwned::to_owned),
        origin: session.origin.as_deref().map(ToOwned::to_owned),
        checkpoint: session.checkpoint.as_ref().map(run::checkpoint),
    }
}

pub fn session_from(wire: store::SessionRecord, spec: Arc<Spec>) -> Result<Session, Invalid> {
    Ok(Session {
        number: wire.number,
        id: parsed("id", &wire.id)?,
        project: name("project", &wire.project)?,
        name: name("name", &wire.name)?,
        owner: wire.owner.into(),
        spec,
        created: Timestamp::from_millis(wire.created),
        revision: wire.revision,
        epoch: wire.epoch,
        wanted: wanted_from(&required("wanted", wire.wanted)?)?,
        halt: wire.halt.map(|halt| Halt { by: halt.by.into(), grace: halt.grace.map(Duration::from_millis) }),
        hold: wire
            .hold
            .map(|hold| Hold { until: hold.until.map(Timestamp::from_millis), reason: hold.reason.into() }),
        state: state_from(&required("state", wire.state)?)?,
        since: Timestamp::from_millis(wire.since),
        workspace: wire.workspace.as_ref().map(run::workspace_from),
        last_run: wire.last_run.as_ref().map(run::ended_from).transpose()?,
        runs: wire.runs,
        failures: wire.failures,
        attempt: wire.attempt,
        interruptions: wire.interruptions,
        resumes: wire.resumes,
        rebuilds: wire.rebuilds,
        rebuilt: wire.rebuilt,
        base_commit: wire.base_commit.map(Into::into),
        origin: wire.origin.map(Into::into),
        checkpoint: wire.checkpoint.as_ref().map(run::checkpoint_from).transpose()?,
        trace: wire.trace.map(Into::into),
    })
}

fn wanted_from(wire: &store::WantedRecord) -> Result<Wanted, Invalid> {
    Ok(match known("wanted", wire.wanted)? {
        v1::SessionWanted::Unspecified => return Err(Invalid::one("wanted", "is missing")),
        v1::SessionWanted::Running => Wanted::Running,
        v1::SessionWanted::Ready => Wanted::Ready,
        v1::SessionWanted::Cleaned => {
            Wanted::Cleaned(Removal { keep_branch: wire.keep_branch, force_branch: wire.force_branch })
        }
    })
}

fn state(state: &State) -> store::StateRecord {
    let at = |placement: &Placement| Some(placed(placement));
    let row = match state {
        State::Queued(Queue::Place) => Row::QueuedForNode(store::QueuedForNode {}),
        State::Queued(Queue::Slot(placement)) => {
            Row::QueuedForSlot(store::QueuedForSlot { placement: at(placement) })
        }
        State::Queued(Queue::Start(placement, run)) => {
            Row::Ordered(store::Ordered { placement: at(placement), order: Some(order(*run)) })
        }
        State::Creating { placement, order: run, progress } => Row::Creating(store::Creating {
            placement: at(placement),
            order: run.map(order),
            progress: Some(run::progress(progress)),
        }),
        State::Ready { placement } => Row::Ready(store::Ready { placement: at(placement) }),
        State::Running { placement, run } => {
            let granted = u64::try_from(run.grant.total.as_millis()).unwrap_or(u64::MAX);
            let (placement, grants) = (at(placement), run.grant.count);
            Row::Running(store::Running { placement, run: Some(run::live(run)), granted, grants })
        }
        State::Cleaning { placement, run, progress } => Row::Cleaning(store::Cleaning {
            placement: at(placement),
            run: run.map(order),
            progress: Some(run::progress(progress)),
        }),
        State::Cleaned { kept } => Row::Cleaned(store::Cleaned { kept: Some(run::kept(kept)) }),
        State::Error { placement, fault } => Row::Errored(store::Errored {
            placement: placement.as_ref().map(placed),
            fault: Some(run::fault(fault)),
        }),
        State::Orphaned { was, evidence } => Row::Orphaned(Box::new(store::Orphaned {
            was: Some(Box::new(self::state(was))),
            evidence: evidence.to_string(),
        })),
    };
    store::StateRecord { state: Some(row) }
}

fn state_from(wire: &store::StateRecord) -> Result<State, Invalid> {
    Ok(match required("state", wire.state.as_ref())? {
        Row::QueuedForNode(_) => State::Queued(Queue::Place),
        Row::QueuedForSlot(row) => State::Queued(Queue::Slot(placed_from(row.placement.as_ref())?)),
        Row::Ordered(row) => {
            let order = order_from(required("order", row.order.as_ref())?)?;
            State::Queued(Queue::Start(placed_from(row.placement.as_ref())?, order))
        }
        Row::Creating(row) => State::Creating {
            placement: placed_from(row.placement.as_ref())?,
            order: row.order.as_ref().map(order_from).transpose()?,
            progress: run::progress_from(required("progress", row.progress.as_ref())?),
        },
        Row::Ready(row) => State::Ready { placement: placed_from(row.placement.as_ref())? },
        Row::Running(row) => State::Running {
            placement: placed_from(row.placement.as_ref())?,
            run: LiveRun {
                grant: Grant { total: Duration::from_millis(row.granted), count: row.grants },
                ..run::live_from(required("run", row.run.as_ref())?)?
            },
        },
        Row::Cleaning(row) => State::Cleaning {
            placement: placed_from(row.placement.as_ref())?,
            run: row.run.as_ref().map(order_from).transpose()?,
            progress: run::progress_from(required("progress", row.progress.as_ref())?),
        },
        Row::Cleaned(row) => State::Cleaned { kept: run::kept_from(required("kept", row.kept.as_ref())?) },
        Row::Errored(row) => State::Error {
            placement: row.placement.as_ref().map(|placement| placed_from(Some(placement))).transpose()?,
            fault: run::fault_from(required("fault", row.fault.as_ref())?),
        },
        Row::Orphaned(row) => State::Orphaned {
            was: Box::new(state_from(required("was", row.was.as_deref())?)?),
            evidence: row.evidence.as_str().into(),
        },
    })
}

fn placed(placement: &Placement) -> store::PlacementRecord {
    let fence = placement.fence;
    store::PlacementRecord {
        node: placement.node.to_string(),
        generation: fence.generation,
        epoch: fence.epoch,
    }
}

fn placed_from(wire: Option<&store::PlacementRecord>) -> Result<Placement, Invalid> {
    let wire = required("placement", wire)?;
    let fence = Fence { generation: wire.generation, epoch: wire.epoch };
    Ok(Placement { node: parsed("placement.node", &wire.node)?, fence })
}

fn order(order: Order) -> store::OrderRecord {
    store::OrderRecord { run: order.run.to_string(), ordinal: order.ordinal }
}

fn order_from(wire: &store::OrderRecord) -> Result<Order, Invalid> {
    Ok(Order { run: parsed("order.run", &wire.run)?, ordinal: wire.ordinal })
}

pub fn node(node: &Node) -> store::NodeRecord {
    let hash = |hash: &Option<[u8; 32]>| hash.map(Vec::from).unwrap_or_default();
    store::NodeRecord {
        id: node.id.to_string(),
        name: node.name.to_string(),
        facts: Some(node::facts(&node.facts)),
        standing: node::standing(node.standing).into(),
        cordoned: node.cordoned,
        joined: node.joined.millis(),
        revision: node.revision,
        since: node.since.millis(),
        cookie: hash(&node.cookie.current),
        previous_cookie: hash(&node.cookie.previous),
        acknowledged: node.acknowledged,
        drain: node.drain.as_ref().map(|drain| store::DrainRecord {
            by: drain.by.to_string(),
            since: drain.since.millis(),
            deadline: drain.deadline.map(Timestamp::millis),
        }),
    }
}

pub fn node_from(wire: &store::NodeRecord) -> Result<Node, Invalid> {
    let cookie = |field: &str, bytes: &[u8]| match bytes {
        [] => Ok(None),
        bytes => hash_from(field, bytes).map(Some),
    };
    Ok(Node {
        id: parsed("id", &wire.id)?,
        name: name("name", &wire.name)?,
        facts: node::facts_from("facts", required("facts", wire.facts.as_ref())?)?,
        standing: node::standing_from(wire.standing)?,
        cordoned: wire.cordoned,
        joined: Timestamp::from_millis(wire.joined),
        revision: wire.revision,
        since: Timestamp::from_millis(wire.since),
        cookie: Cookie {
            current: cookie("cookie", &wire.cookie)?,
            previous: cookie("previous_cookie", &wire.previous_cookie)?,
        },
        acknowledged: wire.acknowledged,
        drain: wire.drain.as_ref().map(|drain| Drain {
            by: drain.by.as_str().into(),
            since: Timestamp::from_millis(drain.since),
            deadline: drain.deadline.map(Timestamp::from_millis),
        }),
    })
}

pub fn token(token: &Token) -> store::TokenRecord {
    store::TokenRecord {
        id: token.id.to_string(),
        secret_hash: token.secret_hash.to_vec(),
        expires: token.expires.millis(),
        made_by: token.made_by.to_string(),
        made: token.made.millis(),
        used_by: token.used.map(|(node, _)| node.to_string()).unwrap_or_default(),
        used: token.used.map(|(_, at)| at.millis()).unwrap_or_default(),
    }
}

pub fn token_from(wire: &store::TokenRecord) -> Result<Token, Invalid> {
    let used = match wire.used_by.as_str() {
        "" => None,
        node => Some((parsed("used_by", node)?, Timestamp::from_millis(wire.used))),
    };
    Ok(Token {
        id: parsed("id", &wire.id)?,
        secret_hash: hash_from("secret_hash", &wire.secret_hash)?,
        expires: Timestamp::from_millis(wire.expires),
        made_by: wire.made_by.as_str().into(),
        made: Timestamp::from_millis(wire.made),
        used,
    })
}

pub fn secrets(secrets: &Secrets) -> store::SecretsRecord {
    let values = secrets.0.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    store::SecretsRecord { values: values.collect() }
}

pub fn secrets_from(wire: store::SecretsRecord) -> Secrets {
    Secrets(wire.values.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
}

fn name(field: &str, text: &str) -> Result<Name, Invalid> {
    Name::new(text).map_err(|problem| Invalid::one(field, problem))
}

fn hash_from(field: &str, bytes: &[u8]) -> Result<[u8; 32], Invalid> {
    bytes.try_into().map_err(|_| Invalid::one(field, "is not 32 bytes long"))
}
