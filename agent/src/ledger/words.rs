//! The words that the ledger's columns hold for the domain's enums, both ways.

use drover_domain::converge::{LocalRun, Site};
use drover_domain::session::{FaultCode, Order};

use super::book::Mark;

pub(super) fn mark(mark: Mark) -> &'static str {
    match mark {
        Mark::Intended => "intended",
        Mark::Made => "made",
    }
}

pub(super) fn parse_mark(word: &str) -> Option<Mark> {
    [Mark::Intended, Mark::Made].into_iter().find(|known| mark(*known) == word)
}

pub(super) fn parse_site(word: &str) -> Option<Site> {
    Site::ALL.into_iter().find(|known| known.word() == word)
}

pub(super) fn run(run: LocalRun) -> (&'static str, Option<Order>) {
    match run {
        LocalRun::None => ("none", None),
        LocalRun::Starting(order) => ("starting", Some(order)),
        LocalRun::Live(order) => ("live", Some(order)),
        LocalRun::Ended(order) => ("ended", Some(order)),
    }
}

pub(super) fn parse_run(word: &str, order: Option<Order>) -> Option<LocalRun> {
    match (word, order) {
        ("none", None) => Some(LocalRun::None),
        ("starting", Some(order)) => Some(LocalRun::Starting(order)),
        ("live", Some(order)) => Some(LocalRun::Live(order)),
        ("ended", Some(order)) => Some(LocalRun::Ended(order)),
        _ => None,
    }
}

const CODES: [FaultCode; 21] = [
    FaultCode::GitMissing,
    FaultCode::NotARepository,
    FaultCode::RepositoryUnsupported,
    FaultCode::PermissionDenied,
    FaultCode::PathGone,
    FaultCode::PathTaken,
    FaultCode::BranchTaken,
    FaultCode::BaseMissing,
    FaultCode::DiskFull,
    FaultCode::LockHeld,
    FaultCode::Network,
    FaultCode::Authentication,
    FaultCode::TimedOut,
    FaultCode::CommandNotFound,
    FaultCode::UserUnknown,
    FaultCode::Unsupported,
    FaultCode::WorkNotSaveable,
    FaultCode::Stuck,
    FaultCode::QueueTimeout,
    FaultCode::NodeLost,
    FaultCode::Other,
];

pub(super) fn fault_code(code: FaultCode) -> &'static str {
    match code {
        FaultCode::GitMissing => "git_missing",
        FaultCode::NotARepository => "not_a_repository",
        FaultCode::RepositoryUnsupported => "repository_unsupported",
        FaultCode::PermissionDenied => "permission_denied",
        FaultCode::PathGone => "path_gone",
        FaultCode::PathTaken => "path_taken",
        FaultCode::BranchTaken => "branch_taken",
        FaultCode::BaseMissing => "base_missing",
        FaultCode::DiskFull => "disk_full",
        FaultCode::LockHeld => "lock_held",
        FaultCode::Network => "network",
        FaultCode::Authentication => "authentication",
        FaultCode::TimedOut => "timed_out",
        FaultCode::CommandNotFound => "command_not_found",
        FaultCode::UserUnknown => "user_unknown",
        FaultCode::Unsupported => "unsupported",
        FaultCode::WorkNotSaveable => "work_not_saveable",
        FaultCode::Stuck => "stuck",
        FaultCode::QueueTimeout => "queue_timeout",
        FaultCode::NodeLost => "node_lost",
        FaultCode::Other => "other",
    }
}

pub(super) fn parse_fault_code(word: &str) -> Option<FaultCode> {
    CODES.into_iter().find(|known| fault_code(*known) == word)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn codes() -> [FaultCode; 21] {
        CODES
    }

    #[test]
    fn every_word_reads_back_as_itself() {
        for code in CODES {
            assert_eq!(parse_fault_code(fault_code(code)), Some(code));
        }
        for mark_ in [Mark::Intended, Mark::Made] {
            assert_eq!(parse_mark(mark(mark_)), Some(mark_));
        }
        assert_eq!(parse_site("elsewhere"), None);
        assert_eq!(parse_run("live", None), None);
    }
}
