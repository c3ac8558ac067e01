//! What remains of sessions, as it is asked about and acted upon by tunnel.

use std::path::PathBuf;

use drover_domain::id::SessionId;
use drover_proto::node_v1::act::Deed as Order;
use drover_proto::node_v1::tunnel_request::Message as Up;
use drover_proto::node_v1::{self, Act, Assess, DeedResult};

use super::Tunnels;
use super::answer::{Out, Trouble, say};
use super::preview::preview;
use crate::converge::remains::{Asked, Assessment, Deed, Outcome, SeenLock};
use crate::workspace::Label;

impl Tunnels {
    pub(super) async fn assess(&self, ask: &Assess, out: &Out) -> Result<(), Trouble> {
        for remains in &ask.remains {
            let assessment = self.converge.assess(&asked(remains)?).await;
            say(out, Up::Assessment(assessed(&assessment))).await?;
        }
        Ok(())
    }

    pub(super) async fn act(&self, ask: &Act, out: &Out) -> Result<(), Trouble> {
        let remains = ask.remains.clone().unwrap_or_default();
        let converge = &self.converge;
        let deed = match ask.deed.as_ref().ok_or(Trouble::NotUnderstood)? {
            Order::EndProcesses(order) => {
                let named = order.processes.iter().map(|process| (process.pid, process.start)).collect();
                converge.end_processes(asked(&remains)?, named).await
            }
            Order::Clear(_) => converge.clear(asked(&remains)?, ask.stamp.clone()).await,
            Order::MoveLock(order) => {
                let lock = order.lock.clone().unwrap_or_default();
                let repository = PathBuf::from(lock.repository);
                converge.move_lock(SeenLock { repository, name: lock.name, stamp: lock.stamp }).await
            }
            Order::TellRun(_) => converge.tell_run(session(&remains)?).await,
        };
        say(out, Up::Deed(told(deed))).await
    }
}

fn session(remains: &node_v1::Remains) -> Result<SessionId, Trouble> {
    remains.session_id.parse().map_err(|_| Trouble::BadSession(remains.session_id.clone()))
}

fn asked(remains: &node_v1::Remains) -> Result<Asked, Trouble> {
    let maybe = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(Asked {
        session: session(remains)?,
        repository: maybe(&remains.repository).map(Into::into),
        path: maybe(&remains.path).map(Into::into),
        branch: maybe(&remains.branch),
        label: Label {
            project: remains.project.clone(),
            name: remains.name.clone(),
            repository: remains.origin.clone(),
        },
    })
}

fn assessed(assessment: &Assessment) -> node_v1::Assessment {
    node_v1::Assessment {
        session_id: assessment.session.to_string(),
        work: assessment.work.as_ref().map(|(site, work)| preview(site, work)),
        users: assessment.users.clone(),
        stamp: assessment.stamp.clone(),
        obstacle: assessment.obstacle.clone().unwrap_or_default(),
    }
}

fn told(deed: Deed) -> node_v1::Deed {
    let result = match deed.result {
        Outcome::Done => DeedResult::Done,
        Outcome::Nothing => DeedResult::Nothing,
        Outcome::Changed => DeedResult::Changed,
        Outcome::Failed => DeedResult::Failed,
    };
    node_v1::Deed { result: result.into(), text: deed.text, kept: deed.kept, saved: deed.saved }
}
