//! What the controller counts, in Prometheus' text form. Label sets are closed, so that no caller can grow them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drover_domain::change::{Change, Kind};
use drover_domain::fleet::Fleet;
use drover_domain::node::Standing;
use drover_domain::outcome::Outcome;

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    commits: Histogram,
    batch: Histogram,
    spawned: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
    outcomes: Mutex<BTreeMap<&'static str, u64>>,
    calls: Mutex<BTreeMap<Call, Arc<Histogram>>>,
    queue_wait: Histogram,
    ignored_reports: AtomicU64,
}

/// Service, method, code.
type Call = (Box<str>, Box<str>, u16);

const BOUNDS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];
/// Services and calls are ours; a foreign path is counted as one.
const MOST_CALLS: usize = 500;

/// Counts by upper bound, as Prometheus wants them.
#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    /// In millionths.
    sum: AtomicU64,
}

impl Histogram {
    fn observe(&self, value: f64) {
        for (bound, bucket) in BOUNDS.iter().zip(&self.buckets) {
            if value <= *bound {
                bucket.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(
            Duration::try_from_secs_f64(value)
                .map_or(0, |value| u64::try_from(value.as_micros()).unwrap_or(0)),
            Ordering::Relaxed,
        );
    }

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        let count = self.count.load(Ordering::Relaxed);
        for (bound, bucket) in BOUNDS.iter().zip(&self.buckets) {
            line(
                out,
                format_args!(
                    "drover_{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {}",
                    bucket.load(Ordering::Relaxed)
                ),
            );
        }
        line(out, format_args!("drover_{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}"));
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let sum = Duration::from_micros(self.sum.load(Ordering::Relaxed)).as_secs_f64();
        line(out, format_args!("drover_{name}_sum{labels} {sum}"));
        line(out, format_args!("drover_{name}_count{labels} {count}"));
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
        let add = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        match change.kind {
            Kind::SessionCreated => add(&self.0.spawned),
            Kind::SessionCleaned => add(&self.0.completed),
            Kind::SessionFaulted => add(&self.0.failed),
            Kind::ReportIgnored => add(&self.0.ignored_reports),
            Kind::SessionPlaced => {
                let placed = change.after.session();
                placed.iter().for_each(|session| {
                    self.0.queue_wait.observe(change.at.since(session.created).as_secs_f64())
                });
            }
            Kind::RunEnded => {
                if let Some(run) = change.after.session().and_then(|session| session.last_run.as_ref()) {
                    self.ended(&run.outcome);
                }
            }
            _ => {}
        }
    }

    fn ended(&self, outcome: &Outcome) {
        let word = match outcome {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed(_) => "failed",
            Outcome::Signalled(_) => "signalled",
            Outcome::TimedOut(_) => {
                self.0.timed_out.fetch_add(1, Ordering::Relaxed);
                "timed_out"
            }
            Outcome::Stopped(_) => "stopped",
            Outcome::Interrupted(_) => "interrupted",
            Outcome::RateLimited => "rate_limited",
            Outcome::Lost => "lost",
        };
        *self.0.outcomes.lock().unwrap_or_else(PoisonError::into_inner).entry(word).or_default() += 1;
    }

    /// A call was answered (a stream: begun) with this HTTP status or gRPC code.
    pub fn called(&self, path: &str, code: u16, took: Duration) {
        let (service, method) = path.trim_start_matches('/').rsplit_once('/').unwrap_or(("other", "other"));
        let mut calls = self.0.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let key = if calls.len() < MOST_CALLS {
            (service.into(), method.into(), code)
        } else {
            ("other".into(), "other".into(), code)
        };
        let histogram = calls.entry(key).or_default().clone();
        drop(calls);
        histogram.observe(took.as_secs_f64());
    }

    /// Everything, with what the fleet says by itself.
    pub fn render(&self, fleet: &Fleet, oldest_heartbeat: Option<Duration>) -> String {
        let mut out = String::new();
        let counters = &self.0;
        sessions(&mut out, fleet);
        let gauge =
            |out: &mut String, name: &str, value: f64| line(out, format_args!("drover_{name} {value}"));
        gauge(&mut out, "queue_length", fleet.queue_length() as f64);
        gauge(&mut out, "heartbeat_age_seconds", oldest_heartbeat.unwrap_or_default().as_secs_f64());
        for (name, counter) in [
            ("sessions_spawned_total", &counters.spawned),
            ("sessions_completed_total", &counters.completed),
            ("sessions_failed_total", &counters.failed),
            ("sessions_timed_out_total", &counters.timed_out),
            ("reports_ignored_total", &counters.ignored_reports),
        ] {
            line(&mut out, format_args!("drover_{name} {}", counter.load(Ordering::Relaxed)));
        }
        for (outcome, count) in counters.outcomes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            line(&mut out, format_args!("drover_runs_outcome_total{{outcome=\"{outcome}\"}} {count}"));
        }
        counters.queue_wait.write(&mut out, "queue_wait_seconds", "");
        counters.commits.write(&mut out, "registry_commit_seconds", "");
        counters.batch.write(&mut out, "registry_batch_size", "");
        for ((service, method, code), histogram) in
            counters.calls.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            let labels = format!("service=\"{service}\",method=\"{method}\",code=\"{code}\"");
            histogram.write(&mut out, "rpc_seconds", &labels);
        }
        out
    }
}

fn sessions(out: &mut String, fleet: &Fleet) {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for session in fleet.sessions() {
        *counts.entry((session.state.kind().word(), session.project.as_str())).or_default() += 1;
    }
    for ((state, project), count) in counts {
        line(out, format_args!("drover_sessions{{state=\"{state}\",project=\"{project}\"}} {count}"));
    }
    for standing in Standing::ALL {
        let count = fleet.nodes().filter(|node| node.standing == standing).count();
        line(out, format_args!("drover_nodes{{standing=\"{}\"}} {count}", standing.word()));
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _ = writeln!(out, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_domain::id::InstallationId;

    #[test]
    fn what_is_counted_is_shown_in_prometheus_form() {
        let metrics = Metrics::default();
        metrics.committed(3, Duration::from_millis(2));
        metrics.called("/drover.v1.SessionService/GetSession", 0, Duration::from_millis(2));
        let text = metrics.render(&Fleet::new(InstallationId::from_random([0; 10]), 1), None);
        for expected in [
            "drover_registry_batch_size_sum 3",
            "drover_registry_commit_seconds_bucket{le=\"0.005\"} 1",
            "drover_rpc_seconds_count{service=\"drover.v1.SessionService\",method=\"GetSession\",code=\"0\"} 1",
            "drover_nodes{standing=\"reachable\"} 0",
            "drover_queue_length 0",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
    }
}
