//! What a node should do for one session: the assignment that the controller derives, and the next step that the
//! agent derives from it and from what its ledger holds. Sending an assignment twice changes nothing, and without an
//! assignment nothing is ever stopped or removed.

use std::sync::Arc;
use std::time::Duration;

use crate::fence::{Against, Fence};
use crate::id::SessionId;
use crate::name::Name;
use crate::session::{Grant, Halt, Order, Queue, Removal, Session, State, Wanted, Workspace};
use crate::spec::{Secrets, Spec};

/// What a node should be doing for one session: state, not a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub session: SessionId,
    pub project: Name,
    pub name: Name,
    pub owner: Box<str>,
    pub fence: Fence,
    /// A fault met under this attempt is not tried again under it.
    pub attempt: u32,
    pub spec: Arc<Spec>,
    pub secrets: Arc<Secrets>,
    pub branch: Box<str>,
    /// What the node reported of it before; it survives the loss of a ledger.
    pub workspace: Option<Workspace>,
    /// The commit that the base was resolved to, once it was.
    pub base_commit: Option<Box<str>>,
    /// The saved work that the workspace begins with.
    pub origin: Option<Box<str>>,
    /// Grows with each order to make the workspace anew.
    pub rebuild: u32,
    /// The run that is ordered goes on with what an interrupted one began.
    pub resumes: bool,
    /// What people added to the time of the run that goes on.
    pub grant: Grant,
    pub target: Target,
    /// How a run that is to be stopped ends.
    pub halt: Option<Halt>,
    pub trace: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Leave everything as it is: the controller has a fault to be decided on.
    Keep,
    /// Have the workspace and no process. `stop` is a run that was ordered and whose end is not confirmed.
    Ready { stop: Option<Order> },
    /// Have the workspace and make this run, once.
    Running { order: Order },
    /// Have nothing but what must be kept.
    Cleaned { removal: Removal, stop: Option<Order> },
}

impl Assignment {
    /// How long a run has to end by itself once it is told to.
    pub fn grace(&self) -> Duration {
        let ordered = self.halt.as_ref().and_then(|halt| halt.grace);
        ordered.unwrap_or_else(|| self.spec.limits.stop_grace())
    }

    /// Who ordered that its run ends; nobody, if it has to go for another one.
    pub fn halted_by(&self) -> &str {
        self.halt.as_ref().map_or("controller", |halt| &halt.by)
    }
}

impl Target {
    /// What the session's node should be doing. `None`: it is on no node.
    pub fn of(session: &Session) -> Option<Self> {
        Self::of_state(&session.state, session.wanted)
    }

    fn of_state(state: &State, wanted: Wanted) -> Option<Self> {
        let make = |order: Option<Order>| match (wanted, order) {
            (Wanted::Running, Some(order)) => Self::Running { order },
            (Wanted::Running | Wanted::Ready | Wanted::Cleaned(_), stop) => Self::Ready { stop },
        };
        match state {
            State::Queued(Queue::Place) | State::Cleaned { .. } => None,
            State::Queued(Queue::Slot(_)) => Some(Self::Keep),
            State::Ready { .. } => Some(Self::Ready { stop: None }),
            State::Queued(Queue::Start(_, order)) => Some(make(Some(*order))),
            State::Creating { order, .. } => Some(make(*order)),
            State::Running { run, .. } => Some(make(Some(run.order))),
            State::Cleaning { run, .. } => {
                let removal = match wanted {
                    Wanted::Cleaned(removal) => removal,
                    Wanted::Running | Wanted::Ready => Removal::default(),
                };
                Some(Self::Cleaned { removal, stop: *run })
            }
            State::Error { placement, .. } => placement.map(|_| Self::Keep),
            State::Orphaned { was, .. } => Self::of_state(was, wanted),
        }
    }
}

/// What the agent's ledger holds of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    pub fence: Fence,
    pub site: Site,
    pub run: LocalRun,
    /// The attempt under which a fault was met and reported.
    pub faulted: Option<u32>,
    /// Which making of the workspace this is.
    pub rebuild: u32,
    /// What the live run's supervisor was told of added time.
    pub grant: Grant,
}

/// The workspace as the ledger knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Site {
    #[default]
    Nothing,
    /// Its making was begun.
    Making,
    Made,
    /// Its removal was begun.
    Removing,
    /// Gone, and reported so.
    Removed,
}

impl Site {
    pub const ALL: [Self; 5] = [Self::Nothing, Self::Making, Self::Made, Self::Removing, Self::Removed];

    pub fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Making => "making",
            Self::Made => "made",
            Self::Removing => "removing",
            Self::Removed => "removed",
        }
    }
}

/// The newest run as the ledger knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalRun {
    #[default]
    None,
    /// Its start was begun; whether there is a process must be seen.
    Starting(Order),
    Live(Order),
    /// No process of it is left, and that was reported.
    Ended(Order),
}

