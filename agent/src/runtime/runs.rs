//! Runs as the converge loop knows them: from assignments to jobs, from exits to ends, from errors to faults.

use std::time::Duration;

use async_trait::async_trait;
use drover_domain::converge::Assignment;
use drover_domain::id::SessionId;
use drover_domain::outcome::Outcome;
use drover_domain::presence::Presence;
use drover_domain::session::{Fault, FaultCode, Order};
use drover_domain::spec::{self, Resume};
use drover_domain::time::Timestamp;

use super::look::Seen;
use super::{AskError, Job, Key, Processes, StartError, StopError, account, environment};
use crate::git::runner::Account;
use crate::logs;
use crate::logs::follow::Follow;
use crate::saga::run::Launch;
use crate::saga::workspace::Layout;
use crate::saga::{Ended, Excerpt, Extended, Runs, Stop};
use crate::shim::record::{Exit, Limits, Signs};

const STEP: &str = "program";

#[async_trait]
impl Runs for Processes {
    async fn started(&self, session: SessionId, order: Order) -> Presence<Launch> {
        let key = Key { session, order };
        match self.look(key) {
            Presence::Present(Seen::Starting) => match Processes::started(self, key).await {
                Ok(seen) => Presence::Present(self.launched(key, &seen)),
                Err(error) => Presence::Unknown(error.to_string()),
            },
            Presence::Present(seen) => Presence::Present(self.launched(key, &seen)),
            Presence::Absent => Presence::Absent,
            Presence::Unknown(why) => Presence::Unknown(why),
        }
    }

    async fn start(&self, assignment: &Assignment, order: Order, layout: &Layout) -> Result<Launch, Fault> {
        let key = Key { session: assignment.session, order };
        let seen = Processes::start(self, key, job(assignment, layout)?)
            .await
            .map_err(|error| start_fault(&error))?;
        Ok(self.launched(key, &seen))
    }

    async fn undo(&self, session: SessionId, order: Order) -> Result<(), Fault> {
        let key = Key { session, order };
        Processes::stop(self, key, "drover", Duration::ZERO).await.map_err(|error| stop_fault(&error))?;
        self.forget(key)
            .map_err(|error| fault(FaultCode::Other, format!("the run cannot be deleted: {error}")))
    }

    async fn stop(&self, session: SessionId, order: Order, how: Stop<'_>) -> Result<Ended, Fault> {
        let exit = Processes::stop(self, Key { session, order }, how.by, how.grace).await;
        let never = || Ended {
            started: None,
            ended: Timestamp::from_millis(self.0.clock.wall_millis()),
            outcome: Outcome::Stopped(how.by.into()),
            usage: Default::default(),
        };
        exit.map(|exit| exit.as_ref().map_or_else(never, end)).map_err(|error| stop_fault(&error))
    }

    async fn ended(&self, session: SessionId, order: Order) -> Ended {
        end(&Processes::ended(self, Key { session, order }).await)
    }

    fn lives(&self, session: SessionId, order: Order) -> Presence<()> {
        self.alive(Key { session, order })
    }

    async fn settle(&self, session: SessionId, order: Order) -> Result<Option<Ended>, Fault> {
        let settled = self.settle_unseen(Key { session, order }).await;
        settled.map(|exit| exit.as_ref().map(end)).map_err(|error| stop_fault(&error))
    }

    async fn extend(
        &self,
        session: SessionId,
        order: Order,
        granted_total: Duration,
        grants: u32,
    ) -> Result<Extended, Fault> {
        let extended = Processes::extend(self, Key { session, order }, granted_total, grants).await;
        extended.map_err(|error| ask_fault(&error))
    }

    async fn extended(&self, session: SessionId, order: Order, known: u32) -> Extended {
        Processes::extended(self, Key { session, order }, known).await
    }

    async fn fence(&self, session: SessionId, order: Order, until_boot: Duration) -> Result<(), Fault> {
        let fenced = Processes::fence(self, Key { session, order }, until_boot).await;
        fenced.map_err(|error| ask_fault(&error))
    }

    async fn kept(&self, session: SessionId) -> Result<Vec<Order>, Fault> {
        let keys = self.of(session).map_err(|error| unreadable("its runs", &error))?;
        Ok(keys.into_iter().map(|key| key.order).collect())
    }

    async fn log(&self, session: SessionId, order: Order, excerpt: Excerpt) -> Result<Follow, Fault> {
        let (this, key, from) = (self.clone(), Key { session, order }, excerpt.from);
        let opened = tokio::task::spawn_blocking(move || this.read_log(key, &from)).await;
        let reader = opened.map_err(|error| unreadable("its log", &error))?;
        let reader = reader.map_err(|error| unreadable("its log", &error))?;
        Ok(if excerpt.follow { self.follow(key, reader) } else { Follow::new(reader, || true) })
    }

    async fn forget(&self, session: SessionId) -> Result<(), Fault> {
        let failed =
            |error: std::io::Error| fault(FaultCode::Other, format!("its runs cannot be deleted: {error}"));
        for key in self.of(session).map_err(failed)? {
            Processes::forget(self, key).map_err(failed)?;
        }
        super::remove_if_there(std::fs::remove_dir_all(self.0.runs.join(session.to_string()))).map_err(failed)
    }

    fn account(&self, name: &str) -> Result<Account, Fault> {
        account::find(name).map_err(|error| account_fault(&error))
    }
}

