//! Removing a workspace: what would be lost is saved and compared first, then the directory goes away by a rename, then
//! the branch by the rules. It only goes forward: what fails is taken up again where it stopped.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use drover_domain::id::SessionId;
use drover_domain::presence::Presence;
use drover_domain::session::{Fault, Kept, Removal};
use serde::{Deserialize, Serialize};

use super::Home;
use crate::git::failure::Failure;
use crate::git::read::{self, blocking};
use crate::ledger::{KeptBranch, Write};
use crate::step::Step;
use crate::workspace::{Label, Look, Site};

/// What the ledger keeps of a removal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// What was saved, in words. None: nobody has looked yet.
    saved: Option<Vec<String>>,
    look: Option<Look>,
    branch: Option<String>,
    trash: Vec<String>,
    reasons: Vec<String>,
    /// The branch that stays only for now.
    #[serde(default)]
    claim: Option<Claim>,
    /// What is removed, if the ledger does not know it by the session's workspace.
    #[serde(default)]
    of: Option<Remaining>,
}

/// What is left of a session that nothing is wanted of any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remaining {
    pub common: PathBuf,
    pub path: PathBuf,
    pub branch: String,
    /// Ledger or registry recorded that the branch is the session's: else it is a person's.
    pub is_recorded: bool,
    pub base: String,
    pub generation: u64,
    pub epoch: u64,
    pub run_as: Option<String>,
    pub label: Label,
}

/// What says later whose a branch is that was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    common: PathBuf,
    branch: String,
    base: String,
    /// False: it is gone, or a person's from now on.
    is_ours: bool,
}

impl Leaving {
    /// Nothing is done yet about these remains.
    pub fn of(remaining: Remaining) -> Self {
        Self { of: Some(remaining), ..Self::default() }
    }

    /// The remains that it is about, if it is not about a session's own workspace.
    pub fn remaining(self) -> Option<Remaining> {
        self.of
    }

    /// As it is reported.
    pub fn kept(&self) -> Kept {
        let words = |all: &[String]| all.iter().map(|text| text.as_str().into()).collect::<Vec<_>>();
        let mut reasons = words(&self.reasons);
        reasons.extend(words(self.saved.as_deref().unwrap_or_default()));
        Kept { branch: self.branch.as_deref().map(Into::into), trash: words(&self.trash), reasons }
    }
}

impl Leaving {
    /// What the ledger keeps of the branch once the session is over.
    pub fn claimed(&self, session: SessionId) -> Option<Write> {
        let Claim { common, branch, base, is_ours } = self.claim.clone()?;
        let kept = KeptBranch { branch: branch.into(), base: base.into() };
        Some(match is_ours {
            true => Write::KeepBranch { session, common, kept },
            false => Write::GiveUpBranch { session, common },
        })
    }
}

pub fn steps(home: &Home, site: &Site, removal: Removal, label: &Label) -> Vec<Box<dyn Step<Leaving>>> {
    let with = || Removing { home: home.clone(), site: site.clone(), removal, label: label.clone() };
    vec![
        Box::new(Save(with())),
        Box::new(PutAway(with())),
        Box::new(LetGo(with())),
        Box::new(DropBranch(with())),
    ]
}

/// The same of a session's remains, among which may be what an earlier removal left half-way.
pub fn clearing(home: &Home, site: &Site, removal: Removal, label: &Label) -> Vec<Box<dyn Step<Leaving>>> {
    let with = Removing { home: home.clone(), site: site.clone(), removal, label: label.clone() };
    let mut all: Vec<Box<dyn Step<Leaving>>> = vec![Box::new(LetLeftGo(with))];
    all.extend(steps(home, site, removal, label));
    all
}

/// What is done with a workspace whose repository is gone: there is nowhere to save its work, so that it stays.
pub fn without_repository(home: &Home, session: SessionId, workspace: &Path) -> Vec<Box<dyn Step<Leaving>>> {
    let aside = home.worktrees.join(format!(".kept-{session}"));
    vec![Box::new(SetAside { workspace: workspace.to_owned(), aside })]
}

/// Moves the directory out of the way of later sessions of the same name.
struct SetAside {
    workspace: PathBuf,
    aside: PathBuf,
}

#[async_trait]
impl Step<Leaving> for SetAside {
    fn name(&self) -> &'static str {
        "set aside"
    }

    async fn probe(&self, leaving: &mut Leaving) -> Presence<()> {
        match self.workspace.try_exists() {
            Ok(true) => Presence::Absent,
            Ok(false) => {
                leaving.reasons = self.told();
                Presence::Present(())
            }
            Err(error) => Presence::Unknown(error.to_string()),
        }
    }

    async fn make(&self, leaving: &mut Leaving) -> Result<(), Fault> {
        if self.workspace.exists() {
            let renamed = std::fs::rename(&self.workspace, &self.aside);
            renamed.map_err(|error| Failure::io("set aside", &self.workspace, &error).fault(self.name()))?;
        }
        leaving.reasons = self.told();
        Ok(())
    }
}

impl SetAside {
    fn told(&self) -> Vec<String> {
        let files =
            format!("its repository is gone, so its files are kept as they are: {}", self.aside.display());
        self.aside.exists().then_some(files).into_iter().collect()
    }
}

struct Removing {
    home: Home,
    site: Site,
    removal: Removal,
    label: Label,
}