impl LocalRun {
    fn alive(self) -> Option<Order> {
        match self {
            Self::Starting(order) | Self::Live(order) => Some(order),
            Self::None | Self::Ended(_) => None,
        }
    }

    /// Whether `order` is newer than everything that was begun here.
    fn is_news(self, order: Order) -> bool {
        match self {
            Self::None => true,
            Self::Starting(known) | Self::Live(known) | Self::Ended(known) => known.ordinal < order.ordinal,
        }
    }
}

/// The next thing to do for one session; after it, look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// As it should be.
    Rest,
    /// The assignment is of an older placement than what is here.
    IgnoreStale,
    /// Take what is here over into the newer placement.
    Refence,
    MakeWorkspace,
    StartRun(Order),
    /// Tell the live run what was added to its time.
    Extend(Order, Grant),
    StopRun(Order),
    /// Say that this run ended before it was begun.
    ReportNeverStarted(Order),
    RemoveWorkspace(Removal),
    /// Save and remove the workspace, to make it anew.
    ClearWorkspace,
}

/// What to do next. `None` as assignment: keep everything, whatever it is.
pub fn next(assignment: Option<&Assignment>, local: &Local) -> Action {
    let Some(assignment) = assignment else { return Action::Rest };
    match local.fence.judge(assignment.fence) {
        Against::Stale => return Action::IgnoreStale,
        Against::Newer => return Action::Refence,
        Against::Same => {}
    }
    if local.faulted == Some(assignment.attempt) {
        return Action::Rest;
    }
    match assignment.target {
        Target::Keep => Action::Rest,
        Target::Ready { stop } => {
            stopped(local, stop).or_else(|| made(assignment, local)).unwrap_or(Action::Rest)
        }
        Target::Running { order } => running(assignment, local, order),
        Target::Cleaned { removal, stop } => stopped(local, stop).unwrap_or(match local.site {
            Site::Removed => Action::Rest,
            Site::Nothing | Site::Making | Site::Made | Site::Removing => Action::RemoveWorkspace(removal),
        }),
    }
}

/// What is left to do until no run is left.
fn stopped(local: &Local, stop: Option<Order>) -> Option<Action> {
    match (local.run.alive(), stop) {
        (Some(alive), _) => Some(Action::StopRun(alive)),
        (None, Some(order)) if local.run.is_news(order) => Some(Action::ReportNeverStarted(order)),
        (None, _) => None,
    }
}

/// What is left to do until the workspace is there.
fn made(assignment: &Assignment, local: &Local) -> Option<Action> {
    let is_older = local.rebuild < assignment.rebuild;
    match local.site {
        Site::Made if !is_older => None,
        Site::Making | Site::Made | Site::Removing if is_older => Some(Action::ClearWorkspace),
        Site::Removed if is_older => Some(Action::MakeWorkspace),
        // A removal that was begun is not turned back: what it saved is in the trash.
        Site::Removing | Site::Removed => Some(Action::Rest),
        Site::Nothing | Site::Making | Site::Made => Some(Action::MakeWorkspace),
    }
}

