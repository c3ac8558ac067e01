//! What people ask of the trash: saved work put beside or deleted for good, each a saga whose record is in the ledger until
//! it is over. It goes on if nobody waits for it any more, and what an agent left unfinished is taken up when it starts.
//! One at a time on a node, so that nothing is done twice at once with one item.

use std::path::PathBuf;
use std::sync::Arc;

use drover_domain::id::SessionId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::Converge;
use super::session::AGAIN;
use crate::chance;
use crate::ledger::{self, Book, Heading, Journal, Key, Record, TRASH, Write};
use crate::saga::trash::{self, Purging, Putting};
use crate::step::{Around, Ending, OnFailure, Saga, Standing, Step, Stopped};
use crate::workspace::TrashItem;

/// Whose turn it is.
pub(super) type Turn = Arc<Mutex<()>>;

/// What is done with an item; the names of sagas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Put,
    Purge,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Put, Self::Purge];

    fn word(self) -> &'static str {
        match self {
            Self::Put => "trash.put",
            Self::Purge => "trash.purge",
        }
    }

    fn of(key: &Key) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| key.saga.starts_with(kind.word()))
    }

    /// `None`: no session is named, so it is no item of ours.
    fn key(self, item: &TrashItem) -> Option<Key> {
        let session = item.record.session.parse::<SessionId>().ok()?;
        Some(Key { session, saga: format!("{}.{}", self.word(), item.record.removal).into() })
    }
}

impl Converge {
    /// Puts an item into a directory of its own, with a branch at its commits.
    pub async fn put_beside(
        &self,
        item: TrashItem,
        directory: PathBuf,
        branch: String,
    ) -> Result<(), Stopped> {
        let tag = chance::bytes::<4>().map(|byte| format!("{byte:02x}")).concat();
        let putting = Putting::of(&item, directory, branch, tag);
        self.do_with(Kind::Put, item, move |converge, key| async move {
            converge.put(key, Record::default(), putting).await
        })
        .await
    }

    /// Deletes an item for good, as it was seen.
    pub async fn purge(&self, item: TrashItem) -> Result<(), Stopped> {
        let purging = Purging::of(&item);
        self.do_with(Kind::Purge, item, move |converge, key| async move {
            converge.purge_as(key, Record::default(), purging).await
        })
        .await
    }

    /// Deletes saved work that has expired, and returns it. What cannot be deleted is left for the next time.
    pub async fn purge_expired(&self) -> Result<Vec<TrashItem>, ledger::Error> {
        let means = self.means();
        let repositories = means.ledger.repositories().await?;
        let (home, now) = (&means.home, means.clock.wall_millis());
        let mut purged = Vec::new();
        for item in home.workspaces.expired(&repositories, &home.owner(), now).await {
            match self.purge(item.clone()).await {
                Ok(()) => purged.push(item),
                Err(stopped) => tracing::warn!(item = item.id, "stays in the trash: {stopped}"),
            }
        }
        Ok(purged)
    }

    /// Goes on with whatever the book says is unfinished.
    pub(super) fn take_up_trash(&self, book: &Book) {
        let unfinished = book.sagas.keys().filter(|key| key.saga.starts_with(TRASH));
        for key in unfinished.cloned() {
            let converge = self.clone();
            self.means().tasks.spawn(async move {
                let mut troubles = 0;
                while let Err(why) = converge.take_up_in_turn(&key).await {
                    tracing::error!(session = %key.session, saga = %key.saga, "{why}; trying again");
                    let pause = tokio::time::sleep(AGAIN.delay(troubles, chance::byte()));
                    let tasks = &converge.means().tasks;
                    tokio::select! { () = pause => {}, () = tasks.cancelled() => return }
                    troubles = troubles.saturating_add(1);
                }
            });
        }
    }

    async fn take_up_in_turn(&self, key: &Key) -> Result<(), String> {
        let _turn = self.0.trash.lock().await;
        self.take_up(key).await
    }

