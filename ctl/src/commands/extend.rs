//! `droverctl extend`: gives a run more time.

use drover_proto::v1::ExtendSessionRequest;

use super::{Invocation, present};
use crate::cli::ExtendArgs;
use crate::client::{Api, requests};
use crate::error::Failure;
use crate::output::runs::deadline;
use crate::output::sanitise::line;
use crate::output::sessions::title;

pub async fn extend(invocation: &Invocation, args: ExtendArgs) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    let request = ExtendSessionRequest {
        request_id: requests::id(&args.change),
        session: args.session,
        project: invocation.project()?,
        duration: Some(requests::length(args.by)),
        validate_only: args.dry_run,
    };
    let call = |mut api: Api, request| async move { api.sessions.extend_session(request).await };
    let session = present(client.call(request, call).await?.session, "session")?;
    let is = if args.dry_run { "would be" } else { "is" };
    let deadline = deadline(&session, &invocation.out.look());
    let text = format!("{}: the deadline {is} {deadline}", title(&session));
    invocation.out.note(line(&text));
    invocation.out.result(&session)?;
    Ok(0)
}
