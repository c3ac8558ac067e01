//! Putting a server under load and seeing what it costs: calls in flight, time on processors, memory.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use drover_daemon::tasks::Tasks;

use super::measure::Stopwatch;

/// How many of a call are done each second with so many in flight. `call` is given a number that no other call has.
pub(crate) async fn rate<F, C>(in_flight: usize, lasts: Duration, call: C) -> Result<f64>
where
    C: Fn(u64) -> F + Clone + Send + 'static,
    F: Future<Output = Result<()>> + Send,
{
    let load = Load::start(in_flight, call);
    let watch = Stopwatch::start();
    tokio::time::sleep(lasts).await;
    let (done, seconds) = (load.done(), watch.seconds());
    load.end().await?;
    #[expect(clippy::cast_precision_loss, reason = "counts of calls are small")]
    Ok(done as f64 / seconds)
}

/// So many calls in all, so many of them in flight.
pub(crate) async fn times<F, C>(count: u64, in_flight: usize, call: C) -> Result<()>
where
    C: Fn(u64) -> F + Clone + Send + 'static,
    F: Future<Output = Result<()>> + Send,
{
    let tasks = Tasks::new();
    let next = Arc::new(AtomicU64::new(0));
    let workers = (0..in_flight).map(|_| {
        let (next, call) = (next.clone(), call.clone());
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(());
                }
                call(number).await?;
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await??;
    }
    Ok(())
}

/// Calls that go on until they are ended.
#[derive(Debug)]
pub(crate) struct Load {
    done: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    workers: Vec<tokio::task::JoinHandle<Result<()>>>,
}

impl Load {
    pub(crate) fn start<F, C>(in_flight: usize, call: C) -> Self
    where
        C: Fn(u64) -> F + Clone + Send + 'static,
        F: Future<Output = Result<()>> + Send,
    {
        let (done, ends, next) = <(Arc<AtomicU64>, Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        let tasks = Tasks::new();
        let workers = (0..in_flight).map(|_| {
            let (done, ends, next, call) = (done.clone(), ends.clone(), next.clone(), call.clone());
            tasks.spawn(async move {
                while !ends.load(Ordering::Relaxed) {
                    call(next.fetch_add(1, Ordering::Relaxed)).await?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        });
        let workers = workers.collect();
        Self { done, ends, workers }
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Lets what is in flight finish; says if a call failed.
    pub(crate) async fn end(self) -> Result<()> {
        self.ends.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.await??;
        }
        Ok(())
    }
}

/// Time that a process spent on processors.
pub(crate) fn on_processors(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").context("a stat line has a name in brackets")?;
    let field = |at: usize| -> Result<u64> { Ok(rest.split(' ').nth(at).context("a field")?.parse()?) };
    // The twelfth and thirteenth after the name's bracket: user and system time, in hundredths of a second.
    Ok(Duration::from_millis((field(11)? + field(12)?) * 10))
}

/// A line of `/proc/PID/smaps_rollup` or `/proc/PID/status`, in KiB; lines of the same beginning are added.
pub(crate) fn kibibytes(pid: u32, file: &str, beginning: &str) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"))
        .with_context(|| format!("process {pid} cannot be looked at"))?;
    let lines = text.lines().filter(|line| line.starts_with(beginning));
    let mut sum = None;
    for line in lines {
        let number: f64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
        *sum.get_or_insert(0.0) += number;
    }
    sum.with_context(|| format!("/proc/{pid}/{file} has no {beginning}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_call_is_made_once() {
        let sum = Arc::new(AtomicU64::new(0));
        let seen = sum.clone();
        let call = move |number| {
            let seen = seen.clone();
            async move {
                seen.fetch_add(number, Ordering::Relaxed);
                Ok(())
            }
        };
        times(100, 8, call).await.unwrap();
        assert_eq!(sum.load(Ordering::Relaxed), 4950);
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let own = std::process::id();
        assert!(on_processors(own).is_ok());
        assert!(kibibytes(own, "status", "VmRSS:").unwrap() > 100.0);
        assert!(kibibytes(own, "smaps_rollup", "Private_").unwrap() > 100.0);
        assert!(kibibytes(own, "status", "Nothing:").is_err());
    }
}
