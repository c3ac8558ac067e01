//! One lock per repository, in its common directory, so that two agents on one machine exclude each other too. Within
//! the process waiters queue first come, first served; one of them waits for the file. The kernel frees the lock
//! with its last holder, so a stale one cannot be; a record in the file names the holder, and one left behind tells
//! the next holder to look for what a killed git left.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use drover_daemon::clock::Clock;
use rustix::fs::{FlockOperation, OFlags, flock};
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::failure::{Cause, Failure};
use super::{holders, stale};

/// The file's name in the common directory.
pub const FILE: &str = "drover.lock";

/// The locks of this process; cheap to clone. A process needs one.
#[derive(Clone, Debug, Default)]
pub struct Locks {
    /// By device and inode of the common directory.
    queues: Arc<Mutex<Queues>>,
    clock: Clock,
}

type Queues = HashMap<(u64, u64), Weak<Queue>>;

#[derive(Debug, Default)]
struct Queue {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// How often the lock went from one of us to the next without a pause.
    streak: AtomicU32,
}

/// Who asks, and for what: it goes into the file for others to read.
#[derive(Clone, Debug)]
pub struct Asker<'a> {
    pub operation: &'static str,
    /// Files below the common directory that the operation's git may lock, so that the next holder can look after a
    /// kill. Names without line breaks.
    pub locks: &'a [String],
}

/// The lock is held while this lives, and while a git runs that was given [`Held::file`].
#[derive(Debug)]
pub struct Held {
    file: File,
    /// The last holder, if it did not give the lock back in order.
    died: Option<Record>,
    /// Locks of a killed git that could not be judged yet.
    unjudged: Option<Record>,
    _turn: OwnedMutexGuard<()>,
    _queue: Arc<Queue>,
}

/// What the last holder wrote. It is emptied when the lock is given back in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub since_millis: i64,
    pub holder: String,
    pub locks: Vec<String>,
}

impl Record {
    /// Whether this file was among those that the holder's git might lock.
    pub(super) fn announced(&self, name: &str) -> bool {
        self.locks.iter().any(|lock| lock == name || (lock.ends_with('/') && name.starts_with(lock.as_str())))
    }

    /// Of the process that wrote it.
    fn pid(&self) -> Option<u32> {
        self.holder.strip_prefix("process ")?.split(' ').next()?.parse().ok()
    }
}

const POLITE_AFTER: u32 = 8;
/// A git that was killed a moment ago may still be seen: how often to look again, and when. A lock that is only too
/// young is waited for longer.
const SWEEPS: u32 = 10;
const SWEEPS_OF_YOUNG: u32 = 50;
const SWEEP_PAUSE: Duration = Duration::from_millis(20);
/// How long somebody waits before it is said for whom.
const SAY_AFTER: Duration = Duration::from_secs(5);

impl Locks {
    pub fn new(clock: Clock) -> Self {
        Self { queues: Arc::default(), clock }
    }

    /// Waits for the repository's lock, at most for `patience`.
    pub async fn acquire(
        &self,
        common: &Path,
        asker: Asker<'_>,
        patience: Duration,
    ) -> Result<Held, Failure> {
        let path = common.join(FILE);
        let wait = saying(common, &path, self.wait(common, &asker));
        let held = tokio::time::timeout(patience, wait).await;
        held.unwrap_or_else(|_| {
            let holder = holder_of(&path);
            Err(Failure::new(asker.operation, common, Cause::LockHeld { path, holder }))
        })
    }

