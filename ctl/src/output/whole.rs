//! Health, events, and who the caller is, for people.

use drover_proto::v1::{Event, Finding, GetHealthResponse, HealthLevel, ListEventsResponse, WhoAmIResponse};

use super::sanitise::line;
use super::sessions::word;
use super::table::{Row, facts, table};
use super::times::stamp;
use super::{BAD, BUSY, FAINT, GOOD, Look, View, upkeep};

impl View for GetHealthResponse {
    const KIND: &'static str = "drover.v1.GetHealthResponse";

    fn show(&self, look: &Look) -> String {
        let mut text = level(self.level(), look);
        let is_as_meant = |finding: &&Finding| finding.level() == HealthLevel::Healthy;
        for finding in self.findings.iter().filter(|finding| look.wide || !is_as_meant(finding)) {
            text.push_str(&format!("\n\n{}", self::finding(finding, look)));
        }
        let counted = |map: &std::collections::BTreeMap<String, u32>| {
            map.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
        };
        let rest = facts(
            look,
            &[
                ("sessions", counted(&self.sessions)),
                ("nodes", counted(&self.nodes)),
                ("queue", self.queue_length.to_string()),
                ("as it is meant", as_meant(self.findings.iter().filter(is_as_meant).count(), look)),
                ("not looked at", self.unknown.join("\n")),
            ],
        );
        if !self.safe_modes.is_empty() {
            text.push_str(&format!("\n\n{}", upkeep::shown(&self.safe_modes, look)));
        }
        format!("{text}\n\n{rest}")
    }

    fn names(&self) -> Vec<String> {
        vec![word(self.level().as_str_name(), "HEALTH_LEVEL_")]
    }
}

impl View for ListEventsResponse {
    const KIND: &'static str = "drover.v1.ListEventsResponse";

    fn show(&self, look: &Look) -> String {
        let row = |event: &Event| Row {
            cells: vec![
                event.time.as_ref().map(stamp).unwrap_or_default(),
                event.kind.clone(),
                subject(event),
                event.actor.clone(),
                event.message.clone(),
            ],
            style: anstyle::Style::new(),
        };
        let rows: Vec<Row> = self.events.iter().map(row).collect();
        table(look, &["TIME", "KIND", "ABOUT", "BY", "MESSAGE"], &rows)
    }

    fn names(&self) -> Vec<String> {
        self.events.iter().map(|event| event.kind.clone()).collect()
    }
}

impl View for Event {
    const KIND: &'static str = "drover.v1.Event";

    fn show(&self, _: &Look) -> String {
        let stamped = self.time.as_ref().map(stamp).unwrap_or_default();
        let parts = [stamped, self.kind.clone(), subject(self), self.actor.clone(), self.message.clone()];
        let parts: Vec<_> = parts.iter().filter(|part| !part.is_empty()).map(|part| line(part)).collect();
        parts.join("  ")
    }

    fn names(&self) -> Vec<String> {
        vec![self.kind.clone()]
    }
}

impl View for WhoAmIResponse {
    const KIND: &'static str = "drover.v1.WhoAmIResponse";

    fn show(&self, look: &Look) -> String {
        facts(
            look,
            &[
                ("name", self.name.clone()),
                ("role", word(self.role().as_str_name(), "ROLE_")),
                ("installation", self.installation.clone()),
                ("controller", self.controller_version.clone()),
            ],
        )
    }

    fn names(&self) -> Vec<String> {
        vec![self.name.clone()]
    }
}

/// What is left alone on purpose: a branch with commits of its own, something that is young.
fn as_meant(count: usize, look: &Look) -> String {
    match count {
        0 => String::new(),
        _ if look.wide => count.to_string(),
        _ => format!("{count} left alone on purpose; -o wide shows them"),
    }
}

fn level(level: HealthLevel, look: &Look) -> String {
    let (style, words) = match level {
        HealthLevel::Unspecified => (BUSY, "not known"),
        HealthLevel::Healthy => (GOOD, "healthy"),
        HealthLevel::CleanupAvailable => (BUSY, "cleanup available"),
        HealthLevel::CleanupRequired => (BAD, "cleanup required before new work"),
        HealthLevel::Manual => (BAD, "somebody has to look"),
    };
    look.paint(style, words)
}

fn finding(finding: &Finding, look: &Look) -> String {
    let words = format!("{} {}: {}", line(&finding.code), line(&finding.subject), line(&finding.message));
    let style = match finding.level() {
        HealthLevel::Healthy => FAINT,
        HealthLevel::CleanupAvailable => BUSY,
        HealthLevel::CleanupRequired | HealthLevel::Manual | HealthLevel::Unspecified => BAD,
    };
    let mut text = look.paint(style, &words);
    let evidence = finding.evidence.iter().map(|evidence| ("seen", evidence));
    let hint = (!finding.hint.is_empty()).then_some(("next", &finding.hint));
    for (label, value) in evidence.chain(hint) {
        text.push_str(&format!("\n  {label}: {}", line(value)));
    }
    text
}

fn subject(event: &Event) -> String {
    match (event.session.as_str(), event.project.as_str()) {
        ("", _) if event.session_id.is_empty() => event.node_id.clone(),
        ("", _) => event.session_id.clone(),
        (name, "" | "default") => name.to_owned(),
        (name, project) => format!("{project}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_begins_with_the_level_and_says_what_to_do() {
        let finding = Finding {
            code: "NODE_LOST".into(),
            subject: "build-1".into(),
            message: "was not heard for 3m".into(),
            hint: "start its agent".into(),
            ..Default::default()
        };
        let health = GetHealthResponse {
            level: HealthLevel::Manual.into(),
            findings: vec![finding],
            sessions: [("ready".to_owned(), 2), ("running".to_owned(), 1)].into(),
            ..Default::default()
        };
        insta::assert_snapshot!(health.show(&Look::default()), @r"
        somebody has to look

        NODE_LOST build-1: was not heard for 3m
          next: start its agent

        sessions  2 ready, 1 running
        queue     0
        ");
    }

    #[test]
    fn an_event_is_one_line_that_cannot_do_harm() {
        let event = Event {
            time: Some(prost_types::Timestamp { seconds: 1_795_514_400, nanos: 5 }),
            kind: "session_created".into(),
            session: "fix".into(),
            project: "web".into(),
            actor: "user:op".into(),
            message: "a\n\u{1b}[2J".into(),
            ..Default::default()
        };
        insta::assert_snapshot!(event.show(&Look::default()), @r"2026-11-24T10:00:00Z  session_created  web/fix  user:op  a\n\x1b[2J");
    }
}
