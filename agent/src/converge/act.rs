//! What each action does: a saga by the step engine, whose first commit holds the state that begins and whose last one
//! the state that is reached and the report of it.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use drover_domain::command::Observation;
use drover_domain::converge::{Action, Assignment, Local, LocalRun, Site};
use drover_domain::id::SessionId;
use drover_domain::session::{Fault, FaultCode, Grant, Kept, Order, Progress, Removal};
use tokio::sync::watch;

use super::observe;
use super::session::{Pause, Tender};
use crate::failpoint::{self, Point};
use crate::ledger::{Heading, Mark, Record, Write};
use crate::saga::removal::{self, Leaving};
use crate::saga::run::{self, Launch};
use crate::saga::saved;
use crate::saga::workspace::{self, Layout};
use crate::saga::{Ended, Extended, Stop};
use crate::step::{Around, Closing, Ending, OnFailure, Saga, Standing, Step, Stopped};
use crate::workspace::Site as Place;

/// How long a saga lasts before its steps are told.
const TELL_AFTER: Duration = Duration::from_secs(1);
const WORKSPACE: &str = "workspace";
const REMOVAL: &str = "removal";

/// The name of the saga that starts the session's run of this number.
fn run_saga(order: Order) -> String {
    format!("run.{}", order.ordinal)
}

impl Tender {
    pub(super) async fn perform(
        &mut self,
        action: Action,
        assignment: &Arc<Assignment>,
    ) -> Result<(), Pause> {
        match action {
            Action::Rest | Action::IgnoreStale => Ok(()),
            Action::Refence => {
                let local = Local { fence: assignment.fence, ..self.entry.local.clone() };
                Ok(self.commit(vec![Write::Local { session: self.session, local }]).await?)
            }
            Action::MakeWorkspace => self.make_workspace(assignment).await,
            Action::StartRun(order) => self.start_run(assignment, order).await,
            // That a run was never begun is what the ledger says, and a ledger can be lost: stopping it looks.
            Action::StopRun(order) | Action::ReportNeverStarted(order) => {
                self.stop_run(assignment, order).await
            }
            Action::Extend(order, grant) => self.extend(order, grant).await,
            Action::RemoveWorkspace(removal) => {
                self.remove_workspace(assignment, Leave::ForGood(removal)).await
            }
            Action::ClearWorkspace => self.remove_workspace(assignment, Leave::ToBeMadeAnew).await,
        }
    }

