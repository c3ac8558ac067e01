//! `droverctl logs`: what a run wrote, both streams in the order they were written.

use drover_domain::time::Timestamp;
use drover_proto::convert::time::stamp;
use drover_proto::v1::{LogChunk, LogStream, Session, SessionState, StreamLogsRequest};

use super::{Invocation, get};
use crate::cli::LogsArgs;
use crate::cli::values::{Format, Since};
use crate::client::Client;
use crate::client::logs::Logs;
use crate::client::watch::{Seen, Watch};
use crate::error::{Exit, Failure};
use crate::follow::faulted;
use crate::output::sessions::{detail, state, title};
use crate::output::{Raw, View, times};
use crate::progress::Progress;

pub async fn logs(invocation: &Invocation, args: LogsArgs) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    let session = get::session(&client, args.session.clone(), invocation.project()?).await?;
    let session = begun(invocation, &client, session, &args).await?;
    let request = StreamLogsRequest {
        session: session.id,
        run: args.run.unwrap_or(0),
        follow: args.follow,
        tail: args.tail,
        since_time: args.since.map(|since| from(invocation, since)),
        ..Default::default()
    };
    let mut logs = Logs::new(&client, request, &invocation.clock);
    let mut raw = Raw::default();
    while let Some(chunk) = logs.next().await? {
        show(invocation, &mut raw, &chunk)?;
    }
    Ok(0)
}

/// The session once it has a run to show: waits for it with `-f`.
async fn begun(
    invocation: &Invocation,
    client: &Client,
    mut session: Session,
    args: &LogsArgs,
) -> Result<Session, Failure> {
    let mut watch = Watch::session(client, &session.id, &invocation.clock);
    let progress = args.follow.then(|| Progress::new(&invocation.out));
    loop {
        if has_log(&session, args.run.unwrap_or(1)) {
            return Ok(session);
        }
        let detail = detail(&session, &invocation.out.look());
        let words = format!("session '{}' is {}: {detail}", title(&session), state(&session));
        let Some(progress) = &progress else {
            return Err(Failure::new(Exit::Conflict, "there is no such run yet").why(words));
        };
        match session.state() {
            SessionState::Error => return Err(faulted(&session)),
            SessionState::Cleaning | SessionState::Cleaned => {
                return Err(Failure::new(Exit::Conflict, "it never ran").why(words));
            }
            _ => progress.say(&words),
        }
        if let Seen::Session(seen) = watch.next().await?
            && seen.id == session.id
        {
            session = *seen;
        }
    }
}

/// Whether the run has started, or a later one was ordered.
fn has_log(session: &Session, ordinal: u32) -> bool {
    let started = |run: &drover_proto::v1::Run| run.ordinal >= ordinal && run.start_time.is_some();
    session.runs > ordinal || session.current_run.iter().chain(&session.last_run).any(started)
}

fn from(invocation: &Invocation, since: Since) -> prost_types::Timestamp {
    match since {
        Since::At(at) => at,
        Since::Ago(ago) => {
            let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
            stamp(Timestamp::from_millis(invocation.clock.wall_millis().saturating_sub(ago)))
        }
    }
}

fn show(invocation: &Invocation, raw: &mut Raw, chunk: &LogChunk) -> Result<(), Failure> {
    if matches!(invocation.out.format, Format::Json | Format::Yaml) {
        invocation.out.item(chunk, |_| String::new())?;
        return Ok(());
    }
    if chunk.dropped_bytes > 0 {
        let words = format!("\n[{} of the log were dropped here]\n", times::bytes(chunk.dropped_bytes));
        raw.stderr(words.as_bytes())?;
    }
    match chunk.stream() {
        LogStream::Drover => raw.stderr(&chunk.data)?,
        LogStream::Unspecified | LogStream::Stdout | LogStream::Stderr => raw.stdout(&chunk.data)?,
    }
    Ok(())
}

impl View for LogChunk {
    const KIND: &'static str = "drover.v1.LogChunk";

    fn show(&self, _: &crate::output::Look) -> String {
        String::new()
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use drover_proto::v1::Run;

    use super::*;

    #[test]
    fn a_run_has_a_log_from_its_start_on() {
        let run = |ordinal, started: bool| {
            Some(Run { ordinal, start_time: started.then(Default::default), ..Run::default() })
        };
        let of = |runs, current_run, last_run| Session { runs, current_run, last_run, ..Session::default() };
        assert!(!has_log(&of(0, None, None), 1));
        assert!(!has_log(&of(1, run(1, false), None), 1));
        assert!(has_log(&of(1, run(1, true), None), 1));
        assert!(has_log(&of(1, None, run(1, true)), 1));
        assert!(has_log(&of(2, run(2, false), run(1, false)), 1));
        assert!(!has_log(&of(1, None, run(1, true)), 2));
    }
}
