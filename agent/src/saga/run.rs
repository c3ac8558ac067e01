//! Starting a run: one effect, the supervisor with the program under it. What the ledger keeps of it is what is
//! reported; everything else of a run is known by its runtime.

use async_trait::async_trait;
use drover_domain::command::Observation;
use drover_domain::converge::Assignment;
use drover_domain::id::SessionId;
use drover_domain::presence::Presence;
use drover_domain::session::{Fault, Handle, Order};
use drover_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Home;
use super::workspace::Layout;
use crate::step::Step;

/// A run that was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    pub pid: u32,
    /// In milliseconds since 1970, like the deadline.
    pub started: i64,
    pub deadline: Option<i64>,
}

impl Launch {
    /// As it is reported.
    pub fn told(&self, order: Order) -> Observation {
        Observation::RunStarted {
            run: order.run,
            started: Timestamp::from_millis(self.started),
            deadline: self.deadline.map(Timestamp::from_millis),
            handle: Handle::Process { pid: self.pid },
        }
    }
}

pub fn steps(
    home: &Home,
    assignment: &Assignment,
    order: Order,
    layout: &Layout,
) -> Vec<Box<dyn Step<Launch>>> {
    let start = Start { home: home.clone(), assignment: assignment.clone(), order, layout: layout.clone() };
    vec![Box::new(start)]
}

/// The supervisor and the program.
struct Start {
    home: Home,
    assignment: Assignment,
    order: Order,
    layout: Layout,
}

#[async_trait]
impl Step<Launch> for Start {
    fn name(&self) -> &'static str {
        "program"
    }

    /// A run that has ended already was started too: its end is told next.
    async fn probe(&self, launch: &mut Launch) -> Presence<()> {
        match self.home.runs.started(self.assignment.session, self.order).await {
            Presence::Present(found) => {
                *launch = found;
                Presence::Present(())
            }
            Presence::Absent => Presence::Absent,
            Presence::Unknown(why) => Presence::Unknown(why),
        }
    }

    async fn make(&self, launch: &mut Launch) -> Result<(), Fault> {
        self.check_workspace().await?;
        *launch = self.home.runs.start(&self.assignment, self.order, &self.layout).await?;
        Ok(())
    }

    async fn undo(&self, _: &mut Launch) -> Result<(), Fault> {
        self.home.runs.undo(self.assignment.session, self.order).await
    }
}

impl Start {
    /// Nothing is started in a workspace whose parts do not belong together any more.
    async fn check_workspace(&self) -> Result<(), Fault> {
        let Some(site) = self.layout.site(&self.home, &self.assignment)? else { return Ok(()) };
        let usable = self.home.workspaces.make_usable(&site).await;
        usable.map_err(|failure| Fault {
            hint: "look at it; droverctl reset --hard saves what is there and makes it anew".into(),
            // Somebody may be at it: a disk that is mounted late, a backup that is put back.
            retryable: true,
            ..failure.fault("workspace")
        })
    }
}

/// Deletes what is kept of a session's runs, once nobody can ask for it any more.
pub fn forgetting(home: &Home, session: SessionId) -> Vec<Box<dyn Step<()>>> {
    vec![Box::new(DeleteRuns { home: home.clone(), session })]
}

struct DeleteRuns {
    home: Home,
    session: SessionId,
}

#[async_trait]
impl Step<()> for DeleteRuns {
    fn name(&self) -> &'static str {
        "logs"
    }

    /// Deleting what is gone costs nothing.
    async fn probe(&self, _: &mut ()) -> Presence<()> {
        Presence::Absent
    }

    async fn make(&self, _: &mut ()) -> Result<(), Fault> {
        self.home.runs.forget(self.session).await
    }
}