    async fn make_workspace(&mut self, assignment: &Arc<Assignment>) -> Result<(), Pause> {
        let shared = self.converge.0.clone();
        let _permit = shared.makes.acquire().await;
        let home = &shared.means.home;
        let saga = self.workspace_saga(assignment);
        let (session, attempt) = (self.session, assignment.attempt);
        let local = Local { rebuild: assignment.rebuild, ..self.entry.local.clone() };
        let making = Local { site: Site::Making, ..local.clone() };
        let closing = |ending: Ending<'_, Layout>| match ending {
            Ending::Done(layout) => {
                let local = Local { site: Site::Made, ..local.clone() };
                let mut writes =
                    observe::change(session, local, &Observation::WorkspaceReady(layout.reported()));
                writes.push(Write::Workspace { session, workspace: layout.reported() });
                writes.extend(layout.common.clone().map(Write::Repository));
                writes
            }
            Ending::Undone(fault) => {
                observe::faulted(session, Local { site: Site::Nothing, ..local.clone() }, attempt, fault)
            }
            Ending::Left(fault) => observe::faulted(session, making.clone(), attempt, fault),
        };
        let opening = vec![Write::Local { session, local: making.clone() }];
        let standing =
            Standing { record: self.record(assignment, &saga), fresh: Layout::of(home, assignment) };
        self.run_saga(&saga, standing, opening, Box::new(closing)).await
    }

    /// The ledger's record of a saga. If it has none of what the controller heard of before, a ledger was lost: then
    /// everything may be there, and is looked for first.
    fn record<C: Send>(&self, assignment: &Assignment, saga: &Saga<C>) -> Record {
        match self.sagas.get(saga.key.saga.as_ref()) {
            Some(record) => record.clone(),
            None if assignment.workspace.is_some() => {
                let steps = saga.steps.iter().zip(1..);
                let steps = steps.map(|(step, number)| (step.name().into(), (number, Mark::Intended)));
                Record { steps: steps.collect(), ..Record::default() }
            }
            None => Record::default(),
        }
    }

    fn workspace_saga(&self, assignment: &Assignment) -> Saga<Layout> {
        let steps = workspace::steps(&self.converge.means().home, assignment);
        Saga { key: self.key(WORKSPACE), steps, on_failure: OnFailure::Undo }
    }

    async fn start_run(&mut self, assignment: &Arc<Assignment>, order: Order) -> Result<(), Pause> {
        let shared = self.converge.0.clone();
        let _permit = shared.starts.acquire().await;
        let home = &shared.means.home;
        let Some(layout) = self.layout() else { return self.fault(assignment, &no_workspace("start")).await };
        let saga = Saga {
            key: self.key(run_saga(order)),
            steps: run::steps(home, assignment, order, &layout),
            on_failure: OnFailure::Undo,
        };
        let (session, local, attempt) = (self.session, self.entry.local.clone(), assignment.attempt);
        let local = Local { grant: Grant::default(), ..local };
        self.extensions = 0;
        let starting = Local { run: LocalRun::Starting(order), ..local.clone() };
        let closing = |ending: Ending<'_, Launch>| match ending {
            Ending::Done(launch) => {
                let local = Local { run: LocalRun::Live(order), ..local.clone() };
                observe::change(session, local, &launch.told(order))
            }
            Ending::Undone(fault) => observe::faulted(
                session,
                Local { run: LocalRun::Ended(order), ..local.clone() },
                attempt,
                fault,
            ),
            Ending::Left(fault) => observe::faulted(session, starting.clone(), attempt, fault),
        };
        let standing = Standing { record: self.record(assignment, &saga), fresh: Launch::default() };
        let opening = vec![Write::Local { session, local: starting.clone() }];
        self.run_saga(&saga, standing, opening, Box::new(closing)).await
    }

    async fn stop_run(&mut self, assignment: &Arc<Assignment>, order: Order) -> Result<(), Pause> {
        self.checkpoint_before_stop(assignment).await;
        let runs = self.converge.means().home.runs.clone();
        let how = Stop { grace: assignment.grace(), by: assignment.halted_by() };
        failpoint::reach(&self.key(run_saga(order)), "end", Point::BeforeStop);
        let stopped = tokio::select! {
            stopped = runs.stop(self.session, order, how) => stopped,
            // Maybe with another grace: then it is asked again, and goes on from where it is.
            Ok(()) = self.told.changed() => return Ok(()),
        };
        match stopped {
            Ok(ended) => Ok(self.run_ended(order, ended).await?),
            Err(fault) => self.fault(assignment, &fault).await,
        }
    }

    /// Tells the supervisor what was added. A run that has ended meanwhile has no use for it.
    async fn extend(&mut self, order: Order, grant: Grant) -> Result<(), Pause> {
        let runs = self.converge.means().home.runs.clone();
        let extended = tokio::select! {
            biased;
            ended = runs.ended(self.session, order) => return Ok(self.run_ended(order, ended).await?),
            extended = runs.extend(self.session, order, grant.total, grant.count) => extended,
        };
        let extended = extended.map_err(|fault| Pause::Again(fault.text.into()))?;
        let local = Local { grant, ..self.entry.local.clone() };
        let mut writes = self.told_extended(order, extended);
        writes.push(Write::Local { session: self.session, local });
        Ok(self.commit(writes).await?)
    }

    /// The live run's deadline was moved.
    pub(super) async fn run_extended(
        &mut self,
        order: Order,
        extended: Extended,
    ) -> Result<(), crate::ledger::Error> {
        let writes = self.told_extended(order, extended);
        self.commit(writes).await
    }

    fn told_extended(&mut self, order: Order, extended: Extended) -> Vec<Write> {
        let Extended { deadline, extensions } = extended;
        self.extensions = extensions;
        let told = deadline.map(|deadline| Observation::RunExtended { run: order.run, deadline, extensions });
        told.iter().map(|told| observe::report(self.session, &self.entry.local, told)).collect()
    }

    /// The end of a run, whoever ended it: no process of it is left.
    pub(super) async fn run_ended(&mut self, order: Order, ended: Ended) -> Result<(), crate::ledger::Error> {
        let mut writes = observe::ended(self.session, self.entry.local.clone(), order, &ended);
        let saga = self.key(run_saga(order));
        writes.push(Write::End(saga.clone()));
        failpoint::reach(&saga, "end", Point::BeforeEnd);
        self.commit(writes).await?;
        failpoint::reach(&saga, "end", Point::AfterEnd);
        Ok(())
    }

    async fn remove_workspace(&mut self, assignment: &Arc<Assignment>, leave: Leave) -> Result<(), Pause> {
        let shared = self.converge.0.clone();
        let _permit = shared.makes.acquire().await;
        let home = &shared.means.home;
        if self.entry.local.site == Site::Making && self.sagas.contains_key(WORKSPACE) {
            return self.take_back(assignment).await;
        }
        let steps = match self.place_to_remove(assignment).await {
            Ok(Left::Workspace(place)) => {
                removal::steps(home, &place, leave.removal(), &saved::label(assignment))
            }
            Ok(Left::WithoutRepository(path)) => removal::without_repository(home, self.session, &path),
            Ok(Left::Nothing) => return self.removed(leave).await,
            Err(fault) => return self.fault(assignment, &fault).await,
        };
        self.remove(assignment, leave, steps).await?;
        home.delete_put_away(&self.converge.means().tasks);
        Ok(())
    }

    /// By these steps; what they say of what is left is reported.
    async fn remove(
        &mut self,
        assignment: &Assignment,
        leave: Leave,
        steps: Vec<Box<dyn Step<Leaving>>>,
    ) -> Result<(), Pause> {
        let saga = Saga { key: self.key(REMOVAL), steps, on_failure: OnFailure::Halt };
        let (session, local, attempt) = (self.session, self.entry.local.clone(), assignment.attempt);
        let removing = Local { site: Site::Removing, ..local };
        let ends = [self.key(WORKSPACE), saga.key.clone()];
        let closing = |ending: Ending<'_, Leaving>| match ending {
            Ending::Done(leaving) => {
                let local = Local { site: leave.site(), ..removing.clone() };
                let mut writes = leave.told(session, local, leaving.kept());
                writes.extend(ends.iter().cloned().map(Write::End));
                writes.extend(leaving.claimed(session));
                writes
            }
            Ending::Undone(fault) | Ending::Left(fault) => {
                observe::faulted(session, removing.clone(), attempt, fault)
            }
        };
        let record = self.sagas.get(REMOVAL).cloned().unwrap_or_default();
        let standing = Standing { record, fresh: Leaving::default() };
        let opening = vec![Write::Local { session, local: removing.clone() }];
        self.run_saga(&saga, standing, opening, Box::new(closing)).await
    }

    /// Takes back a workspace that was not finished: nobody has worked in it.
    async fn take_back(&mut self, assignment: &Arc<Assignment>) -> Result<(), Pause> {
        let saga = self.workspace_saga(assignment);
        let mut record = self.sagas.get(WORKSPACE).cloned().unwrap_or_default();
        record.heading = Heading::Back { fault: no_workspace("remove"), told: false };
        let (session, local, attempt) = (self.session, self.entry.local.clone(), assignment.attempt);
        let closing = |ending: Ending<'_, Layout>| match ending {
            Ending::Done(_) | Ending::Undone(_) => {
                vec![Write::Local { session, local: Local { site: Site::Nothing, ..local.clone() } }]
            }
            Ending::Left(fault) => observe::faulted(session, local.clone(), attempt, fault),
        };
        let fresh = Layout::of(&self.converge.means().home, assignment);
        self.run_saga(&saga, Standing { record, fresh }, Vec::new(), Box::new(closing)).await
    }

    /// What is to be removed. Where the ledger was lost, what the controller knows of it is looked for.
    async fn place_to_remove(&self, assignment: &Assignment) -> Result<Left, Fault> {
        let home = &self.converge.means().home;
        let mut layout = match self.layout() {
            Some(layout) => layout,
            None if assignment.workspace.is_some() => Layout::of(home, assignment),
            None => return Ok(Left::Nothing),
        };
        let mut lost = layout.has_lost_its_repository();
        if layout.common.is_none() {
            match workspace::known_repository(home, assignment).await {
                Ok(common) => layout.common = common,
                Err(fault) if matches!(fault.code, FaultCode::PathGone | FaultCode::NotARepository) => {
                    lost = true
                }
                Err(fault) => return Err(fault),
            }
        }
        let is_gone = matches!(layout.path.try_exists(), Ok(false));
        if is_gone && (lost || layout.common.is_none()) {
            return Ok(Left::Nothing);
        }
        if lost {
            return Ok(Left::WithoutRepository(layout.path));
        }
        Ok(layout.site(home, assignment)?.map_or(Left::Nothing, Left::Workspace))
    }

    /// Nothing was here.
    async fn removed(&mut self, leave: Leave) -> Result<(), Pause> {
        let local = Local { site: leave.site(), ..self.entry.local.clone() };
        let mut writes = leave.told(self.session, local, Kept::default());
        writes.extend([WORKSPACE, REMOVAL].map(|saga| Write::End(self.key(saga))));
        Ok(self.commit(writes).await?)
    }

    /// Nothing of it is wanted and nothing is left but logs and what the ledger says: that goes too.
    pub(super) async fn forget(&self) -> Result<(), Pause> {
        let steps = run::forgetting(&self.converge.means().home, self.session);
        let saga = Saga { key: self.key("forget"), steps, on_failure: OnFailure::Halt };
        let closing = |ending: Ending<'_, ()>| match ending {
            Ending::Done(()) => vec![Write::Forget(self.session)],
            Ending::Undone(_) | Ending::Left(_) => Vec::new(),
        };
        let means = self.converge.means();
        let around = Around { opening: Vec::new(), closing: Box::new(closing), progress: Box::new(|_| {}) };
        match means.engine.run(&means.ledger, &saga, Standing::default(), around).await {
            Ok(()) => Ok(()),
            Err(Stopped::Parked) => Err(Pause::Parked),
            Err(stopped) => Err(Pause::Again(stopped.to_string())),
        }
    }

    /// A fault that was met outside of a saga.
    async fn fault(&self, assignment: &Assignment, fault: &Fault) -> Result<(), Pause> {
        let local = self.entry.local.clone();
        Ok(self.commit(observe::faulted(self.session, local, assignment.attempt, fault)).await?)
    }

    /// The workspace as the ledger knows it.
    pub(super) fn layout(&self) -> Option<Layout> {
        let record = self.sagas.get(WORKSPACE)?;
        serde_json::from_str(&record.data).ok()
    }

    /// Runs a saga and tells its progress if it takes long. A fault is no error here: its commit has told it.
    async fn run_saga<C>(
        &self,
        saga: &Saga<C>,
        standing: Standing<C>,
        opening: Vec<Write>,
        closing: Closing<'_, C>,
    ) -> Result<(), Pause>
    where
        C: serde::Serialize + serde::de::DeserializeOwned + Send + Sync,
    {
        let means = self.converge.means();
        let (progress, seen) = watch::channel(Progress::default());
        let progress = Box::new(move |step| drop(progress.send(step)));
        let around = Around { opening, closing, progress };
        let result = tokio::select! {
            result = means.engine.run(&means.ledger, saga, standing, around) => result,
            never = self.tell_progress(seen) => match never {},
        };
        match result {
            Ok(_) => Ok(()),
            Err(Stopped::Failed(fault)) => {
                tracing::warn!(session = %self.session, saga = %saga.key.saga, step = %fault.step, "{}", fault.text);
                // What was taken back may have been put away.
                means.home.delete_put_away(&means.tasks);
                Ok(())
            }
            Err(Stopped::Parked) => Err(Pause::Parked),
            Err(Stopped::Ledger(error)) => Err(error.into()),
        }
    }

    /// Never returns: ends with the saga that it tells of.
    async fn tell_progress(&self, mut seen: watch::Receiver<Progress>) -> Infallible {
        loop {
            tokio::time::sleep(TELL_AFTER).await;
            if seen.has_changed().unwrap_or(false) {
                let progress = Observation::Progress(seen.borrow_and_update().clone());
                let report = observe::report(self.session, &self.entry.local, &progress);
                if let Err(error) = self.commit(vec![report]).await {
                    tracing::warn!(session = %self.session, "progress not told: {error}");
                }
            }
        }
    }
}