/// Saves whatever is in directories that were renamed away by a removal nobody knows of, and gives them up.
struct LetLeftGo(Removing);

#[async_trait]
impl Step<Leaving> for LetLeftGo {
    fn name(&self) -> &'static str {
        "let what was left go"
    }

    /// Once the workspace was saved what is on its way out is the workspace, of which more is known.
    async fn probe(&self, leaving: &mut Leaving) -> Presence<()> {
        if leaving.saved.is_some() {
            return Presence::Present(());
        }
        self.0.home.workspaces.probe_leaving(&self.0.site).await.into_gone()
    }

    async fn make(&self, _: &mut Leaving) -> Result<(), Fault> {
        let Removing { home, site, label, .. } = &self.0;
        let failed = |failure: Failure| failure.fault(self.name());
        let look = home.workspaces.look_at_left(site, label).map_err(failed)?;
        home.workspaces.let_go(site, Some(&look)).await.map(drop).map_err(failed)
    }
}

/// Looks for work and saves it; done again, it finds what it saved before.
struct Save(Removing);

#[async_trait]
impl Step<Leaving> for Save {
    fn name(&self) -> &'static str {
        "save"
    }

    /// Only a new look can tell whether something came since, unless the files are gone already.
    async fn probe(&self, _: &mut Leaving) -> Presence<()> {
        Presence::Absent
    }

    async fn make(&self, leaving: &mut Leaving) -> Result<(), Fault> {
        let Removing { home, site, removal, label } = &self.0;
        let failed = |failure: Failure| failure.fault(self.name());
        let (work, mut look) = home.workspaces.look_now(site, *removal).await.map_err(failed)?;
        look.label = label.clone();
        home.workspaces.save(site, &work, &mut look).await.map_err(failed)?;
        if work.is_present || leaving.saved.is_none() {
            let mut told = work.told();
            // Later it was the removal itself that took the directory away, after it had saved what was in it.
            if !work.is_present && home.workspaces.save_vanished(site, &look).await.map_err(failed)?.is_some()
            {
                told.push("saved to the trash: its last checkpoint, because its directory was gone".into());
            }
            leaving.saved = Some(told);
            leaving.look = Some(look);
        }
        Ok(())
    }
}

/// Renames the directory away and takes the worktree's entry out of the repository.
struct PutAway(Removing);

#[async_trait]
impl Step<Leaving> for PutAway {
    fn name(&self) -> &'static str {
        "put away"
    }

    async fn probe(&self, _: &mut Leaving) -> Presence<()> {
        self.0.home.workspaces.probe_worktree(&self.0.site).await.map(drop).into_gone()
    }

    async fn make(&self, _: &mut Leaving) -> Result<(), Fault> {
        let put = self.0.home.workspaces.put_away(&self.0.site).await;
        put.map_err(|failure| failure.fault(self.name()))
    }
}

/// Saves what was written between the look and the rename, or since, and gives the directory up.
struct LetGo(Removing);

#[async_trait]
impl Step<Leaving> for LetGo {
    fn name(&self) -> &'static str {
        "let go"
    }

    async fn probe(&self, _: &mut Leaving) -> Presence<()> {
        self.0.home.workspaces.probe_leaving(&self.0.site).await.into_gone()
    }

    async fn make(&self, leaving: &mut Leaving) -> Result<(), Fault> {
        let late = self.0.home.workspaces.let_go(&self.0.site, leaving.look.as_ref()).await;
        let late = late.map_err(|failure| failure.fault(self.name()))?;
        if late > 0 {
            let text = format!("saved to the trash: {late} written while it was removed");
            leaving.saved.get_or_insert_default().push(text);
        }
        Ok(())
    }
}

/// Deletes the branch if nothing is lost by it.
struct DropBranch(Removing);

#[async_trait]
impl Step<Leaving> for DropBranch {
    fn name(&self) -> &'static str {
        "branch"
    }

    /// What became of it is known only by doing it again, which changes nothing.
    async fn probe(&self, _: &mut Leaving) -> Presence<()> {
        Presence::Absent
    }

    async fn make(&self, leaving: &mut Leaving) -> Result<(), Fault> {
        let Removing { home, site, removal, label: _ } = &self.0;
        let failed = |failure: Failure| failure.fault(self.name());
        let look = leaving.look.as_ref();
        let fate = home.workspaces.drop_branch_after(site, *removal, look).await.map_err(failed)?;
        let (common, prefix) = (site.common.clone(), site.trash_prefix());
        let trash = blocking(move || read::references(&common, &prefix)).await.map_err(failed)?;
        leaving.trash = trash.into_iter().map(|(name, _)| name).collect();
        leaving.branch = fate.keeps().then(|| site.branch.clone());
        leaving.reasons = fate.reason(&site.branch).into_iter().collect();
        leaving.claim = Some(Claim {
            common: site.common.clone(),
            branch: site.branch.clone(),
            base: site.base.clone(),
            is_ours: fate.is_for_now(),
        });
        Ok(())
    }
}

trait IntoGone {
    /// A removal's effect is that the thing is absent.
    fn into_gone(self) -> Presence<()>;
}

impl IntoGone for Presence<()> {
    fn into_gone(self) -> Presence<()> {
        match self {
            Self::Present(()) => Presence::Absent,
            Self::Absent => Presence::Present(()),
            Self::Unknown(why) => Presence::Unknown(why),
        }
    }
}
