//! Saved work and the sagas: the checkpoint of a workspace that stays, what is written on the work of one that is removed,
//! and how that is found again.

use std::fmt::Write;
use std::path::PathBuf;

use async_trait::async_trait;
use drover_domain::converge::Assignment;
use drover_domain::presence::Presence;
use drover_domain::repository::Repository;
use drover_domain::session::{Fault, FaultCode};
use drover_domain::spec::Secrets;
use drover_proto::convert;
use prost::Message;
use serde::{Deserialize, Serialize};

use super::Home;
use crate::step::Step;
use crate::workspace::{Label, Owner, Site, TrashItem};

/// What saved work says of its session, so that it can be listed by itself, and a registry that was lost be told what it
/// was. It is written where the session's user can write: who acts on it asks the registry first.
pub fn label(assignment: &Assignment) -> Label {
    // Values of secrets are kept nowhere but where they are needed.
    let told = Assignment { secrets: Secrets::default().into(), ..assignment.clone() };
    let bytes = convert::assignment::to_wire(&told).encode_to_vec();
    let hex = bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let repository = match &assignment.spec.repository {
        Repository::Url(url) => url.as_str().to_owned(),
        Repository::Path { path, .. } => path.as_str().to_owned(),
    };
    let (project, name) = (assignment.project.to_string(), assignment.name.to_string());
    Label { project, name, repository, assignment: hex }
}

/// What a checkpoint made, or found made. None: there was nothing to save.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken(pub Option<(String, String)>);

/// Saves a workspace that stays.
pub fn checkpoint(home: &Home, site: &Site) -> Vec<Box<dyn Step<Taken>>> {
    vec![Box::new(Take { home: home.clone(), site: site.clone() })]
}

struct Take {
    home: Home,
    site: Site,
}

#[async_trait]
impl Step<Taken> for Take {
    fn name(&self) -> &'static str {
        "save"
    }

    /// Saving again what was saved finds it, and writes nothing.
    async fn probe(&self, _: &mut Taken) -> Presence<()> {
        Presence::Absent
    }

    async fn make(&self, taken: &mut Taken) -> Result<(), Fault> {
        let saved = self.home.workspaces.checkpoint(&self.site).await;
        let saved = saved.map_err(|failure| failure.fault("checkpoint"))?;
        *taken = Taken(saved.map(|saved| (saved.reference, saved.commit)));
        Ok(())
    }
}

impl Home {
    /// Whose saved work is this node's.
    pub fn owner(&self) -> Owner {
        Owner { installation: self.installation.short(), node: self.node.short() }
    }

    /// Everything saved in these repositories, the oldest first.
    pub async fn saved(&self, repositories: &[PathBuf]) -> Vec<TrashItem> {
        self.workspaces.trash(repositories, &self.owner()).await
    }

    /// The saved work of this id in a repository.
    pub async fn saved_as(&self, repository: PathBuf, id: &str) -> Result<TrashItem, Fault> {
        let found = self.saved(&[repository]).await.into_iter().find(|item| item.id == id);
        found.ok_or_else(|| Fault {
            code: FaultCode::PathGone,
            step: "restore".into(),
            text: format!("{id} is not in the trash any more").into(),
            hint: "droverctl trash ls lists what there is; remove this session".into(),
            retryable: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use drover_proto::node_v1;

    use super::*;
    use crate::converge::tests::{Machine, running};

    #[test]
    fn a_label_tells_what_the_node_was_told_but_no_secret() {
        let machine = Machine::new();
        let mut told = machine.assignment(1, running(1));
        told.secrets = std::sync::Arc::new(Secrets([("TOKEN".into(), "hunter2".into())].into()));
        let label = label(&told);
        let hidden: String = b"hunter2".iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!label.assignment.contains(&hidden), "a secret is in it");
        let digit = |at: usize| u8::from_str_radix(&label.assignment[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..label.assignment.len()).step_by(2).map(digit).collect();
        let read = node_v1::Assignment::decode(bytes.as_slice()).unwrap();
        assert_eq!(read.session_id, told.session.to_string());
    }
}