    async fn wait(&self, common: &Path, asker: &Asker<'_>) -> Result<Held, Failure> {
        let io = |error: io::Error| Failure::io(asker.operation, &common.join(FILE), &error);
        let queue = self.queue(common).map_err(io)?;
        let turn = queue.turn.clone().lock_owned().await;
        if queue.streak.fetch_add(1, Ordering::Relaxed) >= POLITE_AFTER {
            // Another process that waits for the file gets its chance.
            queue.streak.store(0, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut turn = turn;
        let file = loop {
            let file = open(&common.join(FILE)).map_err(io)?;
            let locked = lock(file, turn).await.map_err(io)?;
            turn = locked.1;
            // The last holder may have removed the file: then this one excludes nobody.
            if is_at(&locked.0, &common.join(FILE)) {
                break locked.0;
            }
        };
        let mut held = Held { file, died: None, unjudged: None, _turn: turn, _queue: queue };
        held.died = parse(&mut held.file);
        if let Some(died) = &held.died {
            held.unjudged = self.sweep(common, died).await;
        }
        self.record(common, asker, &mut held);
        Ok(held)
    }

    fn queue(&self, common: &Path) -> io::Result<Arc<Queue>> {
        let found = std::fs::metadata(common)?;
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|_, queue| queue.strong_count() > 0);
        let known = queues.get(&(found.dev(), found.ino())).and_then(Weak::upgrade);
        let queue = known.unwrap_or_default();
        queues.insert((found.dev(), found.ino()), Arc::downgrade(&queue));
        Ok(queue)
    }

    /// Looks after a holder that died; what could not be judged is left to the next one.
    async fn sweep(&self, common: &Path, died: &Record) -> Option<Record> {
        let (mut looks, mut looks_at_young) = (0, 0);
        loop {
            let left = stale::sweep(common, died, self.clock.wall_millis());
            if left.names.is_empty() && !left.is_busy {
                return None;
            }
            let (count, most) =
                if left.is_young { (&mut looks_at_young, SWEEPS_OF_YOUNG) } else { (&mut looks, SWEEPS) };
            *count += 1;
            if *count >= most {
                let unjudged = Record { locks: left.names, ..died.clone() };
                return (!unjudged.locks.is_empty()).then_some(unjudged);
            }
            tokio::time::sleep(SWEEP_PAUSE).await;
        }
    }

    /// Looks after what the last holder of this lock, if it died, may have left in another directory than the lock's.
    /// Names are as in [`Asker::locks`]; one with a slash at its end stands for every lock below it.
    pub async fn look_after(&self, held: &Held, directory: &Path, names: &[&str]) {
        if let Some(died) = &held.died {
            self.clear(directory, names, died.since_millis).await;
        }
    }

    /// The same of locks that none but the caller's own gits ever make, whoever died.
    pub async fn look_after_own(&self, directory: &Path, names: &[&str]) {
        self.clear(directory, names, 0).await;
    }

    async fn clear(&self, directory: &Path, names: &[&str], since_millis: i64) {
        let locks = names.iter().map(|&name| name.to_owned()).collect();
        let died = Record { since_millis, holder: String::new(), locks };
        // What cannot be judged is in git's way, who says so.
        let _ = self.sweep(directory, &died).await;
    }

    /// Writes down who holds the lock now. A record that cannot be written (a file of another user) costs only the
    /// name in somebody's error.
    fn record(&self, common: &Path, asker: &Asker<'_>, held: &mut Held) {
        let mut record = Record {
            since_millis: self.clock.wall_millis(),
            holder: format!("process {} ({})", std::process::id(), asker.operation),
            locks: asker.locks.to_vec(),
        };
        if let Some(unjudged) = &held.unjudged {
            record.since_millis = unjudged.since_millis;
            record.locks.extend(unjudged.locks.clone());
        }
        if let Err(error) = write_record(&mut held.file, &record) {
            tracing::debug!(repository = %common.display(), %error, "the lock's holder could not be written down");
        }
    }
}

impl Held {
    /// To give to a git as [`super::runner::Call::holding`]: the lock then outlives us as long as that git lives.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the lock back in order. One that is only dropped (an error, a cancelled call) keeps its record, so that
    /// the next holder looks after what a killed git may have left.
    pub fn release(mut self) {
        // A record that stays makes the next holder look once more, no worse.
        let _ = match &self.unjudged {
            Some(record) => write_record(&mut self.file, record),
            None => self.file.set_len(0),
        };
    }

