//! Copies of the registry: whole, checked, without the values of secrets, put in place by a rename. The writer goes on
//! beside it. A copy that could not be checked is none.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::{Error, open};

/// Where they go, below the data directory.
pub const DIRECTORY: &str = "backups";

/// Copies the registry at `source` to `<directory>/<name>.db`. One that is there already stays as it is: a name is for one
/// moment of the registry, and who makes names sees to that.
pub fn create(source: &Path, directory: &Path, name: &str) -> Result<PathBuf, Error> {
    let failed = |why: String| Error { what: "be backed up", why };
    let file = directory.join(format!("{name}.db"));
    if file.exists() {
        return Ok(file);
    }
    drover_daemon::atomic::private_directory(directory).map_err(|error| failed(error.to_string()))?;
    let partial = directory.join(format!(".{name}.partial"));
    // What an earlier attempt left is not whole.
    discard(&partial);
    let copied = copy(source, &partial).and_then(|()| place(&partial, &file, directory));
    copied.map_err(|why| {
        discard(&partial);
        failed(why)
    })?;
    Ok(file)
}

/// Discards what killed copies left: it is not whole, and has the secrets still.
pub(super) fn sweep(directory: &Path) {
    for item in fs::read_dir(directory).into_iter().flatten().flatten() {
        if item.file_name().to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(".partial")) {
            discard(&item.path());
        }
    }
}

/// With what SQLite keeps beside it, where secrets may be too.
fn discard(partial: &Path) {
    for beside in ["", "-journal", "-wal", "-shm"] {
        let mut path = partial.as_os_str().to_owned();
        path.push(beside);
        let _ = fs::remove_file(path);
    }
}

fn copy(source: &Path, partial: &Path) -> Result<(), String> {
    let told = |error: rusqlite::Error| error.to_string();
    open::private_file(partial).map_err(|error| format!("{}: {error}", partial.display()))?;
    let from = open::second_connection(source).map_err(|error| error.why)?;
    let mut to = Connection::open(partial).map_err(told)?;
    {
        // All at once: it is one moment of the registry, whatever is written meanwhile.
        let backup = Backup::new(&from, &mut to).map_err(told)?;
        if backup.step(-1).map_err(told)? != StepResult::Done {
            return Err("somebody holds the registry's file".into());
        }
    }
    let strip = "PRAGMA journal_mode = DELETE; PRAGMA secure_delete = ON;";
    to.execute_batch(strip).map_err(told)?;
    // A file from before the first start has no tables yet.
    if to.table_exists(None, "secrets").map_err(told)? {
        to.execute_batch("DELETE FROM secrets; VACUUM;").map_err(told)?;
    }
    open::check_whole(&to)?;
    to.close().map_err(|(_, error)| error.to_string())
}

fn place(partial: &Path, file: &Path, directory: &Path) -> Result<(), String> {
    let told = |error: std::io::Error| error.to_string();
    fs::File::open(partial).and_then(|file| file.sync_all()).map_err(told)?;
    fs::rename(partial, file).map_err(told)?;
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(told)
}

/// Keeps the newest of those whose names begin so, and deletes the others. Where nothing was ever backed up, that is all.
pub fn prune(directory: &Path, prefix: &str, newest: usize) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error { what: "prune its backups", why: error.to_string() };
    let mut found = Vec::new();
    if !directory.exists() {
        return Ok(());
    }
    for item in fs::read_dir(directory).map_err(failed)? {
        let item = item.map_err(failed)?;
        let is_meant =
            item.file_name().to_str().is_some_and(|name| name.starts_with(prefix) && name.ends_with(".db"));
        if is_meant {
            found.push((item.metadata().and_then(|found| found.modified()).map_err(failed)?, item.path()));
        }
    }
    found.sort();
    let surplus = found.len().saturating_sub(newest);
    found.into_iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path)).map_err(failed)
}
