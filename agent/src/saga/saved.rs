//! Saved work and the sagas: what is written on it when a workspace is removed, and how it is found again.

use std::fmt::Write;
use std::path::PathBuf;

use drover_domain::converge::Assignment;
use drover_domain::repository::Repository;
use drover_domain::session::{Fault, FaultCode};
use drover_domain::spec::Secrets;
use drover_proto::convert;
use drover_proto::node_v1;
use prost::Message;

use super::Home;
use crate::workspace::{Label, Owner, TrashItem};

/// What saved work says of its session, so that it can be listed and made a session again by itself.
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

/// What the node was told of the session whose work this is; none: it cannot be read.
pub fn assignment(label: &Label) -> Option<node_v1::Assignment> {
    let digits = label.assignment.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Vec<u8> = digits.chunks(2).map(byte).collect::<Option<_>>()?;
    node_v1::Assignment::decode(bytes.as_slice()).ok().filter(|told| told.spec.is_some())
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
        let read = assignment(&label).unwrap();
        assert_eq!(read.session_id, told.session.to_string());
        assert_eq!(assignment(&Label { assignment: "zz".into(), ..Label::default() }), None);
    }
}
