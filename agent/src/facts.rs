//! What an agent says of itself when it links: the machine, its boot, its version, what it offers.

use std::fs;
use std::path::Path;

use drover_domain::labels::Labels;
use drover_domain::node::NodeFacts;
use drover_domain::placement::{runtime_capability, workspace_capability};
use drover_domain::spec::{RuntimeKind, WorkspaceKind};

use crate::chance;
use crate::pressure;
use crate::process::Boot;

/// What the operator decides of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Sessions at once; none: after the machine's size.
    pub slots: Option<u32>,
    pub labels: Labels,
}

/// Gathers the facts of this start of the agent.
pub fn gather(offer: &Offer, boot: &Boot) -> NodeFacts {
    NodeFacts {
        machine: machine().into(),
        hostname: hostname().into(),
        agent_version: env!("CARGO_PKG_VERSION").into(),
        boot: boot.as_str().into(),
        incarnation: hex(&chance::bytes::<8>()).into(),
        labels: offer.labels.clone(),
        slots: offer.slots.unwrap_or_else(default_slots),
        capabilities: vec![
            runtime_capability(RuntimeKind::Process).into(),
            workspace_capability(WorkspaceKind::Worktree).into(),
        ],
        notes: Vec::new(),
    }
}

pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Agent programs mostly wait for somebody else's computer: four for each processor is a careful start.
fn default_slots() -> u32 {
    pressure::cpus().saturating_mul(4)
}

/// The id under which every program on this machine knows it, so that a path can be said to be on it. A machine that
/// was given none goes by its host name.
pub fn machine() -> String {
    let given =
        ["/etc/machine-id", "/var/lib/dbus/machine-id"].into_iter().find_map(|path| read_id(Path::new(path)));
    given.unwrap_or_else(|| format!("host-{}", hostname()))
}

fn read_id(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let id = text.trim();
    (id.len() >= 16 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())).then(|| id.to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_keeps_its_id_and_each_start_of_an_agent_has_its_own() {
        let offer = Offer { slots: Some(3), labels: Labels::default() };
        let boot = Boot::from("this");
        let (first, second) = (gather(&offer, &boot), gather(&offer, &boot));
        assert_eq!(first.machine, second.machine);
        assert_ne!(first.incarnation, second.incarnation);
        assert_eq!(first.slots, 3);
        assert!(gather(&Offer::default(), &boot).slots >= 4);
    }
}
