//! What remains of a session are, as far as this agent may touch them: found by the ledger, by a worktree with this
//! installation's and node's mark, or by a branch that a removal left. Whatever else is asked for by name is not ours.

use std::io;
use std::path::{Path, PathBuf};

use drover_domain::converge::LocalRun;
use drover_domain::fence::Fence;
use drover_domain::id::SessionId;
use drover_domain::session::Removal;

use super::super::Converge;
use super::Asked;
use crate::git::read;
use crate::git::worktrees::{self, Entry, Head, Mark};
use crate::inventory::common_of;
use crate::ledger::{Book, Entry as Row, KeptBranch};
use crate::saga::Home;
use crate::saga::removal::Remaining;
use crate::saga::workspace::Layout;
use crate::workspace::{Away, Label, Owner, Site, keeper};

/// Remains that may be touched.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub site: Site,
    pub label: Label,
    pub is_recorded: bool,
    /// The ledger has a row of the session.
    pub is_held: bool,
    pub run_as: Option<String>,
    /// Directories on their way out.
    pub away: Vec<PathBuf>,
}

/// What the ledger knows of it.
#[derive(Debug, Default)]
struct Recorded {
    row: Option<Row>,
    layout: Option<Layout>,
    kept: Vec<(PathBuf, KeptBranch)>,
    has_sagas: bool,
}

/// A branch that is none: no git makes one of this name.
fn no_branch(session: SessionId) -> String {
    format!("drover-none/{session}")
}

impl Subject {
    /// A branch that nobody recorded is a person's, whatever it is called.
    pub(super) fn removal(&self) -> Removal {
        Removal { keep_branch: !self.is_recorded, force_branch: false }
    }

    pub(super) fn remaining(&self) -> Remaining {
        Remaining {
            common: self.site.common.clone(),
            path: self.site.path.clone(),
            branch: self.site.branch.clone(),
            is_recorded: self.is_recorded,
            base: self.site.base.clone(),
            generation: self.site.mark.fence.generation,
            epoch: self.site.mark.fence.epoch,
            run_as: self.run_as.clone(),
            label: self.label.clone(),
        }
    }

    /// As it was written down.
    pub(super) fn of(home: &Home, session: SessionId, remaining: Remaining) -> Result<Self, String> {
        let fence = Fence { generation: remaining.generation, epoch: remaining.epoch };
        let owner = home.owner();
        let mark = Mark { installation: owner.installation, node: owner.node, session, fence };
        let mut site = Site {
            common: remaining.common,
            mark,
            root: home.worktrees.clone(),
            path: remaining.path,
            branch: remaining.branch,
            base: remaining.base,
            run_as: None,
        };
        site.run_as = account(home, remaining.run_as.as_deref(), &site)?;
        let away = away(home, session).map_err(|error| error.to_string())?;
        Ok(Self {
            site,
            label: remaining.label,
            is_recorded: remaining.is_recorded,
            is_held: false,
            run_as: remaining.run_as,
            away,
        })
    }

    /// Every directory that somebody may be inside of.
    pub(super) fn directories(&self) -> Vec<PathBuf> {
        self.away.iter().cloned().chain([self.site.path.clone()]).collect()
    }
}

impl Converge {
    /// Why the session's remains may not be touched whatever they are.
    pub(super) fn is_wanted(&self, session: SessionId) -> Option<String> {
        if self.assignment(session).is_some() {
            return Some("the session is assigned to this node".to_owned());
        }
        match self.entry(session)?.local.run {
            LocalRun::Starting(order) | LocalRun::Live(order) => {
                Some(format!("its run {} has not ended as far as the ledger knows", order.ordinal))
            }
            LocalRun::None | LocalRun::Ended(_) => None,
        }
    }

    /// What is here of it; `None`: nothing that is this agent's. The error says why it cannot be judged.
    pub(super) async fn subject(&self, asked: &Asked) -> Result<Option<Subject>, String> {
        let ledger = &self.means().ledger;
        let book = ledger.session(asked.session).await.map_err(|error| error.to_string())?;
        let holdings = ledger.holdings().await.map_err(|error| error.to_string())?;
        let recorded = Recorded::new(asked.session, book, holdings);
        recorded.subject(&self.means().home, asked)
    }
}

