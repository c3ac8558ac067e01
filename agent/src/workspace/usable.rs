//! Whether a run can be started in a workspace that was made before: after a reboot, a restored disk or somebody's hand
//! its parts may not belong together any more. What can be put back without a guess is put back; the rest is said.

use super::create::points_to;
use super::ground::Ground;
use super::place::{self, Found};
use super::{Site, Workspaces};
use crate::git::failure::{Cause, Failure};
use crate::git::read::blocking;

const CHECK: &str = "check the workspace";

impl Workspaces {
    /// Checks that the files and the repository's entry belong to each other. A pointer that alone is missing is written
    /// again.
    pub async fn make_usable(&self, site: &Site) -> Result<(), Failure> {
        let site = site.clone();
        blocking(move || check(&site)).await
    }
}

fn check(site: &Site) -> Result<(), Failure> {
    let failed = |cause| Err(Failure::new(CHECK, &site.path, cause));
    if place::look(site)? == Found::Nothing {
        return failed(Cause::PathGone(site.path.clone()));
    }
    let Some(entry) = site.entry(CHECK)? else {
        let why = format!("its entry in {} is gone", site.common.join("worktrees").display());
        return failed(Cause::Other(why));
    };
    if points_to(&site.path, &entry.admin) {
        return Ok(());
    }
    let pointer = site.path.join(".git");
    match pointer.symlink_metadata() {
        Ok(_) => failed(Cause::PathTaken { path: pointer, why: "it is not the worktree's pointer".into() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = format!("gitdir: {}\n", entry.admin.display());
            // The directory is the session's: only what looks at each step writes there.
            let written = Ground::open(&site.path, site.run_as.as_ref())
                .and_then(|mut ground| ground.write(b".git", 0o644, &mut text.as_bytes()));
            written.map_err(|error| Failure::io(CHECK, &pointer, &error))?;
            tracing::warn!(session = %site.mark.session, "the worktree's pointer was missing and is there again");
            Ok(())
        }
        Err(error) => Err(Failure::io(CHECK, &pointer, &error)),
    }
}
