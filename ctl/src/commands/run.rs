//! `droverctl run`: creates a session; then stands by it, or leaves it to itself.

mod request;

use std::time::Duration;

use drover_proto::v1::{CreateSessionRequest, OnConflict, Session};
#[cfg(feature = "dev")]
pub use request::made;

use super::{Invocation, present};
use crate::attached::{End, stand_by};
use crate::cli::RunArgs;
use crate::client::{Api, Client, requests};
use crate::error::{Exit, Failure};
use crate::follow::{Goal, Patience, until};
use crate::output::sessions::{detail, state, title};
use crate::prompt;

/// How long a detached run is waited for while it is in the queue: its place there is durable.
const IN_QUEUE: Duration = Duration::from_secs(3);

pub async fn run(invocation: &Invocation, args: RunArgs) -> Result<u8, Failure> {
    let request = request::of(&args, invocation.project()?)?;
    let client = invocation.client().await?;
    if args.dry_run {
        return rehearse(invocation, &client, request).await;
    }
    let session = create(invocation, &client, request, args.on_conflict.is_none()).await?;
    if args.detach || args.wait.no_wait {
        return leave(invocation, &client, session, &args).await;
    }
    invocation.out.note(format!("droverctl: session {}", title(&session)));
    let attached = stand_by(invocation, &client, session);
    let end = match args.wait.wait_timeout {
        None => attached.await?,
        Some(limit) => tokio::time::timeout(limit, attached).await.map_err(|_| still_running(limit))??,
    };
    Ok(match end {
        End::Over(code) => code,
        End::Detached => Exit::Interrupted.code(),
    })
}

/// Creates the session. If its name is taken and somebody is there, they are asked for what to do.
pub async fn create(
    invocation: &Invocation,
    client: &Client,
    mut request: CreateSessionRequest,
    may_ask: bool,
) -> Result<Session, Failure> {
    let call = |mut api: Api, request| async move { api.sessions.create_session(request).await };
    match client.call(request.clone(), call).await {
        Err(failure) if failure.is_because("SESSION_NAME_TAKEN") && may_ask && invocation.out.can_ask() => {
            invocation.out.note(failure.to_string());
            if !prompt::confirm("Take a free name like it?").await? {
                return Err(failure);
            }
            request.request_id = requests::id(&Default::default());
            request.on_conflict = OnConflict::Rename.into();
            present(client.call(request, call).await?.session, "session")
        }
        answer => present(answer?.session, "session"),
    }
}

async fn rehearse(
    invocation: &Invocation,
    client: &Client,
    mut request: CreateSessionRequest,
) -> Result<u8, Failure> {
    request.validate_only = true;
    let session = create(invocation, client, request, false).await?;
    invocation.out.note("nothing speaks against it; without --dry-run it is created");
    invocation.out.result(&session)?;
    Ok(0)
}

/// Prints the name, and leaves the session to itself.
async fn leave(
    invocation: &Invocation,
    client: &Client,
    session: Session,
    args: &RunArgs,
) -> Result<u8, Failure> {
    let out = &invocation.out;
    let mut session = session;
    if !args.wait.no_wait {
        let patience = Patience {
            whole: args.wait.wait_timeout,
            in_queue: (!args.wait.wait && args.wait.wait_timeout.is_none()).then_some(IN_QUEUE),
        };
        session = until(invocation, client, session, Goal::Started, patience).await?;
    }
    let name = title(&session);
    let detail = detail(&session, &out.look());
    out.note(format!("{name} is {}: {detail}", state(&session)));
    out.note(format!("`droverctl logs {name} -f` shows what it writes"));
    out.named(&session)?;
    Ok(0)
}

fn still_running(limit: Duration) -> Failure {
    let limit = crate::output::times::short(limit);
    Failure::new(Exit::TimedOut, format!("waited for {limit}, and the run is not over"))
        .next("it goes on: droverctl ps shows it, droverctl logs -f follows it")
}