    /// Brings an unfinished saga to its end, whichever that is. An error: it is unfinished still.
    async fn take_up(&self, key: &Key) -> Result<(), String> {
        let text = |error: ledger::Error| error.to_string();
        let Some(mut record) = self.unfinished(key).await.map_err(text)? else { return Ok(()) };
        if record.steps.is_empty() {
            // It was refused, and nothing was made.
            return self.means().ledger.commit(vec![Write::End(key.clone())]).await.map_err(text);
        }
        if let Heading::Back { told, .. } = &mut record.heading {
            // Whoever asked for it knows that it failed, and has maybe asked for something else since.
            *told = false;
        }
        let result = match Kind::of(key) {
            Some(Kind::Put) => match recorded(&record) {
                Some(putting) => self.put(key.clone(), record, putting).await,
                None => return Err("its record cannot be read".into()),
            },
            Some(Kind::Purge) => match recorded(&record) {
                Some(purging) => self.purge_as(key.clone(), record, purging).await,
                None => return Err("its record cannot be read".into()),
            },
            None => return Err("this agent does not know what it was".into()),
        };
        match result {
            Ok(()) => tracing::info!(session = %key.session, saga = %key.saga, "finished what was begun"),
            Err(Stopped::Parked) => return Ok(()),
            Err(stopped) => match self.unfinished(key).await.map_err(text)? {
                Some(_) => return Err(stopped.to_string()),
                None => tracing::warn!(session = %key.session, saga = %key.saga, "taken back: {stopped}"),
            },
        }
        Ok(())
    }

    async fn unfinished(&self, key: &Key) -> Result<Option<Record>, ledger::Error> {
        Ok(self.means().ledger.session(key.session).await?.sagas.remove(key))
    }

    /// In a task of its own, once it is its turn and nothing of the item is unfinished.
    async fn do_with<F>(
        &self,
        kind: Kind,
        item: TrashItem,
        work: impl FnOnce(Self, Key) -> F + Send + 'static,
    ) -> Result<(), Stopped>
    where
        F: Future<Output = Result<(), Stopped>> + Send + 'static,
    {
        let Some(key) = kind.key(&item) else {
            let why = format!("{} is no session's", item.id);
            return Err(Stopped::Ledger(ledger::Error::Failed { what: "write down an item", why }));
        };
        let converge = self.clone();
        let task = self.means().tasks.spawn(async move {
            let _turn = converge.0.trash.lock().await;
            for earlier in Kind::ALL.iter().filter_map(|kind| kind.key(&item)) {
                if let Err(why) = converge.take_up(&earlier).await {
                    let what = "finish what was begun with it before";
                    return Err(Stopped::Ledger(ledger::Error::Failed { what, why }));
                }
            }
            work(converge.clone(), key).await
        });
        // It ends early only with the agent.
        task.await.unwrap_or(Err(Stopped::Parked))
    }

    async fn put(&self, key: Key, record: Record, putting: Putting) -> Result<(), Stopped> {
        let steps = trash::putting(&self.means().home);
        self.run_trash(Saga { key, steps, on_failure: OnFailure::Undo }, record, putting).await
    }

    async fn purge_as(&self, key: Key, record: Record, purging: Purging) -> Result<(), Stopped> {
        let steps: Vec<Box<dyn Step<Purging>>> = trash::purging(&self.means().home);
        self.run_trash(Saga { key, steps, on_failure: OnFailure::Undo }, record, purging).await
    }

    async fn run_trash<C>(&self, saga: Saga<C>, record: Record, fresh: C) -> Result<(), Stopped>
    where
        C: Serialize + DeserializeOwned + Send + Sync,
    {
        let end = saga.key.clone();
        let closing = move |ending: Ending<'_, C>| match ending {
            Ending::Done(_) => vec![Write::End(end.clone())],
            // What was taken back has ended its record itself; what could not be seen or taken back keeps it.
            Ending::Undone(_) | Ending::Left(_) => Vec::new(),
        };
        let around = Around { opening: Vec::new(), closing: Box::new(closing), progress: Box::new(|_| {}) };
        let means = self.means();
        let standing = Standing { record, fresh };
        means.engine.run(&means.ledger, &saga, standing, around).await.map(drop)
    }
}

fn recorded<C: DeserializeOwned>(record: &Record) -> Option<C> {
    serde_json::from_str(&record.data).ok()
}