fn running(assignment: &Assignment, local: &Local, order: Order) -> Action {
    let start = || made(assignment, local).unwrap_or(Action::StartRun(order));
    match local.run {
        LocalRun::Live(live) if live == order && local.grant.count < assignment.grant.count => {
            Action::Extend(order, assignment.grant)
        }
        LocalRun::Live(live) if live == order => Action::Rest,
        LocalRun::Starting(begun) if begun == order => start(),
        LocalRun::Starting(other) | LocalRun::Live(other) => Action::StopRun(other),
        LocalRun::None | LocalRun::Ended(_) if !local.run.is_news(order) => Action::Rest,
        LocalRun::None | LocalRun::Ended(_) => start(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RunId;
    use crate::spec::tests::parts;

    fn order(ordinal: u32) -> Order {
        Order { run: RunId::from_random([ordinal as u8; 10]), ordinal }
    }

    fn assigned(target: Target) -> Assignment {
        Assignment {
            session: SessionId::from_random([1; 10]),
            project: Name::default_project(),
            name: Name::new("a").unwrap(),
            owner: "me".into(),
            fence: Fence { generation: 1, epoch: 1 },
            attempt: 0,
            spec: Arc::new(Spec::new(parts()).unwrap()),
            secrets: Arc::default(),
            branch: "drover/a".into(),
            workspace: None,
            base_commit: None,
            origin: None,
            rebuild: 0,
            resumes: false,
            grant: Grant::default(),
            target,
            halt: None,
            trace: None,
        }
    }

    fn local(site: Site, run: LocalRun) -> Local {
        Local { fence: Fence { generation: 1, epoch: 1 }, site, run, ..Local::default() }
    }

    #[test]
    fn the_next_action_follows_from_what_is_wanted_and_what_is_there() {
        use LocalRun as R;
        let (one, two) = (order(1), order(2));
        let ready = |stop| Target::Ready { stop };
        let run = |order| Target::Running { order };
        let gone = |stop| Target::Cleaned { removal: Removal::default(), stop };
        let remove = Action::RemoveWorkspace(Removal::default());
        let table = [
            (Target::Keep, Site::Made, R::Live(one), Action::Rest),
            (ready(None), Site::Nothing, R::None, Action::MakeWorkspace),
            (ready(None), Site::Making, R::None, Action::MakeWorkspace),
            (ready(None), Site::Made, R::None, Action::Rest),
            (ready(None), Site::Made, R::Live(one), Action::StopRun(one)),
            (ready(Some(one)), Site::Made, R::Starting(one), Action::StopRun(one)),
            (ready(Some(one)), Site::Nothing, R::None, Action::ReportNeverStarted(one)),
            (ready(Some(one)), Site::Made, R::Ended(one), Action::Rest),
            (run(one), Site::Nothing, R::None, Action::MakeWorkspace),
            (run(one), Site::Made, R::None, Action::StartRun(one)),
            (run(one), Site::Made, R::Starting(one), Action::StartRun(one)),
            (run(one), Site::Made, R::Live(one), Action::Rest),
            (run(one), Site::Made, R::Ended(one), Action::Rest),
            (run(two), Site::Made, R::Ended(one), Action::StartRun(two)),
            (run(two), Site::Made, R::Live(one), Action::StopRun(one)),
            (run(one), Site::Made, R::Ended(two), Action::Rest),
            (run(one), Site::Removing, R::None, Action::Rest),
            (gone(None), Site::Made, R::None, remove),
            (gone(None), Site::Making, R::None, remove),
            (gone(None), Site::Nothing, R::None, remove),
            (gone(None), Site::Removing, R::None, remove),
            (gone(None), Site::Removed, R::None, Action::Rest),
            (gone(Some(one)), Site::Made, R::Live(one), Action::StopRun(one)),
            (gone(Some(two)), Site::Made, R::Ended(one), Action::ReportNeverStarted(two)),
        ];
        for (target, site, run, expected) in table {
            assert_eq!(
                next(Some(&assigned(target)), &local(site, run)),
                expected,
                "{target:?} {site:?} {run:?}"
            );
        }
    }

    #[test]
    fn without_an_assignment_nothing_is_touched() {
        for run in [LocalRun::None, LocalRun::Live(order(1)), LocalRun::Ended(order(1))] {
            for site in [Site::Nothing, Site::Making, Site::Made, Site::Removing, Site::Removed] {
                assert_eq!(next(None, &local(site, run)), Action::Rest);
            }
        }
    }

    #[test]
    fn a_workspace_of_an_older_making_is_cleared_before_it_is_made_anew() {
        let run = Target::Running { order: order(2) };
        let table = [
            (Site::Made, LocalRun::Ended(order(1)), Action::ClearWorkspace),
            (Site::Making, LocalRun::None, Action::ClearWorkspace),
            (Site::Removing, LocalRun::None, Action::ClearWorkspace),
            (Site::Made, LocalRun::Live(order(1)), Action::StopRun(order(1))),
            (Site::Removed, LocalRun::Ended(order(1)), Action::MakeWorkspace),
            (Site::Nothing, LocalRun::None, Action::MakeWorkspace),
        ];
        for (site, live, expected) in table {
            let wanted = Assignment { rebuild: 1, ..assigned(run) };
            assert_eq!(next(Some(&wanted), &local(site, live)), expected, "{site:?} {live:?}");
            let done = Local { rebuild: 1, site: Site::Made, ..Local::default() };
            assert_eq!(made(&wanted, &done), None);
        }
    }

    #[test]
    fn added_time_is_told_once() {
        let grant = Grant { total: Duration::from_secs(9), count: 2 };
        let wanted = Assignment { grant, ..assigned(Target::Running { order: order(1) }) };
        let mut here = local(Site::Made, LocalRun::Live(order(1)));
        assert_eq!(next(Some(&wanted), &here), Action::Extend(order(1), grant));
        here.grant = grant;
        assert_eq!(next(Some(&wanted), &here), Action::Rest);
    }

    #[test]
    fn an_older_fence_does_nothing_and_a_newer_one_is_taken_over_first() {
        let gone = Target::Cleaned { removal: Removal::default(), stop: None };
        let mut here = local(Site::Made, LocalRun::Live(order(1)));
        here.fence.epoch = 2;
        assert_eq!(next(Some(&assigned(gone)), &here), Action::IgnoreStale);
        here.fence = Fence { generation: 0, epoch: 9 };
        assert_eq!(next(Some(&assigned(gone)), &here), Action::Refence);
    }

    #[test]
    fn a_fault_is_tried_again_only_under_a_new_attempt() {
        let mut here = local(Site::Making, LocalRun::None);
        here.faulted = Some(0);
        let mut wanted = assigned(Target::Ready { stop: None });
        assert_eq!(next(Some(&wanted), &here), Action::Rest);
        wanted.attempt = 1;
        assert_eq!(next(Some(&wanted), &here), Action::MakeWorkspace);
    }
}
