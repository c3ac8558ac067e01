//! Plans and safe mode, for people.

use anstyle::Style;
use drover_proto::v1::{
    Action, ActionResult, ActionRisk, GetSafeModeResponse, Plan, SafeMode, SetSafeModeResponse,
};

use super::sanitise::line;
use super::times::stamp;
use super::{BAD, BUSY, FAINT, GOOD, Look, STRONG, View};

impl View for Plan {
    const KIND: &'static str = "drover.v1.Plan";

    fn show(&self, look: &Look) -> String {
        let head = match (self.actions.len(), self.kept.len()) {
            (0, 0) => return format!("{}: nothing to do", line(&self.purpose)),
            (0, _) => format!("{}: nothing to do", line(&self.purpose)),
            _ => format!("{} {}", line(&self.purpose), line(&self.id)),
        };
        let mut parts = vec![look.paint(STRONG, &head)];
        parts.extend(self.actions.iter().map(|action| self::action(action, look)));
        if !self.kept.is_empty() {
            parts.push(look.paint(STRONG, "left alone"));
            let kept = self.kept.iter().map(|kept| {
                format!("  {} {}: {}", line(&kept.code), line(&kept.subject), line(&kept.reason))
            });
            parts.extend(kept);
        }
        if let (Some(until), false, false) = (&self.expire_time, self.actions.is_empty(), self.is_over) {
            parts.push(look.paint(FAINT, &format!("good until {}", stamp(until))));
        }
        parts.join("\n")
    }

    fn names(&self) -> Vec<String> {
        vec![self.id.clone()]
    }
}

fn action(action: &Action, look: &Look) -> String {
    let (style, risk) = match action.risk() {
        ActionRisk::Safe => (GOOD, "safe"),
        ActionRisk::Confirm => (BUSY, "needs a yes"),
        ActionRisk::Force => (BAD, "needs force"),
        ActionRisk::Unspecified => (Style::new(), ""),
    };
    let finding = action.finding.clone().unwrap_or_default();
    let place = [&finding.node, &finding.session].into_iter().filter(|text| !text.is_empty());
    let place: Vec<_> = place.map(|text| line(text).into_owned()).collect();
    let mut lines = vec![format!(
        "{:>3}  {}  {}  {}",
        action.number,
        look.paint(style, risk),
        line(&finding.code),
        place.join("  ")
    )];
    lines.push(format!("     {}", line(&action.what)));
    let mut tell = |label: &str, text: &str| {
        if !text.is_empty() {
            lines.push(look.paint(FAINT, &format!("     {label}: {}", line(text))));
        }
    };
    tell("because", &action.reason);
    finding.evidence.iter().for_each(|evidence| tell("seen", evidence));
    tell("only if", &action.preconditions.join("; "));
    match action.result() {
        ActionResult::Unspecified | ActionResult::Started => {}
        ActionResult::Done => tell("done", &action.outcome),
        ActionResult::Skipped => tell("skipped", &action.outcome),
        ActionResult::Failed => tell("failed", &action.outcome),
    }
    lines.join("\n")
}

impl View for GetSafeModeResponse {
    const KIND: &'static str = "drover.v1.GetSafeModeResponse";

    fn show(&self, look: &Look) -> String {
        shown(&self.modes, look)
    }

    fn names(&self) -> Vec<String> {
        self.modes.iter().map(|mode| mode.node.clone()).collect()
    }
}

impl View for SetSafeModeResponse {
    const KIND: &'static str = "drover.v1.SetSafeModeResponse";

    fn show(&self, look: &Look) -> String {
        shown(&self.modes, look)
    }

    fn names(&self) -> Vec<String> {
        self.modes.iter().map(|mode| mode.node.clone()).collect()
    }
}

/// Where new work is refused, why, and what ends that.
pub(super) fn shown(modes: &[SafeMode], look: &Look) -> String {
    if modes.is_empty() {
        return look.paint(GOOD, "off: new work is taken");
    }
    let one = |mode: &SafeMode| {
        let place =
            if mode.node.is_empty() { "everywhere".to_owned() } else { format!("node {}", line(&mode.node)) };
        let since = mode.since_time.as_ref().map(|since| format!("\n  since: {}", stamp(since)));
        let head = look.paint(BAD, &format!("safe mode {place}: {}", line(&mode.reason)));
        format!("{head}{}\n  end it: {}", since.unwrap_or_default(), line(&mode.remedy))
    };
    modes.iter().map(one).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use drover_proto::v1::{Finding, KeptItem};

    use super::*;

    #[test]
    fn a_plan_says_what_is_done_why_under_which_condition_and_what_is_left_alone() {
        let finding = Finding {
            code: "WORKTREE_WITHOUT_SESSION".into(),
            node: "build-1".into(),
            session: "web/fix".into(),
            evidence: vec!["/srv/app/.git/worktrees/fix bears the mark of ses_a".into()],
            ..Default::default()
        };
        let action = Action {
            number: 1,
            finding: Some(finding),
            what: "save 2 changed files to the trash, remove /w/fix".into(),
            reason: "a workspace of 'web/fix', which was removed".into(),
            preconditions: vec!["no process is inside".into(), "it is as it was seen".into()],
            risk: ActionRisk::Safe.into(),
            ..Default::default()
        };
        let kept = KeptItem {
            subject: "drover/\u{1b}[2Jold".into(),
            code: "UNMERGED".into(),
            reason: "it has commits that are nowhere else".into(),
        };
        let plan = Plan {
            id: "plan_abc".into(),
            purpose: "cleanup".into(),
            actions: vec![action],
            kept: vec![kept],
            expire_time: Some(prost_types::Timestamp { seconds: 1_795_514_400, nanos: 0 }),
            ..Default::default()
        };
        insta::assert_snapshot!(plan.show(&Look::default()), @r"
        cleanup plan_abc
          1  safe  WORKTREE_WITHOUT_SESSION  build-1  web/fix
             save 2 changed files to the trash, remove /w/fix
             because: a workspace of 'web/fix', which was removed
             seen: /srv/app/.git/worktrees/fix bears the mark of ses_a
             only if: no process is inside; it is as it was seen
        left alone
          UNMERGED drover/\x1b[2Jold: it has commits that are nowhere else
        good until 2026-11-24T10:00:00Z
        ");
    }

    #[test]
    fn safe_mode_names_the_command_that_ends_it() {
        let mode = SafeMode {
            node: "build-1".into(),
            reason: "LOW_DISK: short of disk".into(),
            remedy: "droverctl safe-mode off --node build-1".into(),
            ..Default::default()
        };
        insta::assert_snapshot!(shown(&[mode], &Look::default()), @r"
        safe mode node build-1: LOW_DISK: short of disk
          end it: droverctl safe-mode off --node build-1
        ");
        assert_eq!(shown(&[], &Look::default()), "off: new work is taken");
    }
}
