//! Plans, findings and safe mode: as rows, and as they are shown.

use drover_domain::finding::{Code, Cure, Finding, Label, Remains, Severity};
use drover_domain::fleet::Fleet;
use drover_domain::id::SessionId;
use drover_domain::name::Name;
use drover_domain::node::SafeMode;
use drover_domain::plan::{Action, Applied, Done, Kept, KeptItem, Outcome, Plan, Purpose, Risk};
use drover_domain::time::Timestamp;

use super::inventory::{lock_from, process_from, told};
use super::time::stamp;
use super::{Invalid, optional, parsed, required};
use crate::store_v1 as store;
use crate::store_v1::cure_record::Cure as Row;
use crate::{node_v1, v1};

pub fn record(plan: &Plan) -> store::PlanRecord {
    store::PlanRecord {
        id: plan.id.to_string(),
        purpose: plan.purpose.word().to_owned(),
        by: plan.by.to_string(),
        made: plan.made.millis(),
        expires: plan.expires.millis(),
        actions: plan.actions.iter().map(action).collect(),
        kept: plan.kept.iter().map(kept).collect(),
        digest: plan.digest.to_vec(),
        applied: plan.applied.as_ref().map(|applied| store::AppliedRecord {
            by: applied.by.to_string(),
            at: applied.at.millis(),
            only_safe: applied.only_safe,
        }),
    }
}

pub fn from_record(wire: &store::PlanRecord) -> Result<Plan, Invalid> {
    let made = Timestamp::from_millis(wire.made);
    let actions = wire.actions.iter().map(|wire| action_from(wire, made));
    let digest = wire.digest.as_slice().try_into();
    Ok(Plan {
        id: parsed("id", &wire.id)?,
        purpose: word("purpose", &wire.purpose, &[Purpose::Repair, Purpose::Cleanup], Purpose::word)?,
        by: wire.by.as_str().into(),
        made,
        expires: Timestamp::from_millis(wire.expires),
        actions: actions.collect::<Result<_, _>>().map_err(|problems| problems.within("actions"))?,
        kept: wire.kept.iter().map(kept_from).collect::<Result<_, _>>()?,
        digest: digest.map_err(|_| Invalid::one("digest", "is not 32 bytes long"))?,
        applied: wire.applied.as_ref().map(|applied| Applied {
            by: applied.by.as_str().into(),
            at: Timestamp::from_millis(applied.at),
            only_safe: applied.only_safe,
        }),
    })
}

fn action(action: &Action) -> store::ActionRecord {
    store::ActionRecord {
        finding: Some(finding(&action.finding)),
        cure: Some(cure(&action.cure)),
        what: action.what.to_string(),
        reason: action.reason.to_string(),
        preconditions: texts(&action.preconditions),
        risk: action.risk.word().to_owned(),
        stamp: action.stamp.to_string(),
        done: action.result.as_ref().map(|done| store::DoneRecord {
            result: done.result.word().to_owned(),
            text: done.text.to_string(),
            at: done.at.millis(),
        }),
    }
}

fn action_from(wire: &store::ActionRecord, made: Timestamp) -> Result<Action, Invalid> {
    let done = wire.done.as_ref().map(|wire| {
        let all = [Outcome::Done, Outcome::Skipped, Outcome::Failed];
        Ok::<_, Invalid>(Done {
            result: word("done.result", &wire.result, &all, Outcome::word)?,
            text: wire.text.as_str().into(),
            at: Timestamp::from_millis(wire.at),
        })
    });
    Ok(Action {
        finding: finding_from(required("finding", wire.finding.as_ref())?)
            .map_err(|problems| problems.within("finding"))?,
        cure: cure_from(required("cure", wire.cure.as_ref())?, made)
            .map_err(|problems| problems.within("cure"))?,
        what: wire.what.as_str().into(),
        reason: wire.reason.as_str().into(),
        preconditions: boxes(&wire.preconditions),
        risk: word("risk", &wire.risk, &[Risk::Safe, Risk::Confirm, Risk::Force], Risk::word)?,
        stamp: wire.stamp.as_str().into(),
        result: done.transpose()?,
    })
}

fn finding(finding: &Finding) -> store::FindingRecord {
    store::FindingRecord {
        code: finding.code.word().to_owned(),
        severity: finding.severity.word().to_owned(),
        node: finding.node.map(|node| node.to_string()).unwrap_or_default(),
        session: finding.session.map(|session| session.to_string()).unwrap_or_default(),
        title: text(finding.title.as_deref()),
        repository: text(finding.repository.as_deref()),
        subject: finding.subject.to_string(),
        text: finding.text.to_string(),
        evidence: texts(&finding.evidence),
        hint: finding.hint.to_string(),
        since: finding.since.millis(),
    }
}

