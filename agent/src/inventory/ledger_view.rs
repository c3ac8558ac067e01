//! What the ledger says, as an inventory tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use drover_domain::converge::{LocalRun, Site};
use drover_domain::id::SessionId;
use drover_domain::inventory::LedgerView;
use drover_domain::session::Order;

use super::Commons;
use crate::converge::Held;
use crate::ledger::{Book, KeptBranch};
use crate::saga::workspace::Layout;

/// The ledger, and what is being done, at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub held: BTreeMap<SessionId, Held>,
    layouts: BTreeMap<SessionId, Layout>,
    sagas: BTreeMap<SessionId, BTreeSet<Box<str>>>,
    repositories: BTreeSet<PathBuf>,
    pub kept: BTreeMap<(SessionId, PathBuf), KeptBranch>,
}

const WORKSPACE: &str = "workspace";

impl Known {
    pub(super) fn new(held: BTreeMap<SessionId, Held>, holdings: Book) -> Self {
        let mut known =
            Self { held, repositories: holdings.repositories, kept: holdings.kept, ..Self::default() };
        for (key, record) in holdings.sagas {
            if &*key.saga == WORKSPACE
                && let Ok(layout) = serde_json::from_str(&record.data)
            {
                known.layouts.insert(key.session, layout);
            }
            known.sagas.entry(key.session).or_default().insert(key.saga);
        }
        known
    }

    /// Of one session only where its workspace is, if it is known at all.
    pub(super) fn of_one(session: SessionId, path: Option<&Path>) -> Self {
        let mut known = Self::default();
        if let Some(path) = path {
            let (path, branch) = (path.to_owned(), String::new());
            let layout = Layout { common: None, base: None, branch, path, run_as: None };
            known.layouts.insert(session, layout);
            known.sagas.insert(session, BTreeSet::new());
        }
        known
    }

    /// Everything that was known at the beginning or at the end of a look. What differs was being worked on.
    pub(super) fn until(mut self, after: Self) -> Self {
        for (session, held) in &mut self.held {
            match after.held.get(session) {
                Some(later) if later == held => {}
                Some(later) => *held = Held { is_busy: true, ..later.clone() },
                None => held.is_busy = true,
            }
        }
        for (session, held) in after.held {
            self.held.entry(session).or_insert(Held { is_busy: true, ..held });
        }
        self.layouts.extend(after.layouts);
        self.sagas = after.sagas;
        self.repositories.extend(after.repositories);
        self.kept.extend(after.kept);
        self
    }

    /// Every repository that the ledger knows of.
    pub(super) fn commons(&self) -> Commons {
        let of_layouts = self.layouts.values().filter_map(|layout| layout.common.clone());
        let of_kept = self.kept.keys().map(|(_, common)| common.clone());
        self.repositories.iter().cloned().chain(of_layouts).chain(of_kept).collect()
    }

    /// Sessions of which there are lists of steps.
    pub(super) fn with_sagas(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sagas.keys().copied()
    }

    /// Whether the ledger says anything of the session.
    pub(super) fn knows(&self, session: SessionId) -> bool {
        self.held.contains_key(&session) || self.sagas.contains_key(&session)
    }

    pub(super) fn common(&self, session: SessionId) -> Option<&Path> {
        self.layouts.get(&session)?.common.as_deref()
    }

    /// Every path that is or may become a session's workspace.
    pub(super) fn paths(&self) -> BTreeSet<PathBuf> {
        let reported = self.held.values().filter_map(|held| held.entry.workspace.as_ref());
        let reported = reported.map(|workspace| PathBuf::from(workspace.path.as_ref()));
        self.layouts.values().map(|layout| layout.path.clone()).chain(reported).collect()
    }

    pub(super) fn path(&self, session: SessionId) -> Option<PathBuf> {
        let reported = || {
            let workspace = self.held.get(&session)?.entry.workspace.as_ref()?;
            Some(PathBuf::from(workspace.path.as_ref()))
        };
        self.layouts.get(&session).map(|layout| layout.path.clone()).or_else(reported)
    }

    /// The run that the ledger holds alive.
    pub(super) fn run(&self, session: SessionId) -> Option<Order> {
        match self.held.get(&session)?.entry.local.run {
            LocalRun::Starting(order) | LocalRun::Live(order) => Some(order),
            LocalRun::None | LocalRun::Ended(_) => None,
        }
    }

    /// Sessions that have a run that has not ended.
    pub(super) fn runs(&self) -> Vec<(SessionId, Order)> {
        self.held.keys().filter_map(|session| Some((*session, self.run(*session)?))).collect()
    }

    /// As it is told. A session without a row may have lists of steps: then nothing else is known of it.
    pub(super) fn view(&self, session: SessionId) -> Option<LedgerView> {
        let Some(held) = self.held.get(&session) else {
            let sagas = self.sagas.get(&session)?.iter().cloned().collect();
            return Some(LedgerView {
                fence: Default::default(),
                is_assigned: false,
                site: Site::Nothing,
                path: None,
                run: None,
                is_busy: false,
                sagas,
            });
        };
        let local = &held.entry.local;
        let has_path = !matches!(local.site, Site::Nothing | Site::Removed);
        let path = self.path(session).filter(|_| has_path);
        Some(LedgerView {
            fence: local.fence,
            is_assigned: held.is_assigned,
            site: local.site,
            path: path.map(|path| path.to_string_lossy().into()),
            run: self.run(session).map(|order| order.run),
            is_busy: held.is_busy,
            sagas: self.unfinished(session, held),
        })
    }

    /// Of a workspace and a live run the record stays as long as they do: then it is not one of something unfinished.
    fn unfinished(&self, session: SessionId, held: &Held) -> Vec<Box<str>> {
        let local = &held.entry.local;
        let is_done = |saga: &str| match (saga, saga.strip_prefix("run.")) {
            (WORKSPACE, _) => matches!(local.site, Site::Made | Site::Removing | Site::Removed),
            (_, Some(ordinal)) => match local.run {
                LocalRun::Live(order) | LocalRun::Ended(order) => ordinal == order.ordinal.to_string(),
                LocalRun::None | LocalRun::Starting(_) => false,
            },
            (_, None) => false,
        };
        let all = self.sagas.get(&session).into_iter().flatten();
        all.filter(|saga| !is_done(saga)).cloned().collect()
    }
}
