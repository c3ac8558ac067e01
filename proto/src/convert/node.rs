//! Nodes and join tokens as clients see them, and what a node says of itself.

use std::time::Duration;

use drover_domain::drain;
use drover_domain::fence::Fence;
use drover_domain::fleet::Fleet;
use drover_domain::labels::Labels;
use drover_domain::node::{Holding, Node, NodeFacts, Standing, Token, Witness};

use super::time::{length, stamp};
use super::{Invalid, known};
use crate::{node_v1, v1};

/// What is known of a node beside the fleet: it changes with every heartbeat.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub age: Option<Duration>,
    pub load: Option<v1::NodeLoad>,
}

/// `node` as it stands in `fleet`.
pub fn render(fleet: &Fleet, node: &Node, heard: Heard) -> v1::Node {
    let v1::Node { heartbeat_age, load, .. } = beside(heard);
    v1::Node {
        id: node.id.to_string(),
        name: node.name.to_string(),
        standing: standing(node.standing).into(),
        standing_time: Some(stamp(node.since)),
        cordoned: node.cordoned,
        join_time: Some(stamp(node.joined)),
        revision: node.revision,
        facts: Some(facts(&node.facts)),
        slots_used: fleet.slots_used(node.id),
        sessions: u32::try_from(fleet.placed_on(node.id).count()).unwrap_or(u32::MAX),
        heartbeat_age,
        load,
        drain: node.drain.as_ref().map(|drain| v1::NodeDrain {
            by: drain.by.to_string(),
            start_time: Some(stamp(drain.since)),
            deadline_time: drain.deadline.map(stamp),
        }),
        runs: u32::try_from(drain::runs_left(fleet, node)).unwrap_or(u32::MAX),
    }
}

/// Of a node, only what is known beside the fleet: merged with what [`render`] makes of nothing heard it is the whole.
pub fn beside(Heard { age, load }: Heard) -> v1::Node {
    v1::Node { heartbeat_age: age.map(length), load, ..v1::Node::default() }
}

pub fn facts(facts: &NodeFacts) -> v1::NodeFacts {
    v1::NodeFacts {
        machine: facts.machine.to_string(),
        hostname: facts.hostname.to_string(),
        agent_version: facts.agent_version.to_string(),
        boot: facts.boot.to_string(),
        incarnation: facts.incarnation.to_string(),
        labels: facts.labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        slots: facts.slots,
        capabilities: facts.capabilities.iter().map(ToString::to_string).collect(),
        notes: facts.notes.iter().map(ToString::to_string).collect(),
    }
}

/// What an agent says that it knows. What has no id that can be read says nothing.
pub fn witness_from(held: &[node_v1::Held], acknowledged: u64) -> Witness {
    let holding = |held: &node_v1::Held| {
        let fence = Fence { generation: held.generation, epoch: held.epoch };
        let (session, run) = (held.session_id.parse().ok()?, held.run_id.parse().ok());
        Some(Holding { session, fence, ordinal: held.ordinal, run })
    };
    Witness { acknowledged, held: held.iter().filter_map(holding).collect() }
}

const LONGEST_FACT: usize = 255;
/// Of an agent's notes; agents keep to it.
pub const MOST_NOTES: usize = 16;
pub const LONGEST_NOTE: usize = 1024;
const MOST_CAPABILITIES: usize = 100;
const MOST_SLOTS: u32 = 100_000;

/// A hostile agent may say what it likes, within bounds.
pub fn facts_from(path: &str, wire: &v1::NodeFacts) -> Result<NodeFacts, Invalid> {
    let mut invalid = Invalid::default();
    let mut text = |field: &str, text: &str| -> Box<str> {
        if text.len() > LONGEST_FACT || text.chars().any(char::is_control) {
            invalid.add(format!("{path}.{field}"), "is longer than 255 bytes or has a control character");
        }
        text.into()
    };
    let machine = text("machine", &wire.machine);
    let hostname = text("hostname", &wire.hostname);
    let agent_version = text("agent_version", &wire.agent_version);
    let boot = text("boot", &wire.boot);
    let incarnation = text("incarnation", &wire.incarnation);
    let capabilities = wire.capabilities.iter().map(|name| text("capabilities", name)).collect::<Vec<_>>();
    if capabilities.len() > MOST_CAPABILITIES {
        invalid.add(format!("{path}.capabilities"), "has more than 100 entries");
    }
    let notes: Vec<Box<str>> = wire.notes.iter().map(|note| note.as_str().into()).collect();
    let is_odd = |note: &str| note.len() > LONGEST_NOTE || note.chars().any(char::is_control);
    if notes.len() > MOST_NOTES || notes.iter().any(|note| is_odd(note)) {
        invalid.add(format!("{path}.notes"), "are too many, too long or have a control character");
    }
    if wire.slots > MOST_SLOTS {
        invalid.add(format!("{path}.slots"), "is more than 100000");
    }
    let labels = Labels::new(wire.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let labels = invalid.take(labels.map_err(|problem| Invalid::one(format!("{path}.labels"), problem)));
    let facts = labels.map(|labels| NodeFacts {
        machine,
        hostname,
        agent_version,
        boot,
        incarnation,
        labels,
        slots: wire.slots,
        capabilities,
        notes,
    });
    invalid.or(facts)
}

pub fn standing(standing: Standing) -> v1::NodeStanding {
    match standing {
        Standing::Joined => v1::NodeStanding::Joined,
        Standing::Reachable => v1::NodeStanding::Reachable,
        Standing::Unreachable => v1::NodeStanding::Unreachable,
        Standing::Lost => v1::NodeStanding::Lost,
        Standing::Revoked => v1::NodeStanding::Revoked,
    }
}

pub fn standing_from(value: i32) -> Result<Standing, Invalid> {
    Ok(match known("standing", value)? {
        v1::NodeStanding::Unspecified => return Err(Invalid::one("standing", "is missing")),
        v1::NodeStanding::Joined => Standing::Joined,
        v1::NodeStanding::Reachable => Standing::Reachable,
        v1::NodeStanding::Unreachable => Standing::Unreachable,
        v1::NodeStanding::Lost => Standing::Lost,
        v1::NodeStanding::Revoked => Standing::Revoked,
    })
}

pub fn token(token: &Token) -> v1::JoinToken {
    v1::JoinToken {
        id: token.id.to_string(),
        owner: token.made_by.to_string(),
        create_time: Some(stamp(token.made)),
        expire_time: Some(stamp(token.expires)),
        use_time: token.used.map(|(_, at)| stamp(at)),
        node_id: token.used.map(|(node, _)| node.to_string()).unwrap_or_default(),
    }
}
