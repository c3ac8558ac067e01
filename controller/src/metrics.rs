//! What the controller counts, in Prometheus' text form. Label sets are closed, so that no caller can grow them.

mod process;
mod text;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drover_domain::change::{Change, Kind};
use drover_domain::fleet::Fleet;
use drover_domain::node::Standing;
use drover_domain::outcome::Outcome;

use crate::access;
use text::{Histogram, SECONDS, SIZES, Text};

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    commits: Histogram,
    batch: Histogram,
    queue_wait: Histogram,
    spawned: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
    ignored_reports: AtomicU64,
    outcomes: Mutex<BTreeMap<&'static str, u64>>,
    calls: Mutex<BTreeMap<Call, Histogram>>,
    upkeep: upkeep::Upkeep,
}

/// The call's path, one of the matrix, and how it ended.
type Call = (&'static str, u16);

/// What every path is counted under that is none of ours.
const OTHER: &str = "/other/other";

impl Default for Counters {
    fn default() -> Self {
        Self {
            commits: Histogram::new(SECONDS),
            batch: Histogram::new(SIZES),
            queue_wait: Histogram::new(SECONDS),
            spawned: AtomicU64::default(),
            completed: AtomicU64::default(),
            failed: AtomicU64::default(),
            timed_out: AtomicU64::default(),
            ignored_reports: AtomicU64::default(),
            outcomes: Mutex::default(),
            calls: Mutex::default(),
            upkeep: upkeep::Upkeep::default(),
        }
    }
}

impl Metrics {
    /// The writer handled a batch.
    pub fn committed(&self, commands: usize, took: Duration) {
        self.0.commits.observe(took.as_secs_f64());
        self.0.batch.observe(commands as f64);
    }

    /// A change became durable.
    pub fn changed(&self, change: &Change) {
        match change.kind {
            Kind::SessionCreated => add(&self.0.spawned),
            Kind::SessionCleaned => add(&self.0.completed),
            Kind::SessionFaulted => add(&self.0.failed),
            Kind::ReportIgnored => add(&self.0.ignored_reports),
            Kind::SessionPlaced => {
                if let Some(placed) = change.after.session() {
                    self.0.queue_wait.observe(change.at.since(placed.created).as_secs_f64());
                }
            }
            Kind::RunEnded | Kind::RunInterrupted => {
                if let Some(run) = change.after.session().and_then(|session| session.last_run.as_ref()) {
                    self.ended(&run.outcome);
                }
            }
            Kind::SessionProgressed
            | Kind::SessionReady
            | Kind::SessionQueued
            | Kind::RunOrdered
            | Kind::RunStarted
            | Kind::RunExtended
            | Kind::SessionReset
            | Kind::SessionCheckpointed
            | Kind::SessionStopping
            | Kind::SessionHeld
            | Kind::SessionReleased
            | Kind::SessionCleaning
            | Kind::SessionOrphaned
            | Kind::SessionReturned
            | Kind::SessionForgotten
            | Kind::NodeJoined
            | Kind::NodeLinked
            | Kind::NodeStanding
            | Kind::NodeCordoned
            | Kind::NodeUncordoned
            | Kind::NodeDraining
            | Kind::NodeRevoked
            | Kind::NodeRemoved
            | Kind::TokenCreated
            | Kind::TokenRevoked
            | Kind::TokenForgotten
            | Kind::SessionRetried
            | Kind::PlanMade
            | Kind::PlanApplied
            | Kind::ActionFinished
            | Kind::PlanForgotten
            | Kind::SafeModeOn
            | Kind::SafeModeOff
            | Kind::FindingAppeared
            | Kind::FindingEnded
            | Kind::Notified => {}
        }
    }

    fn ended(&self, outcome: &Outcome) {
        let word = match outcome {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed(_) => "failed",
            Outcome::Signalled(_) => "signalled",
            Outcome::TimedOut(_) => {
                add(&self.0.timed_out);
                "timed_out"
            }
            Outcome::Stopped(_) => "stopped",
            Outcome::Interrupted(_) => "interrupted",
            Outcome::RateLimited => "rate_limited",
            Outcome::Lost => "lost",
        };
        *self.0.outcomes.lock().unwrap_or_else(PoisonError::into_inner).entry(word).or_default() += 1;
    }

    /// A call was answered (a stream: begun) with this gRPC code.
    pub fn called(&self, path: &str, code: u16, took: Duration) {
        let path = access::known(path).unwrap_or(OTHER);
        let mut calls = self.0.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = calls.entry((path, code)).or_insert_with(|| Histogram::new(SECONDS));
        histogram.observe(took.as_secs_f64());
    }

    /// Everything, with what the fleet says by itself.
    pub fn render(&self, fleet: &Fleet, oldest_heartbeat: Option<Duration>) -> String {
        let mut text = Text::default();
        of_fleet(&mut text, fleet);
        let age = oldest_heartbeat.unwrap_or_default().as_secs_f64();
        text.gauge("drover_heartbeat_age_seconds", "Silence of the node that is silent for longest.", age);
        self.write_counters(&mut text);
        self.0.upkeep.write(&mut text);
        self.write_calls(&mut text);
        process::write(&mut text);
        text.finish()
    }

    fn write_counters(&self, text: &mut Text) {
        let of = &self.0;
        for (name, help, counter) in [
            ("drover_sessions_spawned_total", "Sessions that were created.", &of.spawned),
            ("drover_sessions_completed_total", "Sessions that were cleaned.", &of.completed),
            ("drover_sessions_failed_total", "Sessions that Drover could not serve.", &of.failed),
            ("drover_sessions_timed_out_total", "Runs that ended at their deadline.", &of.timed_out),
            (
                "drover_reports_ignored_total",
                "Reports that were about an older placement.",
                &of.ignored_reports,
            ),
        ] {
            text.counter(name, help, counter.load(Ordering::Relaxed));
        }
        text.begin("drover_runs_outcome_total", "counter", "Runs by how they ended.");
        for (outcome, count) in of.outcomes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            text.sample("drover_runs_outcome_total", &format!("outcome=\"{outcome}\""), count);
        }
        for (name, help, histogram) in [
            ("drover_queue_wait_seconds", "From a session's creation to its placement.", &of.queue_wait),
            ("drover_registry_commit_seconds", "What it took to make a batch durable.", &of.commits),
            ("drover_registry_batch_size", "Commands in a batch.", &of.batch),
        ] {
            text.begin(name, "histogram", help);
            text.histogram(name, "", histogram);
        }
    }

    fn write_calls(&self, text: &mut Text) {
        let name = "drover_rpc_seconds";
        text.begin(name, "histogram", "From a call to its answer, or to the beginning of its stream.");
        for ((path, code), histogram) in self.0.calls.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
            let labels = format!("service=\"{service}\",method=\"{method}\",code=\"{code}\"");
            text.histogram(name, &labels, histogram);
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn of_fleet(text: &mut Text, fleet: &Fleet) {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for session in fleet.sessions() {
        *counts.entry((session.state.kind().word(), session.project.as_str())).or_default() += 1;
    }
    text.begin("drover_sessions", "gauge", "Sessions in memory.");
    for ((state, project), count) in counts {
        text.sample("drover_sessions", &format!("state=\"{state}\",project=\"{project}\""), count);
    }
    text.begin("drover_nodes", "gauge", "Nodes by standing.");
    for standing in Standing::ALL {
        let count = fleet.nodes().filter(|node| node.standing == standing).count();
        text.sample("drover_nodes", &format!("standing=\"{}\"", standing.word()), count);
    }
    text.gauge("drover_queue_length", "Sessions that wait for a node.", fleet.queue_length());
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_domain::id::InstallationId;

    fn shown(metrics: &Metrics) -> String {
        metrics.render(&Fleet::new(InstallationId::from_random([0; 10]), 1), None)
    }

    #[test]
    fn what_is_counted_is_shown_in_prometheus_form() {
        let metrics = Metrics::default();
        metrics.committed(3, Duration::from_millis(2));
        metrics.called("/drover.v1.SessionService/GetSession", 0, Duration::from_millis(2));
        let text = shown(&metrics);
        for expected in [
            "drover_registry_batch_size_sum 3",
            "drover_registry_batch_size_bucket{le=\"2\"} 0",
            "drover_registry_batch_size_bucket{le=\"4\"} 1",
            "drover_registry_commit_seconds_bucket{le=\"0.005\"} 1",
            "drover_rpc_seconds_count{service=\"drover.v1.SessionService\",method=\"GetSession\",code=\"0\"} 1",
            "drover_nodes{standing=\"reachable\"} 0",
            "drover_queue_length 0",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
    }

    #[test]
    fn every_sample_belongs_to_a_family_that_was_said_once() {
        let metrics = Metrics::default();
        metrics.called("/drover.v1.SessionService/GetSession", 5, Duration::ZERO);
        let text = shown(&metrics);
        let mut families: Vec<&str> = Vec::new();
        for line in text.lines() {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let name = family.split(' ').next().unwrap();
                assert!(!families.contains(&name), "{name} twice");
                families.push(name);
            } else if !line.starts_with('#') {
                let family = families.last().unwrap();
                let rest = line.strip_prefix(family).expect(line);
                let parts = ["{", " ", "_bucket{", "_sum", "_count"];
                assert!(parts.iter().any(|part| rest.starts_with(part)), "{line}");
                assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
            }
        }
        for used in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
            assert!(families.contains(&used), "{used}");
        }
    }

    #[test]
    fn a_caller_cannot_make_new_labels() {
        let metrics = Metrics::default();
        for number in 0..10 {
            metrics.called(&format!("/a\"{number}/b"), 12, Duration::ZERO);
        }
        let text = shown(&metrics);
        assert!(text.contains("drover_rpc_seconds_count{service=\"other\",method=\"other\",code=\"12\"} 10"));
    }
}
