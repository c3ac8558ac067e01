//! Saved work, as it is asked for by tunnel: a checkpoint made now, and the trash.

use std::path::{Path, PathBuf};

use drover_domain::id::SessionId;
use drover_domain::time::Timestamp;
use drover_proto::convert;
use drover_proto::node_v1::tunnel_request::Message as Up;
use drover_proto::node_v1::{PurgeTrash, ReadTrash, RestoreTrash, StoredTrash};
use drover_proto::v1;

use super::Tunnels;
use super::answer::{Out, Trouble, fault, say};
use crate::git::read;
use crate::workspace::{Aside, TrashItem};

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
            for item in home.saved(&self.repositories().await?).await {
                let item = Some(self.told(&item));
                say(out, Up::Trash(StoredTrash { item, files: None })).await?;
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
        say(out, Up::Trash(StoredTrash { item: Some(self.told(&item)), files: Some(files) })).await
    }

    pub(super) async fn restore_trash(&self, ask: &RestoreTrash, out: &Out) -> Result<(), Trouble> {
        let home = &self.converge.means().home;
        let item = self.item(&ask.item).await?;
        let who = item.keeper().map_err(|failure| fault(&failure))?;
        let branch = if ask.branch.is_empty() { &item.record.branch } else { &ask.branch };
        let aside = Aside { directory: Path::new(&ask.directory), branch, who: who.as_ref() };
        home.workspaces.restore_to(&item, &aside).await.map_err(|failure| fault(&failure))?;
        let (branch, directory) = (branch.clone(), ask.directory.clone());
        let restored = v1::RestoreTrashResponse { session: None, branch, directory, node: String::new() };
        say(out, Up::Restored(restored)).await
    }

    /// What is named is looked for first: if one is not there nothing is deleted.
    pub(super) async fn purge_trash(&self, ask: &PurgeTrash, out: &Out) -> Result<(), Trouble> {
        let means = self.converge.means();
        let mut named = Vec::new();
        for id in &ask.items {
            named.push(self.item(id).await?);
        }
        for item in &named {
            means.home.workspaces.purge(item).await.map_err(|failure| fault(&failure))?;
        }
        if ask.expired {
            named.extend(self.converge.purge_expired().await?);
        }
        for item in named {
            let item = Some(self.told(&item));
            say(out, Up::Trash(StoredTrash { item, files: None })).await?;
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
