//! Places at which the agent dies on request, for tests that look what a death there leaves. `DROVER_FAILPOINT` is
//! `<saga>/<step>/<point>`, with `@<n>` for the n-th time that it gets there; `DROVER_FAILPOINT_LIST` names a file to
//! which every place is added as it is reached. Without the feature `failpoints` all of this is nothing.

pub(crate) use place::{Marks, committed, reach};

/// Where in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    BeforeIntent,
    AfterIntent,
    AfterMake,
    /// The commit that says that it was made is done.
    #[cfg(feature = "failpoints")]
    AfterMark,
    /// The saga is about to turn round.
    BeforeTurn,
    BeforeUndo,
    AfterUndo,
    /// The commit that says that it was undone is done.
    #[cfg(feature = "failpoints")]
    AfterUnmark,
    BeforeStop,
    /// No process of the run is left, and nothing says so yet.
    BeforeEnd,
    /// What ends the saga's record is committed.
    AfterEnd,
}

#[cfg(not(feature = "failpoints"))]
mod place {
    use super::Point;
    use crate::ledger::{Key, Write};

    #[derive(Debug)]
    pub(crate) struct Marks;

    impl Marks {
        pub(crate) fn of(_: &Key, _: &[Write]) -> Self {
            Self
        }
    }

    pub(crate) fn reach(_: &Key, _: &str, _: Point) {}

    pub(crate) fn committed(_: &Key, _: Marks) {}
}

#[cfg(feature = "failpoints")]
mod place {
    use std::fs::File;
    use std::io::Write as _;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::Point;
    use crate::ledger::{Key, Mark, Write};

    impl Point {
        fn word(self) -> &'static str {
            match self {
                Self::BeforeIntent => "before-intent",
                Self::AfterIntent => "after-intent",
                Self::AfterMake => "after-make",
                Self::AfterMark => "after-mark",
                Self::BeforeTurn => "before-turn",
                Self::BeforeUndo => "before-undo",
                Self::AfterUndo => "after-undo",
                Self::AfterUnmark => "after-unmark",
                Self::AfterEnd => "after-end",
                Self::BeforeStop => "before-stop",
                Self::BeforeEnd => "before-end",
            }
        }
    }

    /// What the environment asked for, once.
    struct Asked {
        place: Option<String>,
        /// How often it is passed before it kills.
        passes: AtomicU32,
        list: Option<File>,
    }

    fn asked() -> &'static Asked {
        static ASKED: OnceLock<Asked> = OnceLock::new();
        ASKED.get_or_init(|| {
            let text = std::env::var("DROVER_FAILPOINT").ok().filter(|text| !text.is_empty());
            let counted = text.as_deref().and_then(|text| text.rsplit_once('@'));
            let counted = counted.and_then(|(place, number)| Some((place, number.parse::<u32>().ok()?)));
            let (place, number) = match counted {
                Some((place, number)) => (Some(place.to_owned()), number),
                None => (text.clone(), 1),
            };
            if let Some(place) = &place {
                tracing::warn!(place, number, "this agent will kill itself, as DROVER_FAILPOINT asks");
            }
            let list = std::env::var_os("DROVER_FAILPOINT_LIST");
            let list = list.and_then(|path| File::options().create(true).append(true).open(path).ok());
            Asked { place, passes: AtomicU32::new(number.saturating_sub(1)), list }
        })
    }

    /// The places that a commit leads to.
    #[derive(Debug)]
    pub(crate) struct Marks(Vec<(String, Point)>);

    impl Marks {
        pub(crate) fn of(saga: &Key, writes: &[Write]) -> Self {
            let place = |write: &Write| match write {
                Write::Mark { step, mark: Mark::Made, .. } => Some(((*step).to_owned(), Point::AfterMark)),
                Write::Undone { step, .. } => Some((step.to_string(), Point::AfterUnmark)),
                Write::End(ended) if ended == saga => Some(("all".to_owned(), Point::AfterEnd)),
                _ => None,
            };
            Self(writes.iter().filter_map(place).collect())
        }
    }

    pub(crate) fn committed(saga: &Key, marks: Marks) {
        for (step, point) in marks.0 {
            reach(saga, &step, point);
        }
    }

    /// The agent is here; maybe it goes no further.
    pub(crate) fn reach(saga: &Key, step: &str, point: Point) {
        let asked = asked();
        if asked.place.is_none() && asked.list.is_none() {
            return;
        }
        // Runs are numbered; a place is the same in each.
        let saga = saga.saga.split('.').next().unwrap_or_default();
        let place = format!("{saga}/{step}/{}", point.word());
        if let Some(mut list) = asked.list.as_ref() {
            // Whoever reads the list misses what is not in it.
            let _ = list.write_all(format!("{place}\n").as_bytes());
        }
        if asked.place.as_ref() == Some(&place) && !passes(&asked.passes) {
            let _ = kill_process(getpid(), Signal::KILL);
            // Nothing is done between the signal and the end.
            loop {
                std::thread::park();
            }
        }
    }

    fn passes(left: &AtomicU32) -> bool {
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }
}