/// Its cure is kept beside it.
fn finding_from(wire: &store::FindingRecord) -> Result<Finding, Invalid> {
    let id = |field: &str, text: &str| (!text.is_empty()).then(|| parsed(field, text)).transpose();
    Ok(Finding {
        code: word("code", &wire.code, &Code::ALL, Code::word)?,
        severity: word("severity", &wire.severity, &Severity::ALL, Severity::word)?,
        node: (!wire.node.is_empty()).then(|| parsed("node", &wire.node)).transpose()?,
        session: id("session", &wire.session)?,
        title: optional(&wire.title),
        repository: optional(&wire.repository),
        subject: wire.subject.as_str().into(),
        text: wire.text.as_str().into(),
        evidence: boxes(&wire.evidence),
        hint: wire.hint.as_str().into(),
        since: Timestamp::from_millis(wire.since),
        cure: None,
    })
}

fn cure(cure: &Cure) -> store::CureRecord {
    let row = match cure {
        Cure::Stop(_) => Row::Stop(store::StopCure {}),
        Cure::Retry(_) => Row::Retry(store::RetryCure {}),
        Cure::Remove(_) => Row::Remove(store::RemoveCure {}),
        Cure::Tell(_) => Row::Tell(store::TellCure {}),
        Cure::EndProcesses(_, processes) => {
            let processes = processes.iter().map(|process| told::process(process, None)).collect();
            Row::EndProcesses(node_v1::EndProcesses { processes })
        }
        Cure::Clear(remains) => Row::Clear(remains_to_wire(remains)),
        Cure::MoveLock(lock) => Row::MoveLock(told::lock(lock, None)),
    };
    let session = cure.session().map(|session| session.to_string()).unwrap_or_default();
    store::CureRecord { session, cure: Some(row) }
}

fn cure_from(wire: &store::CureRecord, made: Timestamp) -> Result<Cure, Invalid> {
    let session = || parsed::<SessionId>("session", &wire.session);
    Ok(match required("cure", wire.cure.as_ref())? {
        Row::Stop(_) => Cure::Stop(session()?),
        Row::Retry(_) => Cure::Retry(session()?),
        Row::Remove(_) => Cure::Remove(session()?),
        Row::Tell(_) => Cure::Tell(session()?),
        Row::EndProcesses(row) => {
            let processes = row.processes.iter().map(|wire| process_from(wire, made));
            Cure::EndProcesses(session()?, processes.collect::<Result<_, _>>()?)
        }
        Row::Clear(row) => Cure::Clear(remains_from(row)?),
        Row::MoveLock(row) => Cure::MoveLock(lock_from(row, made)?),
    })
}

/// For the node that has them.
pub fn remains_to_wire(remains: &Remains) -> node_v1::Remains {
    let label = remains.label.as_ref();
    node_v1::Remains {
        session_id: remains.session.to_string(),
        repository: text(remains.repository.as_deref()),
        path: text(remains.path.as_deref()),
        branch: text(remains.branch.as_deref()),
        name: label.map(|label| label.name.to_string()).unwrap_or_default(),
        project: label.map(|label| label.project.to_string()).unwrap_or_default(),
        origin: label.map(|label| label.origin.to_string()).unwrap_or_default(),
    }
}

fn remains_from(wire: &node_v1::Remains) -> Result<Remains, Invalid> {
    let name = |field: &str, text: &str| Name::new(text).map_err(|problem| Invalid::one(field, problem));
    let label = match wire.name.as_str() {
        "" => None,
        text => Some(Label {
            project: name("project", &wire.project)?,
            name: name("name", text)?,
            origin: wire.origin.as_str().into(),
        }),
    };
    Ok(Remains {
        session: parsed("session_id", &wire.session_id)?,
        repository: optional(&wire.repository),
        path: optional(&wire.path),
        branch: optional(&wire.branch),
        label,
    })
}

fn kept(item: &KeptItem) -> store::KeptItemRecord {
    store::KeptItemRecord {
        subject: item.subject.to_string(),
        code: item.code.word().to_owned(),
        reason: item.reason.to_string(),
    }
}

fn kept_from(wire: &store::KeptItemRecord) -> Result<KeptItem, Invalid> {
    Ok(KeptItem {
        subject: wire.subject.as_str().into(),
        code: word("kept.code", &wire.code, &Kept::ALL, Kept::word)?,
        reason: wire.reason.as_str().into(),
    })
}

