//! What a removal would find, as it is said to the controller.

use drover_proto::v1;

use crate::workspace::Site;
use crate::workspace::work::{BranchFate, Listing, Work};

pub(super) fn preview(site: &Site, work: &Work) -> v1::RemovalPreview {
    let sample = |listing: &Listing| {
        Some(v1::PathSample {
            paths: listing.items.iter().map(|item| item.path.clone()).collect(),
            count: listing.count,
            bytes: listing.bytes,
        })
    };
    let commits = match &work.branch {
        BranchFate::KeptUnmerged { commits } | BranchFate::DeletedSaved { commits } => *commits,
        BranchFate::Absent
        | BranchFate::DeletedAtBase
        | BranchFate::DeletedMerged
        | BranchFate::KeptAsAsked
        | BranchFate::KeptCheckedOut { .. }
        | BranchFate::KeptNotOurs => 0,
    };
    v1::RemovalPreview {
        has_workspace: work.is_present,
        changed: sample(&work.changed),
        untracked: sample(&work.untracked),
        ignored: sample(&work.ignored),
        regenerable: sample(&work.regenerable),
        unmerged_commits: u32::try_from(commits).unwrap_or(u32::MAX),
        branch_fate: fate(&work.branch).into(),
        branch: site.branch.clone(),
        saves_work: work.is_unsaved(),
        // The registry knows of runs.
        stops_run: false,
    }
}

fn fate(fate: &BranchFate) -> v1::BranchFate {
    match fate {
        BranchFate::Absent => v1::BranchFate::Absent,
        BranchFate::DeletedAtBase | BranchFate::DeletedMerged => v1::BranchFate::Deleted,
        BranchFate::DeletedSaved { .. } => v1::BranchFate::SavedAndDeleted,
        BranchFate::KeptAsAsked => v1::BranchFate::KeptAsked,
        BranchFate::KeptUnmerged { .. } => v1::BranchFate::KeptUnmerged,
        // The wire has no word for these yet.
        BranchFate::KeptCheckedOut { .. } | BranchFate::KeptNotOurs => v1::BranchFate::Unspecified,
    }
}