impl Recorded {
    fn new(session: SessionId, book: Book, holdings: Book) -> Self {
        let has_sagas = !book.sagas.is_empty();
        let workspace = book.sagas.into_iter().find(|(key, _)| &*key.saga == "workspace");
        let layout = workspace.and_then(|(_, record)| serde_json::from_str(&record.data).ok());
        let kept = holdings.kept.into_iter().filter(|((of, _), _)| *of == session);
        let kept = kept.map(|((_, common), kept)| (common, kept)).collect();
        Self { row: book.sessions.into_values().next(), layout, kept, has_sagas }
    }

    fn subject(self, home: &Home, asked: &Asked) -> Result<Option<Subject>, String> {
        let said = |error: io::Error| error.to_string();
        let away = away(home, asked.session).map_err(said)?;
        let Some(common) = self.common(asked, &away) else {
            return match away.is_empty() {
                true => Ok(None),
                false => Err("nothing says which repository it was of".to_owned()),
            };
        };
        let layout = self.layout.as_ref().filter(|layout| layout.common.as_ref() == Some(&common));
        let kept = self.kept.iter().find(|(at, _)| *at == common).map(|(_, kept)| kept);
        match common.try_exists() {
            Ok(true) => {}
            Ok(false) if away.is_empty() && !has_directory(layout) => return Ok(None),
            Ok(false) => return Err(format!("its repository {} is gone", common.display())),
            Err(error) => return Err(error.to_string()),
        }
        let entries = entries(home, &common, Some(asked.session)).map_err(said)?;
        if entries.len() > 1 {
            return Err(format!("{} worktrees in {} bear its mark", entries.len(), common.display()));
        }
        let entry = entries.into_iter().next();
        let is_known = self.row.is_some() || self.has_sagas || kept.is_some() || entry.is_some();
        let is_copy = common.starts_with(&home.mirrors.root);
        if !is_known && !is_copy && away.is_empty() && !says_so(home, &common, asked.session)? {
            return Ok(None);
        }
        let found = Found { home, common, entry, layout, kept };
        let site = found.site(asked, self.row.as_ref())?;
        let is_recorded = found.branch(asked).is_some();
        let run_as = layout.and_then(|layout| layout.run_as.clone());
        let site = Site { run_as: account(home, run_as.as_deref(), &site)?, ..site };
        let (label, is_held) = (asked.label.clone(), self.row.is_some());
        Ok(Some(Subject { site, label, is_recorded, is_held, run_as, away }))
    }

    /// Where it was asked about, or where it was.
    fn common(&self, asked: &Asked, away: &[PathBuf]) -> Option<PathBuf> {
        let asked = asked.repository.as_deref().map(common_of);
        let known = || self.layout.as_ref()?.common.clone();
        let kept = || self.kept.first().map(|(common, _)| common.clone());
        let pointed = || {
            let admin = away.iter().find_map(|path| worktrees::pointer(path))?;
            Some(common_of(admin.parent().filter(|above| above.ends_with("worktrees"))?.parent()?))
        };
        asked.or_else(known).or_else(kept).or_else(pointed)
    }
}

/// What was found in a repository.
struct Found<'a> {
    home: &'a Home,
    common: PathBuf,
    entry: Option<Entry>,
    layout: Option<&'a Layout>,
    kept: Option<&'a KeptBranch>,
}

