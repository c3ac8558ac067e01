//! Saved work and the sagas: the checkpoint of a workspace that stays, what is written on the work of one that is removed,
//! and how that is found again.

use std::path::PathBuf;

use async_trait::async_trait;
use drover_domain::converge::Assignment;
use drover_domain::presence::Presence;
use drover_domain::repository::Repository;
use drover_domain::session::{Fault, FaultCode};
use serde::{Deserialize, Serialize};

use super::Home;
use crate::step::Step;
use crate::workspace::{Label, Owner, Site, TrashItem};

/// What saved work says of its session, so that it can be listed by itself. It is written where the session's user can
/// write: who acts on it asks the registry first.
pub fn label(assignment: &Assignment) -> Label {
    let repository = match &assignment.spec.repository {
        Repository::Url(url) => url.as_str().to_owned(),
        Repository::Path { path, .. } => path.as_str().to_owned(),
    };
    Label { project: assignment.project.to_string(), name: assignment.name.to_string(), repository }
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
        self.one_saved(repository, id, |_| true).await
    }

    /// The same, if it was saved then: an id comes again once its work was purged.
    pub async fn saved_then(
        &self,
        repository: PathBuf,
        id: &str,
        saved_millis: i64,
    ) -> Result<TrashItem, Fault> {
        self.one_saved(repository, id, |item| item.record.created_millis == saved_millis).await
    }

    async fn one_saved(
        &self,
        repository: PathBuf,
        id: &str,
        is_meant: impl Fn(&TrashItem) -> bool,
    ) -> Result<TrashItem, Fault> {
        let all = self.saved(&[repository]).await;
        let found = all.into_iter().find(|item| item.id == id && is_meant(item));
        found.ok_or_else(|| Fault {
            code: FaultCode::PathGone,
            step: "restore".into(),
            text: format!("{id} is not in the trash any more").into(),
            hint: "droverctl trash ls lists what there is; remove this session".into(),
            retryable: false,
        })
    }
}