impl Processes {
    fn launched(&self, key: Key, seen: &Seen) -> Launch {
        let directory = self.directory(key);
        let command = directory.started().ok().flatten();
        let run = directory.run().ok().flatten();
        let started = match (&command, seen) {
            (Some(command), _) => command.started,
            (None, Seen::Ended(exit)) => exit.started.unwrap_or(exit.ended),
            (None, Seen::Starting | Seen::Running(_) | Seen::Orphaned) => {
                run.as_ref().map_or(0, |run| run.written)
            }
        };
        let timeout =
            run.and_then(|run| run.limits.timeout_ms).and_then(|timeout| i64::try_from(timeout).ok());
        Launch {
            pid: command.map_or(0, |command| command.process.pid),
            started,
            deadline: timeout.map(|timeout| started.saturating_add(timeout)),
        }
    }
}

fn job(assignment: &Assignment, layout: &Layout) -> Result<Job, Fault> {
    let account = layout.run_as.as_deref().map(account::find).transpose();
    let account = account.map_err(|error| account_fault(&error))?;
    let user = account.as_ref().map(account::user).transpose().map_err(|error| account_fault(&error))?;
    let millis = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let limits = &assignment.spec.limits;
    Ok(Job {
        command: command(assignment).iter().map(|word| word.to_string()).collect(),
        environment: environment::of(assignment, account.as_ref()),
        workspace: layout.path.clone(),
        fence: assignment.fence.to_string(),
        user: user.flatten(),
        limits: Limits {
            timeout_ms: limits.timeout.map(millis),
            idle_ms: limits.idle_timeout.map(millis),
            grace_ms: millis(limits.stop_grace()),
            log_bytes: limits.log_bytes.unwrap_or(logs::CAP),
            idle_signs: signs(limits.idle_signs()),
            extend_signs: signs(limits.extend_signs()),
            max_extensions: Some(limits.max_extensions()),
            max_extension_ms: limits.max_extension.map(millis),
        },
    })
}

fn signs(spec::Signs { touch, output, cpu }: spec::Signs) -> Signs {
    Signs { touch, output, cpu }
}

/// What to run: what the spec has for going on, if it has that and the run goes on with an earlier one.
fn command(assignment: &Assignment) -> &[Box<str>] {
    match &assignment.spec.resume {
        Resume::Auto { command } if assignment.resumes && !command.is_empty() => command,
        Resume::Auto { .. } | Resume::Never => &assignment.spec.command,
    }
}

fn end(exit: &Exit) -> Ended {
    Ended {
        started: exit.started.map(Timestamp::from_millis),
        ended: Timestamp::from_millis(exit.ended),
        outcome: Outcome::from(&exit.verdict),
        usage: exit.used.into(),
    }
}

fn fault(code: FaultCode, text: String) -> Fault {
    let hint = "the agent's log on the node has more";
    Fault { code, step: STEP.into(), text: text.into(), hint: hint.into(), retryable: true }
}

fn unreadable(what: &str, error: &dyn std::fmt::Display) -> Fault {
    fault(FaultCode::Other, format!("{what} cannot be read: {error}"))
}

fn start_fault(error: &StartError) -> Fault {
    use std::io::ErrorKind as Kind;
    let other = fault(FaultCode::Other, error.to_string());
    match error {
        StartError::Files { source, .. } | StartError::Launch { source, .. } => match source.kind() {
            Kind::StorageFull | Kind::QuotaExceeded => Fault {
                code: FaultCode::DiskFull,
                hint: "free space where the agent keeps its state".into(),
                ..other
            },
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Fault {
                code: FaultCode::PermissionDenied,
                hint: "the agent must own its state directory, and programs there must be allowed to run"
                    .into(),
                retryable: false,
                ..other
            },
            _ => other,
        },
        StartError::LongSocket(_) => Fault { retryable: false, ..other },
        StartError::NotAlone { .. } => {
            Fault { hint: "stop the session, then start it again".into(), ..other }
        }
        StartError::Supervisor(_) | StartError::Unseen(_) => other,
    }
}

fn stop_fault(error: &StopError) -> Fault {
    let other = fault(FaultCode::Other, error.to_string());
    let stuck = "look at these processes on the node: they wait for a device or a file system";
    match error {
        StopError::Stuck { .. } => Fault { code: FaultCode::Stuck, hint: stuck.into(), ..other },
        StopError::Silent { .. } => Fault { code: FaultCode::Stuck, ..other },
        StopError::Unseen(_) => other,
    }
}

fn ask_fault(error: &AskError) -> Fault {
    let other = fault(FaultCode::Other, error.to_string());
    let older = "a run that an older agent started can do less: stop the session and start it again";
    match error {
        AskError::Silent => other,
        AskError::Over => Fault { retryable: false, ..other },
        AskError::Refused(_) => Fault { hint: older.into(), retryable: false, ..other },
    }
}

fn account_fault(error: &account::Error) -> Fault {
    let (code, hint) = match error {
        account::Error::Unknown(_) => {
            (FaultCode::UserUnknown, "make the user on the node, or name another one with --run-as")
        }
        account::Error::NotRoot { .. } => {
            (FaultCode::PermissionDenied, "an agent runs sessions as other users only if it is root")
        }
        account::Error::Groups { .. } => (FaultCode::Other, "the command `id` must be on the node"),
    };
    Fault { code, hint: hint.into(), retryable: false, ..fault(code, error.to_string()) }
}
