//! Making a workspace: the repository (a path, or the node's copy of a URL), the branch at the resolved base, the
//! worktree's entry, the files. What the ledger keeps of it is enough to find, compare and remove it later.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use drover_domain::converge::Assignment;
use drover_domain::presence::Presence;
use drover_domain::repository::Repository;
use drover_domain::session::{Fault, Removal, Workspace};
use serde::{Deserialize, Serialize};

use super::Home;
use crate::git::failure::{Cause, Failure};
use crate::git::read::{self, Origin, blocking};
use crate::git::worktrees::Mark;
use crate::step::Step;
use crate::workspace::{Site, Stage};

/// What the ledger keeps of a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The repository's common directory, once it was opened.
    pub common: Option<PathBuf>,
    /// The commit that the base was resolved to, once.
    pub base: Option<String>,
    pub branch: String,
    pub path: PathBuf,
    pub run_as: Option<String>,
}

impl Layout {
    /// Where the assigned session's workspace is to be.
    pub fn of(home: &Home, assignment: &Assignment) -> Self {
        let known = assignment.workspace.as_ref();
        let fresh = || home.worktrees.join(assignment.project.as_str()).join(assignment.name.as_str());
        Self {
            common: None,
            base: known
                .map(|workspace| &workspace.base_commit)
                .or(assignment.base_commit.as_ref())
                .map(|base| base.as_ref().to_owned()),
            branch: known.map_or(&assignment.branch, |workspace| &workspace.branch).as_ref().to_owned(),
            path: known.map_or_else(fresh, |workspace| PathBuf::from(workspace.path.as_ref())),
            run_as: assignment.spec.run_as.as_deref().map(str::to_owned),
        }
    }

    /// The workspace for the git functions; none before its repository and base are known.
    pub fn site(&self, home: &Home, of: &Assignment) -> Result<Option<Site>, Fault> {
        let (Some(common), Some(base)) = (&self.common, &self.base) else { return Ok(None) };
        Ok(Some(Site {
            common: common.clone(),
            mark: Mark {
                installation: home.installation.short(),
                node: home.node.short(),
                session: of.session,
                fence: of.fence,
            },
            root: home.worktrees.clone(),
            path: self.path.clone(),
            branch: self.branch.clone(),
            base: base.clone(),
            run_as: home.account(self.run_as.as_deref())?,
        }))
    }

    /// Whether its repository was there once and is not any more.
    pub fn has_lost_its_repository(&self) -> bool {
        self.common.as_deref().is_some_and(|common| matches!(common.try_exists(), Ok(false)))
    }

    /// As it is reported.
    pub fn reported(&self) -> Workspace {
        Workspace {
            path: self.path.to_string_lossy().into(),
            branch: self.branch.as_str().into(),
            base_commit: self.base.as_deref().unwrap_or_default().into(),
        }
    }
}

/// The steps that make it.
pub fn steps(home: &Home, assignment: &Assignment) -> Vec<Box<dyn Step<Layout>>> {
    let with = || Making { home: home.clone(), assignment: assignment.clone() };
    vec![
        Box::new(OpenRepository(with())),
        Box::new(MakeBranch(with())),
        Box::new(MakeWorktree(with())),
        match assignment.origin {
            Some(_) => Box::new(Restore(with())),
            None => Box::new(CheckOut(with())),
        },
    ]
}

struct Making {
    home: Home,
    assignment: Assignment,
}

impl Making {
    fn site(&self, layout: &Layout, step: &'static str) -> Result<Site, Fault> {
        let early =
            || Failure::new(step, &layout.path, Cause::Other("the repository is not open yet".into()));
        layout.site(&self.home, &self.assignment)?.ok_or_else(|| early().fault(step))
    }

    fn origin(&self) -> Origin {
        match self.assignment.spec.repository {
            Repository::Url(_) => Origin::Mirror,
            Repository::Path { .. } => Origin::Path,
        }
    }
}

/// Opens the repository that `assignment` names, without asking its remote. `None`: the node has no copy of it yet.
pub async fn known_repository(home: &Home, assignment: &Assignment) -> Result<Option<PathBuf>, Fault> {
    const NAME: &str = "repository";
    let who = home.account(assignment.spec.run_as.as_deref())?;
    let path = match &assignment.spec.repository {
        Repository::Url(url) => {
            let path = home.mirrors.path(url, who.as_ref()).map_err(|failure| failure.fault(NAME))?;
            return Ok(path.canonicalize().ok());
        }
        Repository::Path { path, .. } => Path::new(path.as_str()),
    };
    let opened = read::open(home.workspaces.git(), path, who.as_ref()).await;
    opened.map(|opened| Some(opened.common)).map_err(|failure| failure.fault(NAME))
}

/// Has the repository on this machine. A copy of a URL belongs to the node, not to the session: it is never undone.
struct OpenRepository(Making);

#[async_trait]
impl Step<Layout> for OpenRepository {
    fn name(&self) -> &'static str {
        "repository"
    }

    async fn probe(&self, layout: &mut Layout) -> Presence<()> {
        match layout.common.as_deref().map(Path::try_exists) {
            Some(Ok(true)) => Presence::Present(()),
            Some(Ok(false)) | None => Presence::Absent,
            Some(Err(error)) => Presence::Unknown(error.to_string()),
        }
    }

    async fn make(&self, layout: &mut Layout) -> Result<(), Fault> {
        let Making { home, assignment } = &self.0;
        let known = known_repository(home, assignment).await?;
        layout.common = match &assignment.spec.repository {
            // What is already based on a commit of it needs nothing newer.
            Repository::Url(url) if known.is_none() || layout.base.is_none() => {
                let who = home.account(assignment.spec.run_as.as_deref())?;
                let fetched = home.mirrors.fetch(url, who.as_ref()).await;
                Some(fetched.map_err(|failure| failure.fault(self.name()))?)
            }
            Repository::Url(_) | Repository::Path { .. } => known,
        };
        Ok(())
    }
}

