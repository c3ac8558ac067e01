//! Saved work, for people: checkpoints of sessions, and the trash of the nodes.

use anstyle::Style;
use drover_proto::v1::{
    CheckpointResponse, GetTrashResponse, ListTrashResponse, PathSample, PurgeTrashResponse,
    RestoreTrashResponse, SavedCheckpoint, TrashItem,
};

use super::sanitise::line;
use super::sessions::{title, titled};
use super::table::{Row, facts, table};
use super::times::{age, bytes, count, short, stamp, until};
use super::{BUSY, Look, View};

impl View for CheckpointResponse {
    const KIND: &'static str = "drover.v1.CheckpointResponse";

    fn show(&self, look: &Look) -> String {
        let saved = self.checkpoint.clone().unwrap_or_default();
        let SavedCheckpoint { reference, commit, create_time } = saved;
        let since = create_time.as_ref().map(|at| saved_at(at, look)).unwrap_or_default();
        facts(look, &[("reference", reference), ("commit", commit), ("saved", since)])
    }

    fn names(&self) -> Vec<String> {
        self.checkpoint.iter().map(|saved| saved.reference.clone()).collect()
    }
}

impl View for ListTrashResponse {
    const KIND: &'static str = "drover.v1.ListTrashResponse";

    fn show(&self, look: &Look) -> String {
        items(&self.items, look)
    }

    fn names(&self) -> Vec<String> {
        self.items.iter().map(|item| item.id.clone()).collect()
    }
}

impl View for PurgeTrashResponse {
    const KIND: &'static str = "drover.v1.PurgeTrashResponse";

    fn show(&self, look: &Look) -> String {
        items(&self.items, look)
    }

    fn names(&self) -> Vec<String> {
        self.items.iter().map(|item| item.id.clone()).collect()
    }
}

impl View for GetTrashResponse {
    const KIND: &'static str = "drover.v1.GetTrashResponse";

    fn show(&self, look: &Look) -> String {
        let item = self.item.clone().unwrap_or_default();
        let expires = item.expire_time.as_ref().map(|at| format!("{}, {}", expiry(&item, look), stamp(at)));
        facts(
            look,
            &[
                ("item", item.id.clone()),
                ("session", of(&item)),
                ("node", item.node.clone()),
                ("repository", item.repository.clone()),
                ("directory", item.directory.clone()),
                ("branch", item.branch.clone()),
                ("commit", item.head.clone()),
                ("saved", item.create_time.as_ref().map(|at| saved_at(at, look)).unwrap_or_default()),
                ("expires", expires.unwrap_or_default()),
                ("references", item.references.join("\n")),
                ("in no commit", held(&item, self.files.as_ref())),
            ],
        )
    }

    fn names(&self) -> Vec<String> {
        self.item.iter().map(|item| item.id.clone()).collect()
    }
}

impl View for RestoreTrashResponse {
    const KIND: &'static str = "drover.v1.RestoreTrashResponse";

    fn show(&self, look: &Look) -> String {
        facts(
            look,
            &[
                ("session", self.session.as_ref().map(title).unwrap_or_default()),
                ("node", self.node.clone()),
                ("branch", self.branch.clone()),
                ("directory", self.directory.clone()),
            ],
        )
    }

    /// The session, or the directory if it is none.
    fn names(&self) -> Vec<String> {
        vec![self.session.as_ref().map_or_else(|| self.directory.clone(), title)]
    }
}

/// The session that an item was of, as a command would be given it.
pub fn of(item: &TrashItem) -> String {
    titled(&item.project, &item.name)
}

/// What an item holds, in one line.
pub fn sized(item: &TrashItem) -> String {
    format!("{}, {}", count(item.files, "file", "files"), bytes(item.bytes))
}

fn items(items: &[TrashItem], look: &Look) -> String {
    let header: &[&str] = if look.wide {
        &["ITEM", "SESSION", "NODE", "AGE", "EXPIRES", "FILES", "SIZE", "BRANCH", "COMMIT", "REPOSITORY"]
    } else {
        &["ITEM", "SESSION", "NODE", "AGE", "EXPIRES", "FILES", "SIZE"]
    };
    let row = |item: &TrashItem| {
        let mut cells = vec![
            item.id.clone(),
            of(item),
            item.node.clone(),
            age(look.now, item.create_time.as_ref()),
            expiry(item, look),
            item.files.to_string(),
            bytes(item.bytes),
        ];
        if look.wide {
            cells.extend([item.branch.clone(), item.head.clone(), item.repository.clone()]);
        }
        Row { cells, style: if is_expired(item, look) { BUSY } else { Style::new() } }
    };
    table(look, header, &items.iter().map(row).collect::<Vec<_>>())
}

