//! Clearing what is left of a session: the saga of an ordinary removal, with everything that it needs in its own record,
//! because the ledger may not know the session any more. Nothing is ended for it: whoever is inside holds it up.

use drover_domain::converge::{Local, Site as Stage};
use drover_domain::id::SessionId;

use super::super::Converge;
use super::subject::Subject;
use super::{Asked, Assessment, Deed, Outcome, stamp, users};
use crate::git::read::{self, blocking};
use crate::ledger::{Key, Record, Write};
use crate::saga::removal::{self, Leaving};
use crate::step::{Around, Ending, OnFailure, Saga, Standing, Stopped};
use crate::workspace::work::BranchFate;

pub(super) const SAGA: &str = "clear";

impl Converge {
    /// Looks closely; changes nothing.
    pub async fn assess(&self, asked: &Asked) -> Assessment {
        let session = asked.session;
        let mut assessment =
            Assessment { session, work: None, users: vec![], stamp: String::new(), obstacle: None };
        let subject = match self.subject(asked).await {
            Ok(subject) => subject,
            Err(why) => {
                assessment.obstacle = Some(why);
                None
            }
        };
        let inside = self.users(session, subject.clone()).await;
        let mut obstacles = vec![self.is_wanted(session), assessment.obstacle.take()];
        match inside {
            Ok(users) => assessment.users = users,
            Err(why) => obstacles.push(Some(why)),
        }
        if let Some(subject) = subject {
            match self.means().home.workspaces.look(&subject.site, subject.removal()).await {
                Ok(work) => assessment.work = Some((subject.site.clone(), work)),
                Err(failure) => obstacles.push(Some(failure.to_string())),
            }
            match blocking(move || stamp::of(&subject)).await {
                Ok(stamp) => assessment.stamp = stamp,
                Err(failure) => obstacles.push(Some(failure.to_string())),
            }
        }
        assessment.obstacle = obstacles.into_iter().flatten().next();
        assessment
    }