/// The branch, and beside it the reference that says whose it is and keeps its base.
struct MakeBranch(Making);

#[async_trait]
impl Step<Layout> for MakeBranch {
    fn name(&self) -> &'static str {
        "branch"
    }

    /// Resolves the base, once: whatever moves later, this session stays with this commit.
    async fn intend(&self, layout: &mut Layout) -> Result<(), Fault> {
        if layout.base.is_some() {
            return Ok(());
        }
        let Some(common) = layout.common.clone() else { return self.0.site(layout, self.name()).map(drop) };
        if let Some(origin) = &self.0.assignment.origin {
            let item = self.0.home.saved_as(common, origin).await?;
            layout.base = Some(item.record.base.clone());
            return Ok(());
        }
        let (base, origin) = (self.0.assignment.spec.base.clone(), self.0.origin());
        let resolved = blocking(move || read::resolve(&common, base.as_deref(), origin)).await;
        layout.base = Some(resolved.map_err(|failure| failure.fault(self.name()))?.commit);
        Ok(())
    }

    async fn probe(&self, layout: &mut Layout) -> Presence<()> {
        match self.0.site(layout, self.name()) {
            Ok(site) => match self.0.home.workspaces.probe_branch(&site).await {
                Presence::Present(branch) if branch.is_ours => Presence::Present(()),
                // Somebody else's: making it says so.
                Presence::Present(_) | Presence::Absent => Presence::Absent,
                Presence::Unknown(why) => Presence::Unknown(why),
            },
            Err(fault) => Presence::Unknown(fault.text.into()),
        }
    }

    async fn make(&self, layout: &mut Layout) -> Result<(), Fault> {
        let site = self.0.site(layout, self.name())?;
        self.0.home.workspaces.make_branch(&site, true).await.map_err(|failure| failure.fault(self.name()))
    }

    async fn undo(&self, layout: &mut Layout) -> Result<(), Fault> {
        let site = self.0.site(layout, self.name())?;
        let dropped = self.0.home.workspaces.drop_branch(&site, Removal::default()).await;
        dropped.map(drop).map_err(|failure| failure.fault(self.name()))
    }
}

/// The worktree's entry, locked with the session's mark, without its files.
struct MakeWorktree(Making);

#[async_trait]
impl Step<Layout> for MakeWorktree {
    fn name(&self) -> &'static str {
        "worktree"
    }

    async fn probe(&self, layout: &mut Layout) -> Presence<()> {
        self.0.stage(layout, self.name(), Stage::Registered).await
    }

    async fn make(&self, layout: &mut Layout) -> Result<(), Fault> {
        let site = self.0.site(layout, self.name())?;
        self.0.home.workspaces.make_worktree(&site).await.map_err(|failure| failure.fault(self.name()))
    }

    /// The files go with it; should they be complete, what is in them is saved first.
    async fn undo(&self, layout: &mut Layout) -> Result<(), Fault> {
        let site = self.0.site(layout, self.name())?;
        self.0.home.workspaces.undo(&site).await.map(drop).map_err(|failure| failure.fault(self.name()))
    }
}

/// The files; they lie in the worktree and go with it.
struct CheckOut(Making);

#[async_trait]
impl Step<Layout> for CheckOut {
    fn name(&self) -> &'static str {
        "files"
    }

    async fn probe(&self, layout: &mut Layout) -> Presence<()> {
        self.0.stage(layout, self.name(), Stage::CheckedOut).await
    }

    async fn make(&self, layout: &mut Layout) -> Result<(), Fault> {
        let site = self.0.site(layout, self.name())?;
        self.0.home.workspaces.check_out(&site).await.map_err(|failure| failure.fault(self.name()))
    }
}

/// Saved work instead of the base's files: the branch where it was, the index and what was not finished with it.
struct Restore(Making);

#[async_trait]
impl Step<Layout> for Restore {
    fn name(&self) -> &'static str {
        "restore"
    }

    async fn probe(&self, layout: &mut Layout) -> Presence<()> {
        match self.0.site(layout, self.name()) {
            Ok(site) => self.0.home.workspaces.probe_restored(&site).await,
            Err(fault) => Presence::Unknown(fault.text.into()),
        }
    }

    async fn make(&self, layout: &mut Layout) -> Result<(), Fault> {
        let Making { home, assignment } = &self.0;
        let site = self.0.site(layout, self.name())?;
        let origin = assignment.origin.as_deref().unwrap_or_default();
        let item = home.saved_as(site.common.clone(), origin).await?;
        home.workspaces.restore_into(&site, &item).await.map_err(|failure| failure.fault(self.name()))
    }
}

impl Making {
    async fn stage(&self, layout: &Layout, step: &'static str, least: Stage) -> Presence<()> {
        match self.site(layout, step) {
            Ok(site) => match self.home.workspaces.probe_worktree(&site).await {
                Presence::Present(stage) if stage >= least => Presence::Present(()),
                Presence::Present(_) | Presence::Absent => Presence::Absent,
                Presence::Unknown(why) => Presence::Unknown(why),
            },
            Err(fault) => Presence::Unknown(fault.text.into()),
        }
    }
}
