//! Which logs of ended runs go: what is too old, and of the rest the oldest until all of them together fit. A log that
//! goes leaves a line that says so, at the place where it ended, so that readers and positions stay right.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Stream;
use super::format::{segment, segments};
use super::write::Writer;

/// How long logs are kept, and how much of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub longest: Duration,
    /// Of all runs on this node together. Runs that go on keep to their own caps.
    pub most_bytes: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self { longest: Duration::from_secs(30 * 24 * 3600), most_bytes: 20 * 1024 * 1024 * 1024 }
    }
}

/// The log of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub directory: PathBuf,
    /// On disk.
    pub bytes: u64,
    /// When the run ended, in milliseconds since 1970. None: it goes on.
    pub ended: Option<i64>,
    /// How much the run wrote, if that was told.
    pub written: Option<u64>,
}

/// Why a log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Old,
    Room,
}

/// A log of no more than this was cut already, or is not worth it.
const SMALL: u64 = 8 * 1024;

/// Which of them go, and why.
pub fn plan(logs: &[Kept], rules: Rules, now: i64) -> Vec<(&Kept, Why)> {
    let longest = i64::try_from(rules.longest.as_millis()).unwrap_or(i64::MAX);
    let mut total: u64 = logs.iter().map(|log| log.bytes).sum();
    let mut ended: Vec<(i64, &Kept)> =
        logs.iter().filter(|log| log.bytes > SMALL).filter_map(|log| Some((log.ended?, log))).collect();
    ended.sort_by_key(|(at, _)| *at);
    let mut gone = Vec::new();
    for (at, log) in ended {
        let why = if now.saturating_sub(at) > longest {
            Why::Old
        } else if total > rules.most_bytes {
            Why::Room
        } else {
            continue;
        };
        total = total.saturating_sub(log.bytes);
        gone.push((log, why));
    }
    gone
}

/// What the log has on disk.
pub fn size(directory: &Path) -> io::Result<u64> {
    segments(directory)?
        .into_iter()
        .try_fold(0, |sum, begins| fs::metadata(segment(directory, begins)).map(|found| sum + found.len()))
}

/// Deletes the log and leaves the line. Died half-way, it is done again.
pub fn cut(log: &Kept, why: Why, now: i64) -> io::Result<()> {
    let there = segments(&log.directory)?;
    // One that was not told of ends somewhere in its last segment; a place behind that is never missing unseen.
    let last = there.last().copied().unwrap_or(0);
    let behind = fs::metadata(segment(&log.directory, last)).map_or(last, |found| last + found.len());
    let end = log.written.filter(|written| *written >= last).unwrap_or(behind);
    for begins in there.iter().filter(|begins| **begins != end) {
        fs::remove_file(segment(&log.directory, *begins))?;
    }
    if there.contains(&end) {
        return Ok(());
    }
    let reason = match why {
        Why::Old => "it was older than logs are kept on this node",
        Why::Room => "this node keeps no more logs than so many bytes",
    };
    let mut writer = Writer::behind(&log.directory, end);
    writer.append(
        Stream::Drover,
        now,
        format!("drover: what was written before was deleted: {reason}\n").as_bytes(),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::From;
    use crate::logs::read::Reader;

    fn log(name: &str, kilobytes: u64, ended: Option<i64>) -> Kept {
        Kept { directory: name.into(), bytes: kilobytes * 1024, ended, written: None }
    }

    #[test]
    fn what_is_too_old_goes_then_the_oldest_until_the_rest_fits_and_never_what_goes_on() {
        let logs = [
            log("new", 50, Some(9_000)),
            log("live", 500, None),
            log("old", 20, Some(1_000)),
            log("older", 20, Some(500)),
            log("small", 1, Some(1)),
        ];
        let names = |bytes: u64| {
            let rules = Rules { longest: Duration::from_secs(9), most_bytes: bytes * 1024 };
            let gone = plan(&logs, rules, 9_800);
            gone.iter()
                .map(|(log, why)| (log.directory.to_str().unwrap().to_owned(), *why))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(10_000), [("older".to_owned(), Why::Old)]);
        assert_eq!(names(560), [("older".to_owned(), Why::Old), ("old".to_owned(), Why::Room)]);
        assert_eq!(names(0).len(), 3);
    }

    #[test]
    fn a_log_that_is_gone_says_so_and_how_much_it_was_and_a_follower_finds_that_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(dir.path(), 1024 * 1024);
        for line in 0..2_000 {
            writer.append(Stream::Output, 5, format!("line {line}\n").as_bytes());
        }
        let written = writer.written();
        drop(writer);
        let mut follower = Reader::open(dir.path(), From::Beginning).unwrap();
        let first = follower.next_chunk().unwrap().unwrap();
        let bytes = size(dir.path()).unwrap();
        let kept = Kept { directory: dir.path().to_owned(), bytes, ended: Some(1), written: Some(written) };
        cut(&kept, Why::Old, 7).unwrap();
        cut(&kept, Why::Old, 8).unwrap();
        let mut reader = Reader::open(dir.path(), From::Beginning).unwrap();
        let chunk = reader.next_chunk().unwrap().unwrap();
        assert_eq!((chunk.stream, chunk.dropped, chunk.time), (Stream::Drover, written, 7));
        assert!(reader.next_chunk().unwrap().is_none(), "once");
        let mut resumed = Reader::open(dir.path(), From::After(first.next)).unwrap();
        assert_eq!(resumed.next_chunk().unwrap().unwrap().dropped, written - first.data.len() as u64);
    }
}
