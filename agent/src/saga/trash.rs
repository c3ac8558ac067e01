//! What people do to the trash, as sagas about one item: putting it beside, in a directory with a branch, and deleting it
//! for good. The directory becomes the wanted one last and at once, so what is taken back was nobody's yet.

use std::path::PathBuf;

use async_trait::async_trait;
use drover_domain::presence::Presence;
use drover_domain::session::Fault;
use serde::{Deserialize, Serialize};

use super::Home;
use crate::git::failure::{Cause, Failure};
use crate::step::Step;
use crate::workspace::{Aside, Saved, TrashItem};

/// What is to be put beside, and as what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Putting {
    /// The item, where it lies, and when it was saved: ids come again.
    pub item: String,
    pub common: PathBuf,
    pub saved_millis: i64,
    pub directory: PathBuf,
    pub branch: String,
    /// Tells the directory's name until it is whole from every other.
    pub tag: String,
    /// None: nothing was looked at yet.
    pub aside: Option<Aside>,
}

impl Putting {
    pub fn of(item: &TrashItem, directory: PathBuf, branch: String, tag: String) -> Self {
        Self {
            item: item.id.clone(),
            common: item.common.clone(),
            saved_millis: item.record.created_millis,
            directory,
            branch,
            tag,
            aside: None,
        }
    }

    async fn item(&self, home: &Home) -> Result<TrashItem, Fault> {
        home.saved_then(self.common.clone(), &self.item, self.saved_millis).await
    }

    /// What was looked at before the first intent.
    fn looked(&mut self) -> Result<&mut Aside, Fault> {
        let why = Cause::Other("its record does not say what was there".into());
        let unknown = Failure::new("restore saved work", &self.directory, why).fault("files");
        self.aside.as_mut().ok_or(unknown)
    }
}

pub fn putting(home: &Home) -> Vec<Box<dyn Step<Putting>>> {
    vec![Box::new(Files(home.clone())), Box::new(Branch(home.clone())), Box::new(Place(home.clone()))]
}

/// The files, under a name that is nobody's.
struct Files(Home);

#[async_trait]
impl Step<Putting> for Files {
    fn name(&self) -> &'static str {
        "files"
    }

    async fn intend(&self, putting: &mut Putting) -> Result<(), Fault> {
        let item = putting.item(&self.0).await?;
        let Putting { directory, branch, tag, .. } = &*putting;
        let aside = self.0.workspaces.plan_aside(&item, directory, branch, tag).await;
        putting.aside = Some(aside.map_err(|failure| told(self, &failure))?);
        Ok(())
    }

    /// Of what is half-made, filling it again is what finds out how much is missing.
    async fn probe(&self, putting: &mut Putting) -> Presence<()> {
        match &putting.aside {
            Some(aside) if self.0.workspaces.is_placed(aside) => Presence::Present(()),
            Some(_) | None => Presence::Absent,
        }
    }

    async fn make(&self, putting: &mut Putting) -> Result<(), Fault> {
        let item = putting.item(&self.0).await?;
        let filled = self.0.workspaces.fill_aside(&item, putting.looked()?).await;
        filled.map_err(|failure| told(self, &failure))
    }

    async fn undo(&self, putting: &mut Putting) -> Result<(), Fault> {
        let unfilled = self.0.workspaces.unfill_aside(putting.looked()?).await;
        unfilled.map_err(|failure| told(self, &failure))
    }
}

struct Branch(Home);

#[async_trait]
impl Step<Putting> for Branch {
    fn name(&self) -> &'static str {
        "branch"
    }

    async fn intend(&self, putting: &mut Putting) -> Result<(), Fault> {
        let planned = self.0.workspaces.plan_aside_branch(putting.looked()?);
        planned.map_err(|failure| told(self, &failure))
    }

    async fn probe(&self, putting: &mut Putting) -> Presence<()> {
        let Some(aside) = &putting.aside else { return Presence::Absent };
        seen(self.0.workspaces.has_aside_branch(aside))
    }

    async fn make(&self, putting: &mut Putting) -> Result<(), Fault> {
        let made = self.0.workspaces.make_aside_branch(putting.looked()?).await;
        made.map_err(|failure| told(self, &failure))
    }

    async fn undo(&self, putting: &mut Putting) -> Result<(), Fault> {
        let unmade = self.0.workspaces.unmake_aside_branch(putting.looked()?).await;
        unmade.map_err(|failure| told(self, &failure))
    }
}

/// The last step: from here on it is somebody's.
struct Place(Home);

#[async_trait]
impl Step<Putting> for Place {
    fn name(&self) -> &'static str {
        "place"
    }

    async fn probe(&self, putting: &mut Putting) -> Presence<()> {
        match &putting.aside {
            Some(aside) if self.0.workspaces.is_placed(aside) => Presence::Present(()),
            Some(_) | None => Presence::Absent,
        }
    }

    async fn make(&self, putting: &mut Putting) -> Result<(), Fault> {
        let placed = self.0.workspaces.place_aside(putting.looked()?).await;
        placed.map_err(|failure| told(self, &failure))
    }
}

/// What is to be deleted for good, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purging {
    pub common: PathBuf,
    pub parts: Vec<Saved>,
}

impl Purging {
    pub fn of(item: &TrashItem) -> Self {
        Self { common: item.common.clone(), parts: item.parts.clone() }
    }
}

pub fn purging(home: &Home) -> Vec<Box<dyn Step<Purging>>> {
    vec![Box::new(References(home.clone()))]
}

struct References(Home);

#[async_trait]
impl Step<Purging> for References {
    fn name(&self) -> &'static str {
        "references"
    }

    async fn probe(&self, purging: &mut Purging) -> Presence<()> {
        seen(self.0.workspaces.is_purged(&purging.common, &purging.parts))
    }

    async fn make(&self, purging: &mut Purging) -> Result<(), Fault> {
        let purged = self.0.workspaces.purge(&purging.common, &purging.parts).await;
        purged.map_err(|failure| told(self, &failure))
    }
}

fn told<C: Send>(step: &impl Step<C>, failure: &Failure) -> Fault {
    failure.fault(step.name())
}

fn seen(found: Result<bool, Failure>) -> Presence<()> {
    match found {
        Ok(true) => Presence::Present(()),
        Ok(false) => Presence::Absent,
        Err(failure) => Presence::Unknown(failure.to_string()),
    }
}
