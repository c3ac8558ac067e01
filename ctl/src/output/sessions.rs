//! Sessions, and what a removal would do, for people.

use anstyle::Style;
use drover_proto::v1::{
    BranchFate, LifeSigns, ListSessionsResponse, PathSample, RemovalPreview, ResetSessionResponse,
    ResumePolicy, SavedCheckpoint, Session, SessionState, SessionWanted,
};

use super::runs::{ago, deadline, outcome, run_line};
use super::table::{Row, facts, table};
use super::times::{age, bytes, count, length, short, since, stamp};
use super::{BAD, BUSY, FAINT, GOOD, Look, View};

impl View for ListSessionsResponse {
    const KIND: &'static str = "drover.v1.ListSessionsResponse";

    fn show(&self, look: &Look) -> String {
        let header: &[&str] = if look.wide {
            &[
                "NAME",
                "STATE",
                "NODE",
                "AGE",
                "DETAIL",
                "ID",
                "OWNER",
                "RUNS",
                "REPOSITORY",
                "BRANCH",
                "COMMAND",
            ]
        } else {
            &["NAME", "STATE", "NODE", "AGE", "DETAIL"]
        };
        let rows: Vec<Row> = self.sessions.iter().map(|session| row(session, look)).collect();
        table(look, header, &rows)
    }

    fn names(&self) -> Vec<String> {
        self.sessions.iter().map(title).collect()
    }
}

impl View for Session {
    const KIND: &'static str = "drover.v1.Session";

    fn show(&self, look: &Look) -> String {
        let spec = self.spec.clone().unwrap_or_default();
        let base = self.workspace.as_ref().map(|workspace| workspace.base_commit.clone()).unwrap_or_default();
        let workspace = self.workspace.as_ref();
        let mut list = vec![
            ("name", title(self)),
            ("id", self.id.clone()),
            ("state", state_line(self, look)),
            ("node", node(self)),
            ("owner", self.owner.clone()),
            ("created", created(self, look)),
            ("repository", spec.repository.clone()),
            (
                "base",
                [spec.base.clone(), base].map(|text| text.trim().to_owned()).join(" ").trim().to_owned(),
            ),
            ("branch", workspace.map(|workspace| workspace.branch.clone()).unwrap_or_default()),
            ("workspace", workspace.map(|workspace| workspace.path.clone()).unwrap_or_default()),
            ("command", command_line(&spec.command)),
            ("hold", hold(self)),
            ("run", self.current_run.as_ref().map(|run| run_line(run, look)).unwrap_or_default()),
            ("deadline", deadline(self, look)),
            ("last run", self.last_run.as_ref().map(|run| run_line(run, look)).unwrap_or_default()),
            ("interrupted", interrupted(self)),
            ("resumes", resumes(self)),
            ("checkpoint", self.checkpoint.as_ref().map(|saved| checkpoint(saved, look)).unwrap_or_default()),
            ("restored from", self.restored_from.clone()),
            ("made anew", times(self.rebuilds)),
            ("fault", fault(self)),
            ("kept", kept(self)),
        ];
        if look.wide {
            list.extend(spec_facts(self));
        }
        list.push(("conditions", conditions(self, look)));
        facts(look, &list)
    }

    fn names(&self) -> Vec<String> {
        vec![title(self)]
    }
}

/// What a reset would do.
impl View for ResetSessionResponse {
    const KIND: &'static str = "drover.v1.ResetSessionResponse";

    fn show(&self, _: &Look) -> String {
        let lines = self.preview.as_ref().map(preview).unwrap_or_default();
        lines.iter().map(|text| super::sanitise::line(text)).collect::<Vec<_>>().join("\n")
    }

    fn names(&self) -> Vec<String> {
        self.session.iter().map(title).collect()
    }
}

/// `name`, or `project/name` outside of the default project: what a command may be given.
pub fn title(session: &Session) -> String {
    titled(&session.project, &session.name)
}

/// The same of what is known by its project and name only.
pub fn titled(project: &str, name: &str) -> String {
    match project {
        "" | "default" => name.to_owned(),
        project => format!("{project}/{name}"),
    }
}

/// The state in one word.
pub fn state(session: &Session) -> String {
    word(session.state().as_str_name(), "SESSION_STATE_")
}

/// A value of an enum without its type, as people say it.
pub fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

/// One line about a session that changed.
pub fn changed(session: &Session, look: &Look) -> String {
    let detail = super::sanitise::line(&detail(session, look)).into_owned();
    let state = look.paint(style(session.state()), &state(session));
    let title = super::sanitise::line(&title(session)).into_owned();
    format!("{}  {title}  {state}  {detail}", session.state_time.as_ref().map(stamp).unwrap_or_default())
}

