//! How long git operations may take, by their kind, and for some repositories otherwise than for the rest.

use std::path::Path;
use std::time::Duration;

use super::runner::Length;

/// How long an operation may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Ordinary ones.
    pub quick: Duration,
    /// Checkouts, fetches and saving work.
    pub long: Duration,
    /// Until a remote answers at all.
    pub connect: Duration,
}

impl Limits {
    pub(super) fn of(self, length: Length) -> Duration {
        match length {
            Length::Quick => self.quick,
            Length::Long => self.long,
            Length::Connect => self.connect,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { quick: seconds(30), long: seconds(600), connect: seconds(30) }
    }
}

/// The limits of the repositories that `prefix` begins the path or the remote's URL of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    pub prefix: String,
    pub limits: Limits,
}

/// Those of the repository with this common directory, if it has its own: the longest prefix decides.
pub(super) fn own(all: &[Own], common: &Path) -> Option<Limits> {
    if all.is_empty() {
        return None;
    }
    let config = std::fs::read_to_string(common.join("config")).unwrap_or_default();
    let urls: Vec<&str> = config.lines().filter_map(|line| line.trim().strip_prefix("url = ")).collect();
    let begins = |own: &&Own| {
        common.starts_with(&own.prefix) || urls.iter().any(|url| url.starts_with(own.prefix.as_str()))
    };
    all.iter().filter(begins).max_by_key(|own| own.prefix.len()).map(|own| own.limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_of_a_repositorys_path_or_url_decides_and_others_have_the_usual_limits() {
        let dir = tempfile::tempdir().unwrap();
        let common = dir.path().join("a/.git");
        std::fs::create_dir_all(&common).unwrap();
        std::fs::write(common.join("config"), "[remote \"origin\"]\n\turl = https://x.org/big/a.git\n")
            .unwrap();
        let own_of = |prefix: &str, seconds| Own {
            prefix: prefix.into(),
            limits: Limits { long: Duration::from_secs(seconds), ..Limits::default() },
        };
        let here = dir.path().display().to_string();
        let long = |all: &[Own]| own(all, &common).map(|limits| limits.long.as_secs());
        assert_eq!(long(&[]), None);
        assert_eq!(
            long(&[own_of("/elsewhere", 1), own_of("https://y.org", 2), own_of(&format!("{here}/b"), 3)]),
            None
        );
        assert_eq!(long(&[own_of(&here, 1), own_of(&format!("{here}/a"), 2)]), Some(2));
        assert_eq!(long(&[own_of("https://x.org/big/", 4), own_of("https://x.org", 5)]), Some(4));
    }
}
