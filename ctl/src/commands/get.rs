//! `droverctl get`: one session, with all that is known; for people with its last runs.

use drover_proto::v1::{GetSessionRequest, ListRunsRequest, Session};

use super::{Invocation, present};
use crate::cli::GetArgs;
use crate::cli::values::Format;
use crate::client::{Api, Client};
use crate::error::Failure;
use crate::output::{View, runs};

/// How many of its last runs are shown.
const RUNS: i32 = 5;

pub async fn get(invocation: &Invocation, args: GetArgs) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    let session = session(&client, args.session, invocation.project()?).await?;
    match invocation.out.format {
        Format::Table | Format::Wide => show(invocation, &client, &session).await?,
        Format::Json | Format::Yaml | Format::Name => invocation.out.data(&session)?,
    }
    Ok(0)
}

/// One run that is over stands in the session itself; more are a table under it.
async fn show(invocation: &Invocation, client: &Client, session: &Session) -> Result<(), Failure> {
    let look = invocation.out.look();
    let mut text = session.show(&look);
    if session.runs > 1 {
        let request = ListRunsRequest { session: session.id.clone(), page_size: RUNS, ..Default::default() };
        let call = |mut api: Api, request| async move { api.sessions.list_runs(request).await };
        let over = client.call(request, call).await?.runs;
        let over: Vec<_> = over.into_iter().filter(|run| run.end_time.is_some()).collect();
        if !over.is_empty() {
            text.push_str(&format!("\n{}", runs::over(&over, &look)));
        }
    }
    Ok(invocation.out.text(&text)?)
}

/// The session that a person named.
pub async fn session(client: &Client, session: String, project: String) -> Result<Session, Failure> {
    let request = GetSessionRequest { session, project, read_mask: None };
    let call = |mut api: Api, request| async move { api.sessions.get_session(request).await };
    present(client.call(request, call).await?.session, "session")
}