impl Found<'_> {
    fn branch(&self, asked: &Asked) -> Option<String> {
        let known = self.layout.map(|layout| layout.branch.clone());
        let kept = || self.kept.map(|kept| kept.branch.to_string());
        known.or_else(kept).or_else(|| asked.branch.clone())
    }

    fn site(&self, asked: &Asked, row: Option<&Row>) -> Result<Site, String> {
        let session = asked.session;
        let entry_mark = self.entry.as_ref().and_then(|entry| Mark::parse(entry.locked.as_deref()?));
        let fence = entry_mark.map(|mark| mark.fence).or_else(|| row.map(|row| row.local.fence));
        let owner = self.home.owner();
        let mark = Mark {
            installation: owner.installation,
            node: owner.node,
            session,
            fence: fence.unwrap_or(Fence { generation: 0, epoch: 0 }),
        };
        let checked_out = || match self.entry.as_ref()?.head.as_ref()? {
            Head::Branch(branch) if branch.starts_with("drover/") => Some(branch.clone()),
            Head::Branch(_) | Head::Detached(_) => None,
        };
        let branch = self.branch(asked).or_else(checked_out).unwrap_or_else(|| no_branch(session));
        let mut site = Site {
            common: self.common.clone(),
            mark,
            root: self.home.worktrees.clone(),
            path: self.path(session)?,
            branch,
            base: String::new(),
            run_as: None,
        };
        let known = self.layout.and_then(|layout| layout.base.clone());
        let kept = || self.kept.map(|kept| kept.base.to_string());
        site.base = match known.or_else(kept) {
            Some(base) => base,
            None => read::tip(&self.common, &site.base_reference())
                .map_err(|failure| failure.to_string())?
                .ok_or("nothing says which commit it began with")?,
        };
        Ok(site)
    }

    /// Where its files are, which nobody else's worktree may be. One that is nowhere has a place that nobody takes.
    fn path(&self, session: SessionId) -> Result<PathBuf, String> {
        let known = self.layout.map(|layout| layout.path.clone());
        let entrys = self.entry.as_ref().and_then(|entry| entry.path.clone());
        let Some(path) = entrys.or(known) else {
            return Ok(self.home.worktrees.join(format!(".gone-{session}")));
        };
        let own = self.entry.as_ref().map(|entry| &entry.admin);
        let is_others = match worktrees::pointer(&path) {
            Some(admin) => own != Some(&admin) && admin.is_dir(),
            None => false,
        };
        match is_others {
            true => Err(format!("{} is another worktree's", path.display())),
            false => Ok(path),
        }
    }
}

/// Entries of the repository with our mark, of this session or of any.
pub(super) fn entries(home: &Home, common: &Path, of: Option<SessionId>) -> io::Result<Vec<Entry>> {
    let owner = home.owner();
    let is_ours = |entry: &Entry| {
        let mark = entry.locked.as_deref().and_then(Mark::parse);
        mark.is_some_and(|mark| owner.is_of(&mark) && of.is_none_or(|session| session == mark.session))
    };
    Ok(worktrees::entries(common)?.into_iter().filter(is_ours).collect())
}

fn has_directory(layout: Option<&Layout>) -> bool {
    layout.is_some_and(|layout| !matches!(layout.path.try_exists(), Ok(false)))
}

/// Whether a checkpoint in the repository says that the session is this agent's.
fn says_so(home: &Home, common: &Path, session: SessionId) -> Result<bool, String> {
    let checkpoints = read::references(common, &format!("refs/drover/wip/{session}/"));
    let checkpoints = checkpoints.map_err(|failure| failure.to_string())?;
    let is_ours = |commit: &str| {
        Owner::said_by(common, commit).is_some_and(|(of, whose)| of == home.owner() && whose == session)
    };
    Ok(checkpoints.iter().any(|(_, commit)| is_ours(commit)))
}

fn away(home: &Home, session: SessionId) -> io::Result<Vec<PathBuf>> {
    let listing = match std::fs::read_dir(&home.worktrees) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing?,
    };
    let mut found = Vec::new();
    for item in listing {
        let item = item?;
        if item.file_name().to_str().and_then(|name| Away::Leaving.session(name)) == Some(session) {
            found.push(item.path());
        }
    }
    Ok(found)
}

/// As whom it is removed: as the ledger says, or as the owner of the files.
fn account(
    home: &Home,
    name: Option<&str>,
    site: &Site,
) -> Result<Option<crate::git::runner::Account>, String> {
    if name.is_some() {
        return home.account(name).map_err(|fault| fault.text.into());
    }
    let place = if site.path.is_dir() { &site.path } else { &site.common };
    keeper(place).map_err(|failure| failure.to_string())
}