    /// Gives the lock back and takes the file away, so that nothing of Drover's is left in the repository.
    pub fn release_for_good(self, common: &Path) {
        if self.unjudged.is_none() {
            // One that stays is used again by the next holder.
            let _ = std::fs::remove_file(common.join(FILE));
        }
        self.release();
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(there)) = (file.metadata(), std::fs::symlink_metadata(path)) else { return false };
    (held.dev(), held.ino()) == (there.dev(), there.ino())
}

/// Waits on a thread of its own where the lock is taken; the turn goes along, so there is one such thread at most
/// for a repository, also after the one who asked gave up.
async fn lock(file: File, turn: OwnedMutexGuard<()>) -> io::Result<(File, OwnedMutexGuard<()>)> {
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Ok((file, turn)),
        Err(rustix::io::Errno::WOULDBLOCK) => {}
        Err(error) => return Err(error.into()),
    }
    let (tell, told) = oneshot::channel();
    std::thread::Builder::new().name("drover-git-lock".into()).spawn(move || {
        let result = loop {
            match flock(&file, FlockOperation::LockExclusive) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other,
            }
        };
        // If nobody waits any more the file is dropped here, and the lock with it.
        let _ = tell.send(result.map(|()| (file, turn)).map_err(io::Error::from));
    })?;
    told.await.map_err(io::Error::other)?
}

/// Waits to be alone in a directory: for what must not be done twice at once in one workspace. The lock goes with the
/// file, and with every git that was given it.
pub async fn alone_in(
    directory: &Path,
    operation: &'static str,
    patience: Duration,
) -> Result<File, Failure> {
    let io = |error: io::Error| Failure::io(operation, directory, &error);
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::DIRECTORY).bits())
        .map_err(|error| io(io::Error::other(error)))?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(directory).map_err(io)?;
    let wait = async {
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::WOULDBLOCK) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => return Err(io(error.into())),
            }
        }
    };
    match tokio::time::timeout(patience, saying(directory, directory, wait)).await {
        Ok(result) => result.map(|()| file),
        Err(_) => {
            let (path, holder) = (directory.to_owned(), holders::of_kernel_lock(directory));
            Err(Failure::new(operation, directory, Cause::LockHeld { path, holder }))
        }
    }
}

/// Says now and then who is waited for.
async fn saying<T>(place: &Path, lock: &Path, wait: impl Future<Output = T>) -> T {
    tokio::pin!(wait);
    loop {
        tokio::select! {
            done = &mut wait => return done,
            () = tokio::time::sleep(SAY_AFTER) => {
                let holder = holder_of(lock).unwrap_or_else(|| "nobody that can be seen".into());
                tracing::warn!(place = %place.display(), "waiting for a lock that is held by {holder}");
            }
        }
    }
}

/// By its own record, or, if who wrote it is gone, as the kernel knows it: a git that goes on keeps the lock.
fn holder_of(path: &Path) -> Option<String> {
    let recorded = path.is_file().then(|| read_record(path)).flatten();
    let is_alive = |record: &Record| record.pid().is_some_and(holders::is_alive);
    match recorded {
        Some(record) if is_alive(&record) => Some(record.holder),
        Some(record) => match holders::of_kernel_lock(path) {
            Some(living) => Some(format!("{living}, for {}, which is gone", record.holder)),
            None => Some(record.holder),
        },
        None => holders::of_kernel_lock(path),
    }
}

/// The file may lie in a directory that the session's user controls: nothing but a plain file is taken.
fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).map_err(io::Error::other)?;
    let new =
        OpenOptions::new().read(true).write(true).create(true).mode(0o644).custom_flags(flags).open(path);
    let file = match new {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            OpenOptions::new().read(true).custom_flags(flags).open(path)?
        }
        other => other?,
    };
    let found = file.metadata()?;
    if !found.is_file() || found.nlink() > 1 {
        return Err(io::Error::other("is not a plain file of its own"));
    }
    Ok(file)
}

/// What the last holder of the repository's lock wrote, if it did not give it back in order and nobody has it now.
pub(super) fn record_of_dead(common: &Path) -> Option<Record> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).ok()?;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(common.join(FILE)).ok()?;
    let record = file.metadata().ok()?.is_file().then(|| parse(&mut file)).flatten()?;
    // Held for a moment; whoever wants the lock then waits that long.
    flock(&file, FlockOperation::NonBlockingLockShared).is_ok().then_some(record)
}

fn read_record(path: &Path) -> Option<Record> {
    parse(&mut open(path).ok()?)
}

fn parse(file: &mut File) -> Option<Record> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(64 * 1024).read_to_string(&mut text).ok()?;
    let mut lines = text.lines();
    let since_millis = lines.next()?.parse().ok()?;
    let holder = lines.next()?.to_owned();
    Some(Record { since_millis, holder, locks: lines.map(str::to_owned).collect() })
}