/// Whether it may be deleted, as far as this machine's clock tells.
pub fn is_expired(item: &TrashItem, look: &Look) -> bool {
    item.expire_time.as_ref().is_some_and(|at| until(look.now, at).is_zero())
}

fn expiry(item: &TrashItem, look: &Look) -> String {
    match &item.expire_time {
        None => String::new(),
        Some(_) if is_expired(item, look) => "expired".to_owned(),
        Some(at) => format!("in {}", short(until(look.now, at))),
    }
}

fn saved_at(at: &prost_types::Timestamp, look: &Look) -> String {
    format!("{} ago, {} (node's clock)", age(look.now, Some(at)), stamp(at))
}

/// How much it holds that is in no commit, and some of the paths.
fn held(item: &TrashItem, sample: Option<&PathSample>) -> String {
    let PathSample { paths, count, .. } = sample.cloned().unwrap_or_default();
    let more = count.saturating_sub(paths.len() as u64);
    let more = (more > 0).then(|| format!("… and {more} more"));
    // A path with a line end is still one path.
    let paths = paths.iter().map(|path| line(path).into_owned());
    std::iter::once(sized(item)).chain(paths).chain(more).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;

    const NOW: Look = Look { wide: false, colour: false, now: 1_795_514_400_000 };

    fn at(seconds_ago: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds: 1_795_514_400 - seconds_ago, nanos: 0 })
    }

    fn item(name: &str, expires_in: i64) -> TrashItem {
        TrashItem {
            id: "ses_abcdefgh23456777".into(),
            session_id: "ses_abcdefgh23456777".into(),
            name: name.into(),
            project: "web".into(),
            node: "build-1".into(),
            repository: "/home/me/app".into(),
            directory: "/home/me/app/.git".into(),
            references: vec!["refs/drover/trash/ses_a/1".into(), "refs/drover/trash/ses_a/2".into()],
            branch: "drover/web.fix".into(),
            head: "c0ffee".into(),
            files: 3,
            bytes: 2048,
            create_time: at(7200),
            expire_time: at(-expires_in),
        }
    }

    #[test]
    fn the_trash_is_a_table_that_says_what_may_go() {
        let list = ListTrashResponse {
            items: vec![item("fix", 90_000), item("\u{1b}[31mold", -5)],
            unreachable_nodes: vec![],
        };
        insta::assert_snapshot!(list.show(&NOW), @r"
        ITEM                  SESSION          NODE     AGE  EXPIRES  FILES  SIZE
        ses_abcdefgh23456777  web/fix          build-1  2h   in 1d1h  3      2.0 KiB
        ses_abcdefgh23456777  web/\x1b[31mold  build-1  2h   expired  3      2.0 KiB
        ");
        assert_eq!(list.names(), ["ses_abcdefgh23456777", "ses_abcdefgh23456777"]);
    }

    #[test]
    fn an_item_is_shown_with_the_files_that_no_commit_has() {
        let files = PathSample { paths: vec!["a.txt".into(), "b\n.txt".into()], count: 3, bytes: 2048 };
        let shown = GetTrashResponse { item: Some(item("fix", 90_000)), files: Some(files) };
        insta::assert_snapshot!(shown.show(&NOW), @r"
        item          ses_abcdefgh23456777
        session       web/fix
        node          build-1
        repository    /home/me/app
        directory     /home/me/app/.git
        branch        drover/web.fix
        commit        c0ffee
        saved         2h ago, 2026-11-24T08:00:00Z (node's clock)
        expires       in 1d1h, 2026-11-25T11:00:00Z
        references    refs/drover/trash/ses_a/1
                      refs/drover/trash/ses_a/2
        in no commit  3 files, 2.0 KiB
                      a.txt
                      b\n.txt
                      … and 1 more
        ");
    }
}
