//! A workspace whose directory is gone before it was removed: its newest checkpoint may hold the only copy of work that
//! was not committed. Before the checkpoints go that one becomes an item of the trash, with the files and the state that
//! it has. Done again it finds what it saved.

use std::io::{self, Write};
use std::path::PathBuf;

use super::archive::{Import, Pipe, Undone, inline};
use super::late::Look;
use super::record::{Part, Record};
use super::save::{is_away, next_number, number};
use super::walk::Broken;
use super::{Site, Workspaces};
use crate::git::failure::Failure;
use crate::git::read::{self, STATE, blocking};

const SAVE: &str = "save the last checkpoint";

/// A checkpoint as it is written anew.
struct Last {
    reference: String,
    record: Record,
    /// The checkpoint itself, and its commits.
    checkpoint: String,
    head: Option<String>,
    commits: Vec<String>,
    /// The trees of its files and of its state.
    tree: Option<String>,
    state: Option<String>,
}

impl Workspaces {
    /// Moves what the session's newest checkpoint has, and nothing else leads to, to the trash; returns its reference.
    pub async fn save_vanished(&self, site: &Site, look: &Look) -> Result<Option<String>, Failure> {
        // It was the removal itself that took the directory away; or the checkpoints are another agent's too, and stay.
        if is_away(site)? || site.elsewhere(SAVE)?.is_some() {
            return Ok(None);
        }
        let (looked, label, now) = (site.clone(), look.label.clone(), self.git.clock().wall_millis());
        let last = blocking(move || newest(&looked)).await?;
        let Some(checkpoint) = last else { return Ok(None) };
        let before = read::references(&site.common, &site.trash_prefix())?;
        for (reference, commit) in &before {
            let is_it = *commit == checkpoint;
            if is_it || read::parents(&site.common, commit)?.contains(&checkpoint) {
                return Ok(Some(reference.clone()));
            }
        }
        let removal = next_number(&before);
        let reference = format!("{}{removal}", site.trash_prefix());
        let mut last = Last::of(site, checkpoint, reference.clone())?;
        last.record = Record { removal, label, created_millis: now, ..last.record };
        self.make_room(site, last.record.bytes).await?;
        let import = Import { operation: SAVE, part: Part::Work, held: None };
        self.import(site, import, move |sender| last.produce(Pipe::to(sender))).await?;
        Ok(Some(reference))
    }
}

/// The newest checkpoint, if there is something in it that nothing else leads to.
fn newest(site: &Site) -> Result<Option<String>, Failure> {
    let checkpoints = read::references(&site.common, &site.wip_prefix())?;
    let newest = checkpoints.into_iter().filter(|(name, _)| number(name).is_some());
    let Some((_, commit)) = newest.max_by_key(|(name, _)| number(name)) else { return Ok(None) };
    if read::state(&site.common, &commit)?.is_some() {
        return Ok(Some(commit));
    }
    let base = std::slice::from_ref(&site.base);
    let left = read::unreached(&site.common, std::slice::from_ref(&commit), None, base)?;
    Ok((left.count > 0).then_some(commit))
}

impl Last {
    fn of(site: &Site, checkpoint: String, reference: String) -> Result<Self, Failure> {
        let state = read::state(&site.common, &checkpoint)?;
        let tip = read::tip(&site.common, &site.branch_reference())?;
        let Some(state) = state else {
            // There was nothing but the commit.
            let record = Record { tip: tip.clone(), ..Record::new(site, Part::Tip, 0, 0) };
            let commits = tip.into_iter().filter(|tip| *tip != checkpoint).collect();
            let head = Some(checkpoint.clone());
            return Ok(Self { reference, record, checkpoint, head, commits, tree: None, state: None });
        };
        let known = Record::read(&state.session).unwrap_or_else(Record::nobodys);
        // What it says of whose it is does not count.
        let record = Record {
            tip: known.tip,
            admin: known.admin,
            bytes: known.bytes,
            files: known.files,
            ..Record::new(site, Part::Work, 0, 0)
        };
        let mut parents = read::parents(&site.common, &checkpoint)?;
        let head = parents.first().filter(|first| **first != state.commit).cloned();
        parents.retain(|parent| *parent != state.commit && Some(parent) != head.as_ref());
        let tree = Some(read::tree(&site.common, &checkpoint)?);
        let state = Some(read::tree(&site.common, &state.commit)?);
        Ok(Self { reference, record, checkpoint, head, commits: parents, tree, state })
    }

    fn produce(&self, mut pipe: Pipe) -> Result<(), Undone> {
        match self.stream(&mut pipe) {
            Ok(()) => Ok(()),
            Err(error) => Err((Broken { path: PathBuf::from(&self.reference), error }, pipe)),
        }
    }

    fn stream(&self, pipe: &mut Pipe) -> io::Result<()> {
        let title = format!("Last checkpoint of {} on {}", self.record.session, self.record.branch);
        let head = |mark: u8, title: &str| {
            let (reference, seconds) = (&self.reference, self.record.created_millis.div_euclid(1000));
            let who = format!("committer Drover <drover@localhost> {seconds} +0000");
            format!("commit {reference}\nmark :{mark}\n{who}\ndata {}\n{title}\n", title.len())
        };
        write!(pipe, "feature done\nreset {}\n\n", self.reference)?;
        write!(pipe, "{}", head(1, &format!("{STATE}\n\n{title}")))?;
        if let Some(tree) = &self.state {
            writeln!(pipe, "M 040000 {tree} \"\"")?;
        }
        inline(pipe, "session", &self.record.written()?)?;
        write!(pipe, "{}", head(2, &title))?;
        match &self.head {
            Some(commit) => write!(pipe, "from {commit}\nmerge :1\n")?,
            None => writeln!(pipe, "from :1")?,
        }
        let itself = Some(&self.checkpoint).filter(|checkpoint| Some(*checkpoint) != self.head.as_ref());
        for commit in self.commits.iter().chain(itself) {
            writeln!(pipe, "merge {commit}")?;
        }
        match &self.tree {
            Some(tree) => writeln!(pipe, "M 040000 {tree} \"\"")?,
            None => writeln!(pipe, "deleteall")?,
        }
        write!(pipe, "\ndone\n")?;
        pipe.flush()
    }
}