fn write_record(file: &mut File, record: &Record) -> io::Result<()> {
    let mut text = format!("{}\n{}\n", record.since_millis, record.holder);
    for lock in &record.locks {
        text.push_str(lock);
        text.push('\n');
    }
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn asker() -> Asker<'static> {
        Asker { operation: "try", locks: &[] }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn two_agents_and_many_tasks_exclude_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let agents = [Locks::default(), Locks::default()];
        let (inside, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = (0..60).map(|at| {
            let (locks, inside, done) = (agents[at % 2].clone(), inside.clone(), done.clone());
            let path = dir.path().to_owned();
            async move {
                let held = locks.acquire(&path, asker(), Duration::from_secs(60)).await.unwrap();
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two hold the lock");
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                done.fetch_add(1, Ordering::SeqCst);
                drop(held);
            }
        });
        futures::future::join_all(work).await;
        assert_eq!(done.load(Ordering::SeqCst), 60);
    }

    #[tokio::test]
    async fn who_waits_in_vain_is_told_who_holds_the_lock_and_the_next_one_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (Locks::default(), Locks::default());
        let held = one.acquire(dir.path(), asker(), Duration::from_secs(9)).await.unwrap();
        let failure = two.acquire(dir.path(), asker(), Duration::from_millis(50)).await.unwrap_err();
        let who = format!("process {} (try)", std::process::id());
        assert!(failure.to_string().contains(&who), "{failure}");
        drop(held);
        two.acquire(dir.path(), asker(), Duration::from_secs(9)).await.unwrap().release();
        assert_eq!(std::fs::read(dir.path().join(FILE)).unwrap(), b"");
    }

    #[tokio::test]
    async fn the_lock_stays_held_while_a_child_has_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let held = Locks::default().acquire(dir.path(), asker(), Duration::from_secs(9)).await.unwrap();
        let stdin = std::process::Stdio::from(held.file().try_clone().unwrap());
        let mut child = std::process::Command::new("sleep").arg("60").stdin(stdin).spawn().unwrap();
        drop(held);
        let other = Locks::default();
        assert!(other.acquire(dir.path(), asker(), Duration::from_millis(50)).await.is_err());
        child.kill().unwrap();
        child.wait().unwrap();
        other.acquire(dir.path(), asker(), Duration::from_secs(9)).await.unwrap();
    }

    #[tokio::test]
    async fn a_git_that_outlives_its_agent_is_named_as_the_one_who_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let locks = Locks::default();
        let mut held = locks.acquire(dir.path(), asker(), Duration::from_secs(9)).await.unwrap();
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        let agent = format!("process {} (make the branch)", gone.id());
        let record = Record { since_millis: 1, holder: agent.clone(), locks: vec![] };
        write_record(&mut held.file, &record).unwrap();
        let stdin = std::process::Stdio::from(held.file().try_clone().unwrap());
        let mut git = std::process::Command::new("sleep").arg("60").stdin(stdin).spawn().unwrap();
        drop(held);
        let failure = locks.acquire(dir.path(), asker(), Duration::from_millis(50)).await.unwrap_err();
        let who = format!("held by process {} (sleep), for {agent}, which is gone", git.id());
        assert!(failure.to_string().contains(&who), "{failure}");
        git.kill().unwrap();
        git.wait().unwrap();
    }

    #[tokio::test]
    async fn another_process_that_is_alone_in_a_workspace_is_named_and_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let held = alone_in(&path, "try", Duration::from_secs(9)).await.unwrap();
        let stdin = std::process::Stdio::from(held);
        let mut other = std::process::Command::new("sleep").arg("60").stdin(stdin).spawn().unwrap();
        let failure = alone_in(&path, "try", Duration::from_millis(50)).await.unwrap_err();
        let who = format!("the lock {} is held by process {} (sleep)", path.display(), other.id());
        assert!(failure.to_string().contains(&who), "{failure}");
        let waiting = alone_in(&path, "try", Duration::from_secs(9));
        let end = async {
            tokio::task::yield_now().await;
            other.kill().unwrap();
            other.wait().unwrap();
        };
        let (alone, ()) = tokio::join!(waiting, end);
        alone.unwrap();
    }

    #[tokio::test]
    async fn a_link_planted_in_the_locks_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join(FILE)).unwrap();
        assert!(Locks::default().acquire(dir.path(), asker(), Duration::from_secs(9)).await.is_err());
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    }
}
