//! Saved work, as it is asked for by tunnel: a checkpoint made now, and the trash.

use std::path::PathBuf;

use drover_domain::id::SessionId;
use drover_domain::time::Timestamp;
use drover_proto::convert;
use drover_proto::node_v1::tunnel_request::Message as Up;
use drover_proto::node_v1::{PurgeTrash, ReadTrash, RestoreTrash, SavedItem, StoredTrash};
use drover_proto::v1;

use super::Tunnels;
use super::answer::{Out, Trouble, fault, say};
use crate::git::read;
use crate::workspace::TrashItem;

impl Tunnels {
    /// Saves the workspace as it is. The registry is told too.
    pub(super) async fn checkpoint(&self, session: SessionId, out: &Out) -> Result<(), Trouble> {
        let site = self.site(session).await?;
        let before = read::references(&site.common, &site.wip_prefix()).map_err(|failure| fault(&failure))?;
        let saved = self.converge.save(session, &site, None).await?.ok_or(Trouble::NoWorkspace)?;
        let known = (saved.reference.to_string(), saved.commit.to_string());
        let unchanged = before.contains(&known);
        let checkpoint = Some(convert::run::checkpoint(&saved));
        say(out, Up::Checkpoint(v1::CheckpointResponse { checkpoint, unchanged })).await
    }
}

/// How many files of an item are named.
const MOST_FILES: usize = 1_000;

impl Tunnels {
    pub(super) async fn read_trash(&self, ask: &ReadTrash, out: &Out) -> Result<(), Trouble> {
        let home = &self.converge.means().home;
        if ask.item.is_empty() {
            let now = self.converge.means().clock.wall_millis();
            for item in home.saved(&self.repositories().await?).await {
                let expired = item.is_expired(now, home.workspaces.trash_rules().ttl);
                let item = Some(self.told(&item));
                say(out, Up::Trash(StoredTrash { item, files: None, expired })).await?;
            }
            return Ok(());
        }
        let item = self.item(&ask.item).await?;
        let contents = home.workspaces.show(&item, MOST_FILES).await.map_err(|failure| fault(&failure))?;
        let name = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        let files = v1::PathSample {
            paths: contents.files.iter().map(|(path, _)| name(path)).collect(),
            count: contents.count,
            bytes: item.record.bytes,
        };
        let item = Some(self.told(&item));
        say(out, Up::Trash(StoredTrash { item, files: Some(files), expired: false })).await
    }

    pub(super) async fn restore_trash(&self, ask: &RestoreTrash, out: &Out) -> Result<(), Trouble> {
        let named = ask.item.clone().unwrap_or_default();
        let saved = self.converge.means().home.saved(&self.repositories().await?).await;
        let item = saved.into_iter().find(|item| is_named(item, &named));
        let item = item.ok_or(Trouble::NotSaved(named.id))?;
        let branch = if ask.branch.is_empty() { item.record.branch.clone() } else { ask.branch.clone() };
        self.converge.put_beside(item, ask.directory.clone().into(), branch.clone()).await?;
        let directory = ask.directory.clone();
        let restored = v1::RestoreTrashResponse { session: None, branch, directory, node: String::new() };
        say(out, Up::Restored(restored)).await
    }

    /// What is not there any more was deleted before, by this call or another.
    pub(super) async fn purge_trash(&self, ask: &PurgeTrash) -> Result<(), Trouble> {
        for item in self.converge.means().home.saved(&self.repositories().await?).await {
            if ask.items.iter().any(|named| is_named(&item, named)) {
                self.converge.purge(item).await?;
            }
        }
        Ok(())
    }

    async fn repositories(&self) -> Result<Vec<PathBuf>, Trouble> {
        Ok(self.converge.means().ledger.repositories().await?)
    }

    async fn item(&self, id: &str) -> Result<TrashItem, Trouble> {
        let home = &self.converge.means().home;
        let saved = home.saved(&self.repositories().await?).await;
        saved.into_iter().find(|item| item.id == id).ok_or_else(|| Trouble::NotSaved(id.to_owned()))
    }

    fn told(&self, item: &TrashItem) -> v1::TrashItem {
        let record = &item.record;
        let created = Timestamp::from_millis(record.created_millis);
        let expires = created.after(self.converge.means().home.workspaces.trash_rules().ttl);
        v1::TrashItem {
            id: item.id.clone(),
            session_id: record.session.clone(),
            name: record.label.name.clone(),
            project: record.label.project.clone(),
            node: String::new(),
            repository: record.label.repository.clone(),
            directory: item.common.to_string_lossy().into_owned(),
            references: item.parts.iter().map(|saved| saved.reference.clone()).collect(),
            branch: record.branch.clone(),
            head: record.tip.clone().unwrap_or_default(),
            files: record.files,
            bytes: record.bytes,
            create_time: Some(convert::time::stamp(created)),
            expire_time: Some(convert::time::stamp(expires)),
        }
    }
}

fn is_named(item: &TrashItem, named: &SavedItem) -> bool {
    let saved = convert::time::stamp(Timestamp::from_millis(item.record.created_millis));
    named.id == item.id && named.create_time == Some(saved)
}
