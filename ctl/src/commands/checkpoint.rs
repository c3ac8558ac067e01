//! `droverctl checkpoint`: saves a session's workspace while it is in use.

use drover_proto::v1::CheckpointRequest;

use super::{Invocation, present};
use crate::cli::CheckpointArgs;
use crate::client::{Api, NODE_WORK, requests};
use crate::error::Failure;
use crate::output::sanitise::line;
use crate::output::times::age;

pub async fn checkpoint(invocation: &Invocation, args: CheckpointArgs) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    let request = CheckpointRequest {
        request_id: requests::id(&args.change),
        session: args.session.clone(),
        project: invocation.project()?,
    };
    let call = |mut api: Api, request| async move { api.sessions.checkpoint(request).await };
    let answer = client.call_within(NODE_WORK, request, call).await?;
    let saved = present(answer.checkpoint.clone(), "checkpoint")?;
    let place = format!("{}, commit {}", saved.reference, saved.commit);
    let text = if answer.unchanged {
        let since = age(invocation.out.look().now, saved.create_time.as_ref());
        format!("{}: nothing has changed since it was saved {since} ago as {place}", args.session)
    } else {
        format!("{} is saved as {place}", args.session)
    };
    invocation.out.note(line(&text));
    invocation.out.result(&answer)?;
    Ok(0)
}
