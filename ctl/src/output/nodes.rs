//! Nodes and join tokens, for people.

use anstyle::Style;
use drover_proto::v1::{
    CreateJoinTokenResponse, JoinToken, ListJoinTokensResponse, ListNodesResponse, Node, NodeStanding,
};

use super::sessions::word;
use super::table::{Row, facts, table};
use super::times::{age, bytes, count, length, stamp};
use super::{BAD, BUSY, FAINT, Look, View};

impl View for ListNodesResponse {
    const KIND: &'static str = "drover.v1.ListNodesResponse";

    fn show(&self, look: &Look) -> String {
        let header: &[&str] = if look.wide {
            &["NAME", "STANDING", "SLOTS", "SESSIONS", "LOAD", "HEARD", "ID", "HOST", "VERSION", "LABELS"]
        } else {
            &["NAME", "STANDING", "SLOTS", "SESSIONS", "LOAD", "HEARD"]
        };
        let rows: Vec<Row> = self.nodes.iter().map(|node| row(node, look)).collect();
        table(look, header, &rows)
    }

    fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }
}

impl View for Node {
    const KIND: &'static str = "drover.v1.Node";

    fn show(&self, look: &Look) -> String {
        let told = self.facts.clone().unwrap_or_default();
        let since = age(look.now, self.standing_time.as_ref());
        let joined = self.join_time.as_ref().map(|at| format!("{} (controller's clock)", stamp(at)));
        facts(
            look,
            &[
                ("name", self.name.clone()),
                ("id", self.id.clone()),
                ("standing", format!("{} for {since}", standing(self))),
                ("heard", heard(self)),
                ("drain", drain(self, look)),
                ("slots", slots(self)),
                ("sessions", self.sessions.to_string()),
                (
                    "load",
                    self.load
                        .map(|load| format!("{:.2} per processor", load.load_per_cpu))
                        .unwrap_or_default(),
                ),
                ("pressure", pressure(self)),
                (
                    "memory",
                    share(self.load.map(|load| (load.memory_available_bytes, load.memory_total_bytes))),
                ),
                ("disk", share(self.load.map(|load| (load.disk_available_bytes, load.disk_total_bytes)))),
                ("joined", joined.unwrap_or_default()),
                ("host", told.hostname.clone()),
                ("machine", told.machine.clone()),
                ("agent", told.agent_version.clone()),
                ("labels", labels(self)),
                ("capabilities", told.capabilities.join(" ")),
            ],
        )
    }

    fn names(&self) -> Vec<String> {
        vec![self.name.clone()]
    }
}

impl View for ListJoinTokensResponse {
    const KIND: &'static str = "drover.v1.ListJoinTokensResponse";

    fn show(&self, look: &Look) -> String {
        let row = |token: &JoinToken| Row {
            cells: vec![
                token.id.clone(),
                token.owner.clone(),
                age(look.now, token.create_time.as_ref()),
                token.expire_time.as_ref().map(stamp).unwrap_or_default(),
                token.node_id.clone(),
            ],
            style: if token.use_time.is_some() { FAINT } else { Style::new() },
        };
        let rows: Vec<Row> = self.tokens.iter().map(row).collect();
        table(look, &["ID", "OWNER", "AGE", "GOOD UNTIL", "USED BY"], &rows)
    }

    fn names(&self) -> Vec<String> {
        self.tokens.iter().map(|token| token.id.clone()).collect()
    }
}

impl View for CreateJoinTokenResponse {
    const KIND: &'static str = "drover.v1.CreateJoinTokenResponse";

    fn show(&self, _: &Look) -> String {
        self.secret.clone()
    }

    fn names(&self) -> Vec<String> {
        self.token.iter().map(|token| token.id.clone()).collect()
    }
}

fn row(node: &Node, look: &Look) -> Row {
    let mut cells = vec![
        node.name.clone(),
        standing(node),
        slots(node),
        node.sessions.to_string(),
        node.load.map(|load| format!("{:.2}", load.load_per_cpu)).unwrap_or_default(),
        heard(node),
    ];
    if look.wide {
        let told = node.facts.clone().unwrap_or_default();
        cells.extend([node.id.clone(), told.hostname, told.agent_version, labels(node).replace('\n', ",")]);
    }
    let style = match node.standing() {
        NodeStanding::Lost | NodeStanding::Unreachable => BAD,
        NodeStanding::Revoked => FAINT,
        NodeStanding::Joined => BUSY,
        NodeStanding::Reachable if node.cordoned => BUSY,
        NodeStanding::Unspecified | NodeStanding::Reachable => Style::new(),
    };
    Row { cells, style }
}

fn standing(node: &Node) -> String {
    let word = word(node.standing().as_str_name(), "NODE_STANDING_");
    match &node.drain {
        Some(_) if node.runs == 0 => format!("{word}, drained"),
        Some(_) => format!("{word}, draining"),
        None if node.cordoned => format!("{word}, cordoned"),
        None => word,
    }
}

/// Who drains it, since when, and what is left.
fn drain(node: &Node, look: &Look) -> String {
    let Some(drain) = &node.drain else { return String::new() };
    let since = age(look.now, drain.start_time.as_ref());
    let deadline = drain.deadline_time.as_ref().map_or("they end by themselves".to_owned(), |at| {
        format!("what runs at {} (controller's clock) is stopped", stamp(at))
    });
    let left = count(node.runs.into(), "run is", "runs are");
    format!("by {} for {since}; {left} left; {deadline}", drain.by)
}

fn slots(node: &Node) -> String {
    format!("{}/{}", node.slots_used, node.facts.as_ref().map_or(0, |told| told.slots))
}

fn heard(node: &Node) -> String {
    node.heartbeat_age.as_ref().map_or("never".to_owned(), |age| format!("{} ago", length(age)))
}

fn labels(node: &Node) -> String {
    let labels = node.facts.iter().flat_map(|told| &told.labels);
    labels.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("\n")
}

fn pressure(node: &Node) -> String {
    let text = |cpu: f64, memory: f64, io: f64| {
        format!("processor {cpu:.0} %, memory {memory:.0} %, disk {io:.0} %")
    };
    node.load.map(|load| text(load.cpu_pressure, load.memory_pressure, load.io_pressure)).unwrap_or_default()
}

fn share(free: Option<(u64, u64)>) -> String {
    free.map(|(free, all)| format!("{} of {} free", bytes(free), bytes(all))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use drover_proto::v1::{NodeFacts, NodeLoad};

    use super::*;

    #[test]
    fn nodes_show_how_they_stand_and_how_full_they_are() {
        let node = Node {
            name: "build-1".into(),
            standing: NodeStanding::Reachable.into(),
            cordoned: true,
            slots_used: 2,
            sessions: 5,
            facts: Some(NodeFacts { slots: 8, ..Default::default() }),
            heartbeat_age: Some(prost_types::Duration { seconds: 4, nanos: 0 }),
            load: Some(NodeLoad { load_per_cpu: 0.251, ..Default::default() }),
            ..Default::default()
        };
        let other = Node { name: "b".into(), standing: NodeStanding::Joined.into(), ..Default::default() };
        let list = ListNodesResponse { nodes: vec![node, other], ..Default::default() };
        insta::assert_snapshot!(list.show(&Look::default()), @r"
        NAME     STANDING             SLOTS  SESSIONS  LOAD  HEARD
        build-1  reachable, cordoned  2/8    5         0.25  4s ago
        b        joined               0/0    0         -     never
        ");
    }
}