    async fn users(&self, session: SessionId, subject: Option<Subject>) -> Result<Vec<String>, String> {
        let means = self.means().clone();
        let looked = tokio::task::spawn_blocking(move || users::of(&means, session, subject.as_ref()));
        looked.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// In the session's turn: everything is looked at again before anything is done.
    pub(super) async fn clear_now(&self, asked: &Asked, planned: &str) -> Deed {
        let session = asked.session;
        let key = Key { session, saga: SAGA.into() };
        match self.means().ledger.session(session).await {
            Ok(book) => {
                if let Some(record) = book.sagas.get(&key) {
                    // It was begun before, with all that is asked here.
                    return self.clear_on(&key, record.clone()).await;
                }
            }
            Err(error) => return Deed::failed(error.to_string()),
        }
        if let Some(why) = self.is_wanted(session) {
            return Deed::failed(why);
        }
        let subject = match self.subject(asked).await {
            Ok(Some(subject)) => subject,
            Ok(None) => return Deed::new(Outcome::Nothing, "nothing of it is here that is this agent's"),
            Err(why) => return Deed::failed(why),
        };
        match self.hindrance(session, &subject, planned).await {
            Some(deed) => deed,
            None => self.clear_by(&key, &subject, Record::default()).await,
        }
    }

    /// Why nothing is done, or is to be done.
    async fn hindrance(&self, session: SessionId, subject: &Subject, planned: &str) -> Option<Deed> {
        let looked = subject.clone();
        match blocking(move || stamp::of(&looked)).await {
            Ok(now) if planned.is_empty() || now == planned => {}
            Ok(now) => {
                let text =
                    format!("since that was planned this changed: {}", stamp::difference(planned, &now));
                return Some(Deed::new(Outcome::Changed, text));
            }
            Err(failure) => return Some(Deed::failed(failure.to_string())),
        }
        match self.users(session, Some(subject.clone())).await {
            Ok(users) if users.is_empty() => {}
            Ok(users) => return Some(Deed::failed(format!("in use by {}", users.join(", ")))),
            Err(why) => return Some(Deed::failed(why)),
        }
        match self.leftover(subject).await {
            Ok(None) => None,
            Ok(Some(kept)) => {
                let text = "nothing of it is left that could go";
                Some(Deed { kept, ..Deed::new(Outcome::Nothing, text) })
            }
            Err(why) => Some(Deed::failed(why)),
        }
    }

    /// What must stay, if there is nothing else.
    async fn leftover(&self, subject: &Subject) -> Result<Option<Vec<String>>, String> {
        let site = &subject.site;
        let said = |failure: crate::git::failure::Failure| failure.to_string();
        let work = self.means().home.workspaces.look(site, subject.removal()).await.map_err(said)?;
        let has_entry = self.means().home.workspaces.probe_worktree(site).await;
        let has_checkpoints = !read::references(&site.common, &site.wip_prefix()).map_err(said)?.is_empty();
        let has_base = read::tip(&site.common, &site.base_reference()).map_err(said)?.is_some();
        let is_only_kept = work.branch.is_for_now() || (work.branch == BranchFate::Absent && !has_base);
        let is_there =
            work.is_present || !has_entry.is_absent() || has_checkpoints || !subject.away.is_empty();
        // A row of the ledger ends with the rest.
        let is_row_open =
            subject.is_held && self.entry(site.mark.session).is_some_and(|row| is_open(&row.local));
        let kept = work.branch.reason(&site.branch).into_iter().collect();
        Ok((!is_there && is_only_kept && !is_row_open).then_some(kept))
    }

    /// Goes on with what was begun.
    pub(super) async fn clear_on(&self, key: &Key, record: Record) -> Deed {
        let of = serde_json::from_str::<Leaving>(&record.data).ok().and_then(Leaving::remaining);
        let Some(of) = of else { return Deed::failed("its record does not say what was to be cleared") };
        match Subject::of(&self.means().home, key.session, of) {
            Ok(subject) => self.clear_by(key, &subject, record).await,
            Err(why) => Deed::failed(why),
        }
    }

    async fn clear_by(&self, key: &Key, subject: &Subject, record: Record) -> Deed {
        let (means, session) = (self.means(), key.session);
        let _permit = self.0.makes.acquire().await;
        let local = match means.ledger.session(session).await {
            Ok(book) => book.sessions.into_values().next().map(|row| row.local),
            Err(error) => return Deed::failed(error.to_string()),
        };
        let steps = removal::clearing(&means.home, &subject.site, subject.removal(), &subject.label);
        let saga = Saga { key: key.clone(), steps, on_failure: OnFailure::Halt };
        let site = |site| local.clone().map(|local| Write::Local { session, local: Local { site, ..local } });
        let closing = |ending: Ending<'_, Leaving>| match ending {
            Ending::Done(leaving) => {
                // It may be placed here again: then its workspace is made as if there had been none.
                let mut writes: Vec<Write> = site(Stage::Nothing).into_iter().collect();
                let ends = ["workspace", "removal", SAGA];
                writes.extend(ends.map(|saga| Write::End(Key { session, saga: saga.into() })));
                writes.extend(leaving.claimed(session));
                writes
            }
            Ending::Undone(_) | Ending::Left(_) => Vec::new(),
        };
        let fresh = Leaving::of(subject.remaining());
        let opening = site(Stage::Removing).into_iter().collect();
        let around = Around { opening, closing: Box::new(closing), progress: Box::new(|_| {}) };
        let done = means.engine.run(&means.ledger, &saga, Standing { record, fresh }, around).await;
        means.home.delete_put_away(&means.tasks);
        match done {
            Ok(leaving) => told(&leaving, subject),
            Err(Stopped::Failed(fault)) => Deed::failed(format!("{}: {}", fault.step, fault.text)),
            Err(Stopped::Parked) => Deed::failed("the agent ends; it goes on at its next start"),
            Err(Stopped::Ledger(error)) => Deed::failed(error.to_string()),
        }
    }
}

fn is_open(local: &Local) -> bool {
    !matches!(local.site, Stage::Nothing | Stage::Removed)
}

fn told(leaving: &Leaving, subject: &Subject) -> Deed {
    let kept = leaving.kept();
    let mut reasons: Vec<String> = kept.reasons.iter().map(ToString::to_string).collect();
    if !subject.is_recorded && kept.branch.is_some() {
        reasons.retain(|reason| !reason.ends_with("kept as asked"));
        reasons.push(format!("branch {}: nothing recorded says that it is Drover's", subject.site.branch));
    }
    let text = match &kept.branch {
        Some(branch) => format!("its workspace is removed; the branch {branch} is kept"),
        None => "its workspace and its branch are removed".to_owned(),
    };
    let saved = kept.trash.iter().map(ToString::to_string).collect();
    Deed { kept: reasons, saved, ..Deed::new(Outcome::Done, text) }
}
