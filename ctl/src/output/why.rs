//! Why a session is as it is, for people: its last decisions as a story, and what comes next.

use drover_proto::v1::{Decision, ExplainSessionResponse};

use super::sanitise::line;
use super::sessions::{state_line, title};
use super::table::{Row, table};
use super::times::{age, stamp};
use super::{Look, STRONG, View};

impl View for ExplainSessionResponse {
    const KIND: &'static str = "drover.v1.ExplainSessionResponse";

    /// The oldest first: what comes next follows from the newest.
    fn show(&self, look: &Look) -> String {
        let session = self.session.clone().unwrap_or_default();
        let heading = format!("{} is {}", title(&session), state_line(&session, look));
        let rows: Vec<Row> = self.decisions.iter().rev().map(|decision| row(decision, look)).collect();
        let header: &[&str] = if look.wide {
            &["TIME", "AGE", "WHAT", "BY", "EVIDENCE"]
        } else {
            &["AGE", "WHAT", "BY", "EVIDENCE"]
        };
        let story = match rows.as_slice() {
            [] => "nothing is recorded of it any more".to_owned(),
            rows => table(look, header, rows),
        };
        let next = format!("{} {}", look.paint(STRONG, "next:"), line(&self.next));
        format!("{}\n\n{story}\n\n{next}", line(&heading))
    }

    fn names(&self) -> Vec<String> {
        self.session.iter().map(title).collect()
    }
}

fn row(decision: &Decision, look: &Look) -> Row {
    let time = decision.time.as_ref();
    let stamped = look.wide.then(|| time.map(stamp).unwrap_or_default());
    let rest =
        [age(look.now, time), decision.what.clone(), decision.actor.clone(), decision.evidence.join("; ")];
    Row { cells: stamped.into_iter().chain(rest).collect(), style: anstyle::Style::new() }
}

#[cfg(test)]
mod tests {
    use drover_proto::v1::{Session, SessionState};
    use prost_types::Timestamp;

    use super::*;

    #[test]
    fn the_story_is_told_from_its_beginning_and_ends_with_what_comes_next() {
        let decision = |seconds_ago: i64, what: &str, evidence: &[&str]| Decision {
            time: Some(Timestamp { seconds: 1_795_514_400 - seconds_ago, nanos: 0 }),
            what: what.into(),
            evidence: evidence.iter().map(ToString::to_string).collect(),
            actor: "node:build-1".into(),
        };
        let told = ExplainSessionResponse {
            session: Some(Session {
                name: "fix".into(),
                state: SessionState::Ready.into(),
                state_time: Some(Timestamp { seconds: 1_795_514_300, nanos: 0 }),
                ..Default::default()
            }),
            decisions: vec![
                decision(100, "run_ended", &["run 1 failed(3)\u{1b}]0;x\u{7}", "then ready"]),
                decision(300, "session_created", &[]),
            ],
            next: "nothing\nelse".into(),
        };
        let look = Look { now: 1_795_514_400_000, ..Look::default() };
        insta::assert_snapshot!(told.show(&look), @r"
        fix is ready for 1m40s

        AGE    WHAT             BY            EVIDENCE
        5m     session_created  node:build-1  -
        1m40s  run_ended        node:build-1  run 1 failed(3)\x1b]0;x\x07; then ready

        next: nothing\nelse
        ");
        let forgotten = ExplainSessionResponse { decisions: vec![], ..told };
        assert!(forgotten.show(&look).contains("nothing is recorded of it any more"));
    }
}
