//! `droverctl start`: runs a session's command again, or tries again after a fault.

use drover_proto::v1::StartSessionRequest;

use super::{Invocation, present};
use crate::cli::StartArgs;
use crate::client::{Api, requests};
use crate::error::Failure;
use crate::follow::{Goal, until};
use crate::output::sessions::{detail, state, title};

pub async fn start(invocation: &Invocation, args: StartArgs) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    let request = StartSessionRequest {
        request_id: requests::id(&args.change),
        session: args.session,
        project: invocation.project()?,
        resume: args.resume,
        validate_only: args.dry_run,
    };
    let call = |mut api: Api, request| async move { api.sessions.start_session(request).await };
    let mut session = present(client.call(request, call).await?.session, "session")?;
    if args.dry_run {
        invocation.out.note(format!("{} would be started", title(&session)));
    } else if args.wait.no_wait {
        invocation.out.note(format!("{} will run", title(&session)));
    } else {
        session = until(invocation, &client, session, Goal::Started, (&args.wait).into()).await?;
        let detail = detail(&session, &invocation.out.look());
        invocation.out.note(format!("{} is {}: {detail}", title(&session), state(&session)));
    }
    invocation.out.result(&session)?;
    Ok(0)
}
