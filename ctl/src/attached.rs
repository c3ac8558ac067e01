//! Standing by a session's run: its output is shown as it comes, and the exit code is the run's. Restarts by the
//! session's policy are followed too. Ctrl-C asks whether to leave it running or to stop it.

use std::time::Duration;

use drover_proto::convert::run::outcome_from;
use drover_proto::v1::{
    LogChunk, LogStream, Run, Session, SessionState, SessionWanted, StopSessionRequest, StreamLogsRequest,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::logs::Logs;
use crate::client::watch::{Seen, Watch};
use crate::client::{Client, requests};
use crate::commands::Invocation;
use crate::error::{Exit, Failure};
use crate::follow::faulted;
use crate::output::runs::outcome;
use crate::output::sessions::{detail, state, title};
use crate::output::{Raw, times};
use crate::progress::Progress;
use crate::prompt;

/// How long the rest of a log is waited for once its run is over.
const LAG: Duration = Duration::from_secs(20);

/// How long a run waits before it is said why.
const EXPLAIN: Duration = Duration::from_secs(2);

/// How standing by ended.
#[derive(Debug)]
pub enum End {
    /// The last run is over; with the code to exit with.
    Over(u8),
    /// The person left, and the run goes on.
    Detached,
}

struct Attached<'a> {
    invocation: &'a Invocation,
    client: &'a Client,
    session: Session,
    /// The run that is shown.
    ordinal: u32,
    logs: Log,
    raw: Raw,
    progress: Option<Progress>,
    /// What was last said of why it waits, to who has no terminal.
    said: String,
}

#[derive(Debug)]
enum Log {
    /// The run has not started, as far as is known.
    NotYet,
    Open(Box<Logs>),
    /// All that there is was shown.
    Done,
}

/// What a person who pressed Ctrl-C wants.
enum Wish {
    Detach,
    Stop,
    Stay,
}

/// Stays with the session until its last run is over, or the person leaves.
pub async fn stand_by(invocation: &Invocation, client: &Client, session: Session) -> Result<End, Failure> {
    let mut watch = Watch::session(client, &session.id, &invocation.clock);
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut attached = Attached {
        invocation,
        client,
        ordinal: session.runs.max(1),
        session,
        logs: Log::NotYet,
        raw: Raw::default(),
        progress: None,
        said: String::new(),
    };
    loop {
        attached.advance()?;
        if let Some(code) = attached.code() {
            return Ok(End::Over(code));
        }
        let lag = attached.is_settled() && matches!(attached.logs, Log::Open(_));
        tokio::select! {
            chunk = chunk(&mut attached.logs) => attached.show(chunk)?,
            seen = watch.next() => attached.see(seen?)?,
            () = tokio::time::sleep(LAG), if lag => {
                attached.say("the rest of the log cannot be had; droverctl logs may show it later");
                attached.logs = Log::Done;
            }
            () = tokio::time::sleep(EXPLAIN), if attached.unsaid().is_some() => {
                attached.said = attached.unsaid().unwrap_or_default();
                let words = attached.said.clone();
                attached.say(&words);
            }
            _ = interrupts.recv() => match attached.wish(&mut interrupts).await? {
                Wish::Detach => return Ok(attached.detach()),
                Wish::Stop => attached.stop().await?,
                Wish::Stay => {}
            },
        }
    }
}

async fn chunk(logs: &mut Log) -> Result<Option<LogChunk>, Failure> {
    match logs {
        Log::Open(logs) => logs.next().await,
        Log::NotYet | Log::Done => std::future::pending().await,
    }
}

