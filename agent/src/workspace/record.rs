//! What a saved commit says of itself: the file `session` beside the state of its worktree, so that the trash can be
//! listed with nothing but git. It lies where the session's user can write: nothing in it says who may do what.

use serde::{Deserialize, Serialize};

use super::Site;

/// What the caller knows of the session and the workspace does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    pub project: String,
    pub name: String,
    /// As the spec names it.
    pub repository: String,
}

/// Which part of a removal's work a commit holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// All files, and the worktree's state.
    Work,
    /// Files that were written while it was removed.
    Late,
    /// Only the commits of a branch that was deleted.
    Tip,
    /// What was changed since the commit, of a workspace that stays.
    Checkpoint,
}

/// The newest form; a newer one is not read.
const VERSION: u32 = 1;

/// The file `session`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub(super) version: u32,
    pub part: Part,
    /// The number of the removal: all its parts bear the same.
    pub removal: u64,
    pub session: String,
    /// Short ids.
    pub installation: String,
    pub node: String,
    pub label: Label,
    pub branch: String,
    /// Where the branch was.
    pub tip: Option<String>,
    pub base: String,
    /// Where the workspace was, and its entry in the repository.
    pub path: String,
    pub admin: Option<String>,
    pub run_as: Option<String>,
    pub created_millis: i64,
    /// Of the files that differ from the commit.
    pub bytes: u64,
    pub files: u64,
}

impl Record {
    pub(super) fn new(site: &Site, part: Part, removal: u64, created_millis: i64) -> Self {
        Self {
            part,
            removal,
            session: site.mark.session.to_string(),
            installation: site.mark.installation.clone(),
            node: site.mark.node.clone(),
            branch: site.branch.clone(),
            base: site.base.clone(),
            path: site.path.to_string_lossy().into_owned(),
            run_as: site.run_as.as_ref().map(|who| who.name.clone()),
            created_millis,
            ..Self::nobodys()
        }
    }

    /// For what is only compared.
    pub(super) fn nobodys() -> Self {
        Self {
            version: VERSION,
            part: Part::Work,
            removal: 0,
            session: String::new(),
            installation: String::new(),
            node: String::new(),
            label: Label::default(),
            branch: String::new(),
            tip: None,
            base: String::new(),
            path: String::new(),
            admin: None,
            run_as: None,
            created_millis: 0,
            bytes: 0,
            files: 0,
        }
    }

    /// `None`: of another version, or not one at all.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok().filter(|record: &Self| record.version == VERSION)
    }

    pub(super) fn written(&self) -> std::io::Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(std::io::Error::other)
    }
}
