//! `droverctl stop`: stops a session's run; its workspace stays.

use drover_proto::v1::StopSessionRequest;

use super::{Invocation, present};
use crate::cli::StopArgs;
use crate::client::{Api, requests};
use crate::error::Failure;
use crate::follow::{Goal, until};
use crate::output::runs::outcome;
use crate::output::sessions::title;

pub async fn stop(invocation: &Invocation, args: StopArgs) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    let request = StopSessionRequest {
        request_id: requests::id(&args.change),
        session: args.session,
        project: invocation.project()?,
        grace: args.grace.map(requests::length),
        validate_only: args.dry_run,
    };
    let call = |mut api: Api, request| async move { api.sessions.stop_session(request).await };
    let mut session = present(client.call(request, call).await?.session, "session")?;
    if args.dry_run {
        invocation.out.note(format!("{} would be stopped", title(&session)));
    } else if args.wait.no_wait {
        invocation.out.note(format!("{} will be stopped", title(&session)));
    } else {
        session = until(invocation, &client, session, Goal::Stopped, (&args.wait).into()).await?;
        let end = match &session.last_run {
            Some(run) => outcome(run),
            None => "it had not run yet".to_owned(),
        };
        invocation.out.note(format!("{} is stopped: {end}", title(&session)));
    }
    invocation.out.result(&session)?;
    Ok(0)
}
