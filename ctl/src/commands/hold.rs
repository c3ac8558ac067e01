//! `droverctl hold`: keeps a session from being started.

use drover_proto::v1::HoldSessionRequest;

use super::{Invocation, present};
use crate::cli::HoldArgs;
use crate::client::{Api, requests};
use crate::error::Failure;
use crate::output::sessions::title;
use crate::output::times::short;

pub async fn hold(invocation: &Invocation, args: HoldArgs) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    let request = HoldSessionRequest {
        request_id: requests::id(&args.change),
        session: args.session,
        project: invocation.project()?,
        duration: args.duration.map(requests::length),
        reason: args.reason,
    };
    let call = |mut api: Api, request| async move { api.sessions.hold_session(request).await };
    let session = present(client.call(request, call).await?.session, "session")?;
    let until =
        args.duration.map_or("until it is released".to_owned(), |length| format!("for {}", short(length)));
    invocation.out.note(format!("{} is not started {until}", title(&session)));
    invocation.out.result(&session)?;
    Ok(0)
}