/// What is left of a workspace that is to be removed.
enum Left {
    Nothing,
    Workspace(Place),
    /// There is nowhere to save its work.
    WithoutRepository(PathBuf),
}

/// What becomes of a session whose workspace is removed.
#[derive(Clone, Copy)]
enum Leave {
    ForGood(Removal),
    /// Its branch begins anew too, once its tip is in the trash.
    ToBeMadeAnew,
}

impl Leave {
    fn removal(self) -> Removal {
        match self {
            Self::ForGood(removal) => removal,
            Self::ToBeMadeAnew => Removal { keep_branch: false, force_branch: true },
        }
    }

    /// What was cleared is as if it had never been: a session that is removed then still has to be told of.
    fn site(self) -> Site {
        match self {
            Self::ForGood(_) => Site::Removed,
            Self::ToBeMadeAnew => Site::Nothing,
        }
    }

    /// What is gone for good is reported; the other is told by what comes after it.
    fn told(self, session: SessionId, local: Local, kept: Kept) -> Vec<Write> {
        match self {
            Self::ForGood(_) => observe::change(session, local, &Observation::Removed(kept)),
            Self::ToBeMadeAnew => vec![Write::Local { session, local }],
        }
    }
}

fn no_workspace(step: &'static str) -> Fault {
    Fault {
        code: FaultCode::PathGone,
        step: step.into(),
        text: "the ledger knows of no finished workspace".into(),
        hint: "remove the session, or start it again".into(),
        retryable: false,
    }
}