pub fn safe_mode_record(mode: &SafeMode) -> store::SafeModeRecord {
    store::SafeModeRecord {
        node: mode.node.map(|node| node.to_string()).unwrap_or_default(),
        reason: mode.reason.to_string(),
        by: mode.by.to_string(),
        since: mode.since.millis(),
        automatic: mode.automatic,
    }
}

pub fn safe_mode_from(wire: &store::SafeModeRecord) -> Result<SafeMode, Invalid> {
    Ok(SafeMode {
        node: (!wire.node.is_empty()).then(|| parsed("node", &wire.node)).transpose()?,
        reason: wire.reason.as_str().into(),
        by: wire.by.as_str().into(),
        since: Timestamp::from_millis(wire.since),
        automatic: wire.automatic,
    })
}

/// As it is shown.
pub fn to_wire(plan: &Plan, fleet: &Fleet) -> v1::Plan {
    let applied = plan.applied.as_ref();
    v1::Plan {
        id: plan.id.to_string(),
        digest: plan.digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        create_time: Some(stamp(plan.made)),
        expire_time: Some(stamp(plan.expires)),
        actions: (1..).zip(&plan.actions).map(|(number, action)| shown(number, action, fleet)).collect(),
        kept: plan.kept.iter().map(kept_to_wire).collect(),
        purpose: plan.purpose.word().to_owned(),
        made_by: plan.by.to_string(),
        applied_by: applied.map(|applied| applied.by.to_string()).unwrap_or_default(),
        apply_time: applied.map(|applied| stamp(applied.at)),
        is_over: plan.is_over(),
    }
}

fn shown(number: u32, action: &Action, fleet: &Fleet) -> v1::Action {
    let risk = match action.risk {
        Risk::Safe => v1::ActionRisk::Safe,
        Risk::Confirm => v1::ActionRisk::Confirm,
        Risk::Force => v1::ActionRisk::Force,
    };
    let done = action.result.as_ref();
    v1::Action {
        number,
        finding: Some(finding_to_wire(&action.finding, fleet)),
        what: action.what.to_string(),
        reason: action.reason.to_string(),
        preconditions: texts(&action.preconditions),
        risk: risk.into(),
        result: done.map_or(v1::ActionResult::Unspecified, |done| result(done.result)).into(),
        outcome: done.map(|done| done.text.to_string()).unwrap_or_default(),
    }
}

pub fn result(outcome: Outcome) -> v1::ActionResult {
    match outcome {
        Outcome::Done => v1::ActionResult::Done,
        Outcome::Skipped => v1::ActionResult::Skipped,
        Outcome::Failed => v1::ActionResult::Failed,
    }
}

pub fn finding_to_wire(finding: &Finding, fleet: &Fleet) -> v1::Finding {
    let node = finding.node.and_then(|node| fleet.node(node));
    let named = || finding.session.map(|session| session.to_string()).unwrap_or_default();
    v1::Finding {
        code: finding.code.word().to_owned(),
        level: level(finding.severity).into(),
        subject: finding.subject.to_string(),
        message: finding.text.to_string(),
        evidence: texts(&finding.evidence),
        hint: finding.hint.to_string(),
        time: Some(stamp(finding.since)),
        node: node.map(|node| node.name.to_string()).unwrap_or_default(),
        session: finding.title.as_ref().map_or_else(named, |title| title.to_string()),
        repository: text(finding.repository.as_deref()),
    }
}

pub fn level(severity: Severity) -> v1::HealthLevel {
    match severity {
        Severity::Info => v1::HealthLevel::Healthy,
        Severity::Available => v1::HealthLevel::CleanupAvailable,
        Severity::Required => v1::HealthLevel::CleanupRequired,
        Severity::Manual => v1::HealthLevel::Manual,
    }
}

fn kept_to_wire(item: &KeptItem) -> v1::KeptItem {
    v1::KeptItem {
        subject: item.subject.to_string(),
        code: item.code.word().to_owned(),
        reason: item.reason.to_string(),
    }
}

fn word<T: Copy>(field: &str, text: &str, all: &[T], of: impl Fn(T) -> &'static str) -> Result<T, Invalid> {
    let found = all.iter().copied().find(|value| of(*value) == text);
    found.ok_or_else(|| Invalid::one(field, format!("'{text}' is nothing that this version knows")))
}

fn text(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}

fn texts(all: &[Box<str>]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

fn boxes(all: &[String]) -> Vec<Box<str>> {
    all.iter().map(|text| text.as_str().into()).collect()
}
