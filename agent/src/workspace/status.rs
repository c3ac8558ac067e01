//! What git says of a worktree's files. No filter, hook or monitor of the repository runs for it: a file that only a
//! filter would call clean counts as changed, which errs on the side of saving it. Also asked: files that somebody
//! told git to overlook.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use super::names::restored;
use super::{Site, Workspaces};
use crate::git::failure::{Cause, Failure};
use crate::git::read::bytes_id;
use crate::git::runner::{At, Call};

/// Paths are as git gives them: bytes from the worktree's root, a directory with a slash at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    pub changed: BTreeSet<Vec<u8>>,
    pub untracked: BTreeSet<Vec<u8>>,
    pub ignored: BTreeSet<Vec<u8>>,
    /// Objects that only the index refers to: staged, or sides of a conflict.
    pub staged: BTreeSet<String>,
    /// Tracked under a name that means another one in what is saved.
    pub ambiguous: BTreeSet<Vec<u8>>,
    /// The id of all that git answered.
    pub answer: String,
}

/// What is asked about files that are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    Named,
    LeftOut,
}

const LOOK: &str = "look for unsaved work";

impl Workspaces {
    pub(super) async fn status(
        &self,
        site: &Site,
        admin: &Path,
        ignored: Ignored,
    ) -> Result<Status, Failure> {
        let at = At::Worktree { admin, path: &site.path };
        let who = site.run_as.as_ref();
        let mut words = self.without_filters(site, admin).await?;
        words.extend(
            [
                "status",
                "--porcelain=v2",
                "-z",
                "--untracked-files=all",
                match ignored {
                    Ignored::Named => "--ignored=matching",
                    Ignored::LeftOut => "--ignored=no",
                },
                "--no-renames",
                "--ignore-submodules=none",
            ]
            .map(OsString::from),
        );
        let answer = self.git.run(&Call::new(LOOK, at, words).by(who).long()).await?;
        let unhashed = |why: String| Failure::new(LOOK, &site.path, Cause::Other(why));
        let mut status = Status { answer: bytes_id(&answer).map_err(unhashed)?, ..Status::parse(&answer) };
        let listing = self.git.run(&Call::new(LOOK, at, ["ls-files", "-v", "-z"]).by(who).long()).await?;
        for (tag, path) in listing.split(|byte| *byte == 0).filter_map(|line| line.split_at_checked(2)) {
            let is_overlooked = tag[0].is_ascii_lowercase() || tag[0] == b'S';
            let as_path = site.path.join(super::work::path_of(path));
            if is_overlooked && as_path.symlink_metadata().is_ok() {
                status.changed.insert(path.to_vec());
            }
            if restored(path) != path {
                status.ambiguous.insert(path.to_vec());
            }
        }
        Ok(status)
    }

    /// Settings that switch off every filter that the repository's or the user's configuration names.
    pub(super) async fn without_filters(&self, site: &Site, admin: &Path) -> Result<Vec<OsString>, Failure> {
        let at = At::Worktree { admin, path: &site.path };
        let words = ["config", "--list", "--name-only", "-z"];
        let answer = self.git.run(&Call::new(LOOK, at, words).by(site.run_as.as_ref())).await?;
        let mut settings = BTreeSet::new();
        for name in answer.split(|byte| *byte == 0) {
            let name = String::from_utf8_lossy(name);
            let Some((driver, key)) = name.strip_prefix("filter.").and_then(|rest| rest.rsplit_once('.'))
            else {
                continue;
            };
            if matches!(key, "clean" | "smudge" | "process" | "required") {
                let off = if key == "required" { "false" } else { "" };
                settings.insert(format!("filter.{driver}.{key}={off}"));
            }
        }
        Ok(settings.into_iter().flat_map(|setting| ["-c".into(), OsString::from(setting)]).collect())
    }
}

impl Status {
    fn parse(answer: &[u8]) -> Self {
        let mut status = Self::default();
        let mut lines = answer.split(|byte| *byte == 0);
        while let Some(line) = lines.next() {
            match line.first() {
                Some(b'?') => drop(status.untracked.insert(line[2..].to_vec())),
                Some(b'!') => drop(status.ignored.insert(line[2..].to_vec())),
                Some(b'1') => status.change(line, 8, &[7]),
                Some(b'u') => status.change(line, 10, &[7, 8, 9]),
                Some(b'2') => {
                    status.change(line, 9, &[7]);
                    lines.next();
                }
                _ => {}
            }
        }
        status
    }

    /// A line of fields divided by spaces, the path last; the fields in `objects` are what the index holds.
    fn change(&mut self, line: &[u8], path: usize, objects: &[usize]) {
        let fields: Vec<&[u8]> = line.splitn(path + 1, |byte| *byte == b' ').collect();
        let Some(name) = fields.get(path) else { return };
        self.changed.insert(name.to_vec());
        let is_staged = fields[1].first() != Some(&b'.');
        let is_submodule = fields[2].first() == Some(&b'S');
        for id in objects.iter().filter_map(|at| fields.get(*at)).filter(|_| is_staged && !is_submodule) {
            if id.iter().any(|c| *c != b'0') {
                self.staged.insert(String::from_utf8_lossy(id).into_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_line_is_read() {
        let zero = "0".repeat(40);
        let (a, b, c) = ("a".repeat(40), "b".repeat(40), "c".repeat(40));
        let text = format!(
            "1 .M N... 100644 100644 100644 {a} {a} un staged\0\
             1 A. N... 000000 100644 100644 {zero} {b} new file\0\
             1 .M SC.. 160000 160000 160000 {c} {c} module\0\
             u UU N... 100644 100644 100644 100644 {a} {b} {c} both\0\
             ? un\ntracked\0! target/\0"
        );
        let status = Status::parse(text.as_bytes());
        let set = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect::<BTreeSet<_>>();
        assert_eq!(status.changed, set(&["un staged", "new file", "module", "both"]));
        assert_eq!(status.untracked, set(&["un\ntracked"]));
        assert_eq!(status.ignored, set(&["target/"]));
        assert_eq!(status.staged, BTreeSet::from([a, b, c]));
    }
}