impl Attached<'_> {
    /// The run that is shown, as far as it is known.
    fn run(&self) -> Option<&Run> {
        let runs = [&self.session.current_run, &self.session.last_run];
        runs.into_iter().flatten().find(|run| run.ordinal == self.ordinal)
    }

    fn is_over(&self) -> bool {
        self.session.last_run.as_ref().is_some_and(|run| run.ordinal >= self.ordinal)
    }

    /// Whether nothing runs and nothing will, whichever run was the last.
    fn is_resting(&self) -> bool {
        let rests = matches!(self.session.state(), SessionState::Ready | SessionState::Cleaned);
        rests && self.session.wanted() != SessionWanted::Running
    }

    /// Whether the log should be complete soon.
    fn is_settled(&self) -> bool {
        self.is_over() || self.is_resting() || self.session.state() == SessionState::Error
    }

    /// Opens the log once the run has started, and goes on to the next run once this one was shown whole.
    fn advance(&mut self) -> Result<(), Failure> {
        let started = self.run().is_some_and(|run| run.start_time.is_some());
        let passed = self.session.runs > self.ordinal;
        match self.logs {
            Log::NotYet if started || passed => {
                self.progress = None;
                self.logs = Log::Open(Box::new(self.log()));
            }
            Log::NotYet if self.is_over() || self.is_resting() => self.logs = Log::Done,
            Log::NotYet => self.wait(),
            Log::Done if self.is_over() && self.session.wanted() == SessionWanted::Running => self.next_run(),
            Log::Open(_) | Log::Done => {}
        }
        if self.session.state() == SessionState::Error && !matches!(self.logs, Log::Open(_)) {
            self.progress = None;
            return Err(faulted(&self.session).ending(Exit::Drover));
        }
        Ok(())
    }

    fn log(&self) -> Logs {
        let request = StreamLogsRequest {
            session: self.session.id.clone(),
            run: self.ordinal,
            follow: true,
            ..Default::default()
        };
        Logs::new(self.client, request, &self.invocation.clock)
    }

    fn next_run(&mut self) {
        if let Some(run) = self.run() {
            let words = format!("run {} {}; it is started again", self.ordinal, outcome(run));
            self.say(&words);
        }
        self.ordinal += 1;
        self.logs = Log::NotYet;
    }

    /// The code to exit with, once nothing more is to come.
    fn code(&self) -> Option<u8> {
        let is_shown = matches!(self.logs, Log::Done);
        if !is_shown
            || self.session.wanted() == SessionWanted::Running
            || !(self.is_over() || self.is_resting())
        {
            return None;
        }
        let Some(run) = &self.session.last_run else {
            // It was stopped before it ran.
            return Some(Exit::Interrupted.code());
        };
        let code = outcome_from(run).ok().and_then(|outcome| u8::try_from(outcome.exit_code() & 0xff).ok());
        Some(code.unwrap_or(Exit::Drover.code()))
    }

    fn see(&mut self, seen: Seen) -> Result<(), Failure> {
        match seen {
            Seen::Session(session) if session.id == self.session.id => self.session = *session,
            Seen::Removed(id) if id == self.session.id => return Err(self.gone()),
            Seen::Session(_) | Seen::Removed(_) | Seen::CaughtUp => {}
        }
        let removed = matches!(self.session.state(), SessionState::Cleaned | SessionState::Cleaning);
        if removed && !self.is_over() && matches!(self.logs, Log::NotYet) { Err(self.gone()) } else { Ok(()) }
    }

    fn gone(&self) -> Failure {
        Failure::new(Exit::Drover, format!("session '{}' was removed", title(&self.session)))
    }

    fn show(&mut self, chunk: Result<Option<LogChunk>, Failure>) -> Result<(), Failure> {
        match chunk {
            Ok(None) => self.logs = Log::Done,
            Ok(Some(chunk)) => print(&mut self.raw, &chunk)?,
            Err(failure) => {
                self.say(&format!("the log cannot be shown: {failure}"));
                self.logs = Log::Done;
            }
        }
        Ok(())
    }

    fn wait(&mut self) {
        let progress = self.progress.get_or_insert_with(|| Progress::new(&self.invocation.out));
        let detail = detail(&self.session, &self.invocation.out.look());
        progress.say(&format!("{} is {}: {detail}", title(&self.session), state(&self.session)));
    }

    /// Why it waits, if it does and there is no terminal that shows it.
    fn unsaid(&self) -> Option<String> {
        let waits = matches!(self.logs, Log::NotYet) && self.session.state() == SessionState::Queued;
        let detail = detail(&self.session, &self.invocation.out.look());
        let words = format!("{} is queued: {detail}", title(&self.session));
        (waits && !self.invocation.out.can_ask() && words != self.said).then_some(words)
    }

    fn say(&mut self, text: &str) {
        self.progress = None;
        self.invocation.out.note(format!("droverctl: {text}"));
    }

    async fn wish(&mut self, interrupts: &mut Signal) -> Result<Wish, Failure> {
        self.progress = None;
        if !self.invocation.out.can_ask() {
            return Ok(Wish::Detach);
        }
        let name = title(&self.session);
        let question = format!("\n{name}: [d]etach and let it run, [s]top it, or [k]eep watching?");
        tokio::select! {
            answer = prompt::ask(&question) => Ok(match answer?.as_str() {
                "s" | "stop" => Wish::Stop,
                "k" | "keep" => Wish::Stay,
                _ => Wish::Detach,
            }),
            _ = interrupts.recv() => Ok(Wish::Detach),
        }
    }

    fn detach(mut self) -> End {
        let name = title(&self.session);
        self.say(&format!(
            "{name} goes on; `droverctl logs {name} -f` shows it, `droverctl stop {name}` ends it"
        ));
        End::Detached
    }

    async fn stop(&mut self) -> Result<(), Failure> {
        let request = StopSessionRequest {
            request_id: requests::id(&Default::default()),
            session: self.session.id.clone(),
            ..Default::default()
        };
        let call =
            |mut api: crate::client::Api, request| async move { api.sessions.stop_session(request).await };
        self.client.call(request, call).await?;
        self.say("stopping");
        Ok(())
    }
}

/// A piece of a run's output: each stream where it belongs.
fn print(raw: &mut Raw, chunk: &LogChunk) -> Result<(), Failure> {
    if chunk.dropped_bytes > 0 {
        let words = format!("\n[{} of the log were dropped here]\n", times::bytes(chunk.dropped_bytes));
        raw.stderr(words.as_bytes())?;
    }
    match chunk.stream() {
        LogStream::Unspecified | LogStream::Stdout => raw.stdout(&chunk.data)?,
        LogStream::Stderr | LogStream::Drover => raw.stderr(&chunk.data)?,
    }
    Ok(())
}