/// What there is to say about the state, in a few words.
pub fn detail(session: &Session, look: &Look) -> String {
    match session.state() {
        SessionState::Unspecified => String::new(),
        SessionState::Queued if !session.wait_reason.is_empty() => session.wait_reason.clone(),
        SessionState::Queued => hold(session),
        SessionState::Creating | SessionState::Cleaning => progress(session),
        SessionState::Ready => match &session.last_run {
            Some(run) => format!("{}{}", outcome(run), ago(run, look)),
            None => "has not run yet".to_owned(),
        },
        SessionState::Running => running(session, look),
        SessionState::Cleaned => kept(session).replace('\n', ", "),
        SessionState::Error => fault(session).lines().next().unwrap_or_default().to_owned(),
        SessionState::Orphaned => session.orphan_evidence.clone(),
    }
}

/// A command as one could type it.
pub fn command_line(words: &[String]) -> String {
    let quoted = |word: &String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// What a removal would find and do, line by line.
pub fn preview(preview: &RemovalPreview) -> Vec<String> {
    let mut lines = Vec::new();
    if preview.stops_run {
        lines.push("its run would be stopped".to_owned());
    }
    let saved = [
        ("changed", "saved", &preview.changed),
        ("untracked", "saved", &preview.untracked),
        ("ignored", "saved", &preview.ignored),
        ("ignored", "not saved: they can be made again", &preview.regenerable),
    ];
    lines.extend(saved.iter().filter_map(|(kind, fate, sample)| sampled(kind, fate, sample.as_ref()?)));
    if preview.unmerged_commits > 0 {
        lines.push(format!(
            "{} on no other branch",
            count(preview.unmerged_commits.into(), "commit", "commits")
        ));
    }
    let branch = &preview.branch;
    lines.extend(match preview.branch_fate() {
        BranchFate::Unspecified | BranchFate::Absent => None,
        BranchFate::Deleted => {
            Some(format!("branch {branch}: merged or still at its base, would be deleted"))
        }
        BranchFate::KeptUnmerged => Some(format!("branch {branch}: has commits of its own, would be kept")),
        BranchFate::KeptAsked => Some(format!("branch {branch}: would be kept, as asked")),
        BranchFate::SavedAndDeleted => {
            Some(format!("branch {branch}: its commits would be saved, then it is deleted"))
        }
    });
    if !preview.has_workspace {
        lines.push("it has no workspace".to_owned());
    }
    lines
}

/// What a removal left behind, and what it says of the rest.
pub fn kept(session: &Session) -> String {
    let Some(kept) = &session.kept else { return String::new() };
    let branch = format!("branch {}", kept.branch);
    // A reason says it too, and why.
    let is_said = kept.branch.is_empty() || kept.reasons.iter().any(|reason| reason.starts_with(&branch));
    let branch = (!is_said).then_some(branch);
    let trash = kept.trash.iter().map(|reference| format!("saved work {reference}"));
    let lines: Vec<String> = branch.into_iter().chain(trash).chain(kept.reasons.iter().cloned()).collect();
    lines.join("\n")
}

fn sampled(kind: &str, fate: &str, sample: &PathSample) -> Option<String> {
    if sample.count == 0 {
        return None;
    }
    let named = sample.paths.join(", ");
    let more = if sample.count > sample.paths.len() as u64 { ", …" } else { "" };
    let files = count(sample.count, "file", "files");
    Some(format!("{kind}, {fate}: {files}, {} ({named}{more})", bytes(sample.bytes)))
}

fn row(session: &Session, look: &Look) -> Row {
    let mut cells = vec![
        title(session),
        state(session),
        node(session),
        age(look.now, session.create_time.as_ref()),
        detail(session, look),
    ];
    if look.wide {
        let spec = session.spec.clone().unwrap_or_default();
        cells.extend([
            session.id.clone(),
            session.owner.clone(),
            session.runs.to_string(),
            spec.repository,
            session.workspace.as_ref().map(|workspace| workspace.branch.clone()).unwrap_or_default(),
            command_line(&spec.command),
        ]);
    }
    Row { cells, style: style(session.state()) }
}

fn style(state: SessionState) -> Style {
    match state {
        SessionState::Error | SessionState::Orphaned => BAD,
        SessionState::Queued | SessionState::Creating | SessionState::Cleaning => BUSY,
        SessionState::Running => GOOD,
        SessionState::Cleaned => FAINT,
        SessionState::Unspecified | SessionState::Ready => Style::new(),
    }
}

fn node(session: &Session) -> String {
    match &session.placement {
        Some(placement) if placement.node.is_empty() => placement.node_id.clone(),
        Some(placement) => placement.node.clone(),
        None => String::new(),
    }
}

fn created(session: &Session, look: &Look) -> String {
    let stamped = session.create_time.as_ref();
    stamped
        .map(|at| format!("{} ago, {} (controller's clock)", short(since(look.now, at)), stamp(at)))
        .unwrap_or_default()
}

/// The state, since when, and what it waits for.
pub fn state_line(session: &Session, look: &Look) -> String {
    let since = age(look.now, session.state_time.as_ref());
    let wanted = word(session.wanted().as_str_name(), "SESSION_WANTED_");
    let state_word = state(session);
    let wanted = match session.wanted() {
        SessionWanted::Unspecified => String::new(),
        _ if wanted == state_word => String::new(),
        _ => format!(" (wanted: {wanted})"),
    };
    let detail = match session.state() {
        SessionState::Queued | SessionState::Creating | SessionState::Cleaning | SessionState::Orphaned => {
            detail(session, look)
        }
        _ => String::new(),
    };
    let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
    format!("{state_word} for {since}{detail}{wanted}")
}

fn hold(session: &Session) -> String {
    let Some(hold) = &session.hold else { return String::new() };
    let until = hold
        .until_time
        .as_ref()
        .map_or("until it is released".to_owned(), |at| format!("until {}", stamp(at)));
    if hold.reason.is_empty() { format!("held {until}") } else { format!("held {until}: {}", hold.reason) }
}

fn progress(session: &Session) -> String {
    let text = |step: u32, steps: u32, name: &str| format!("step {step} of {steps}: {name}");
    session.progress.as_ref().map(|it| text(it.step, it.steps, &it.name)).unwrap_or_default()
}

fn running(session: &Session, look: &Look) -> String {
    let run = session.current_run.clone().unwrap_or_default();
    let since = age(look.now, run.start_time.as_ref());
    let unseen = session.conditions.iter().any(|condition| {
        condition.r#type == "NodeReachable" && condition.status() != drover_proto::v1::ConditionStatus::True
    });
    format!("for {since}{}", if unseen { ", when its node was last heard" } else { "" })
}

fn interrupted(session: &Session) -> String {
    let in_a_row = if session.interruptions > 1 { " in a row" } else { "" };
    format!("{}{in_a_row}", times(session.interruptions))
}

fn resumes(session: &Session) -> String {
    if session.resumes { "what an earlier run began".to_owned() } else { String::new() }
}

fn times(count: u32) -> String {
    match count {
        0 => String::new(),
        1 => "once".to_owned(),
        more => format!("{more} times"),
    }
}

fn checkpoint(saved: &SavedCheckpoint, look: &Look) -> String {
    let since = age(look.now, saved.create_time.as_ref());
    format!("{since} ago, {}, commit {}", saved.reference, saved.commit)
}

fn fault(session: &Session) -> String {
    let Some(fault) = &session.fault else { return String::new() };
    let step = if fault.step.is_empty() { String::new() } else { format!(" (at: {})", fault.step) };
    let hint = if fault.hint.is_empty() { String::new() } else { format!("\nnext: {}", fault.hint) };
    format!("{}: {}{step}{hint}", fault.code, fault.text)
}

fn conditions(session: &Session, look: &Look) -> String {
    let line = |condition: &drover_proto::v1::Condition| {
        let status = word(condition.status().as_str_name(), "CONDITION_STATUS_");
        let since = age(look.now, condition.change_time.as_ref());
        format!("{} {status} for {since} ({})", condition.r#type, condition.reason)
    };
    session.conditions.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn spec_facts(session: &Session) -> Vec<(&'static str, String)> {
    let spec = session.spec.clone().unwrap_or_default();
    let pairs = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("\n")
    };
    let limit = |limit: &Option<prost_types::Duration>| limit.as_ref().map(length).unwrap_or_default();
    vec![
        ("environment", pairs(&spec.env)),
        ("secrets", spec.secret_names.join(" ")),
        ("labels", pairs(&spec.labels)),
        ("node selector", pairs(&spec.node_selector)),
        ("timeout", limit(&spec.timeout)),
        ("extended by", signs(spec.extend_signs)),
        ("most extension", limit(&spec.max_extension)),
        ("idle timeout", limit(&spec.idle_timeout)),
        ("signs of life", signs(spec.idle_signs)),
        ("stop grace", limit(&spec.stop_grace)),
        ("queue timeout", limit(&spec.queue_timeout)),
        ("resume", if spec.resume() == ResumePolicy::Never { "never".to_owned() } else { String::new() }),
        ("resumed with", command_line(&spec.resume_command)),
        ("run as", spec.run_as.clone()),
        ("revision", session.revision.to_string()),
    ]
}

/// Signs that were named, in a few words.
fn signs(named: Option<LifeSigns>) -> String {
    let Some(LifeSigns { touch, output, cpu }) = named else { return String::new() };
    let words = [("touch", touch), ("output", output), ("cpu", cpu)];
    let there: Vec<_> = words.into_iter().filter(|(_, is_there)| *is_there).map(|(word, _)| word).collect();
    if there.is_empty() { "nothing".to_owned() } else { there.join(", ") }
}

#[cfg(test)]
mod tests;
