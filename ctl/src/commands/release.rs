//! `droverctl release`: ends a hold.

use drover_proto::v1::ReleaseSessionRequest;

use super::{Invocation, present};
use crate::cli::ReleaseArgs;
use crate::client::{Api, requests};
use crate::error::Failure;
use crate::output::sessions::title;

pub async fn release(invocation: &Invocation, args: ReleaseArgs) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    let request = ReleaseSessionRequest {
        request_id: requests::id(&args.change),
        session: args.session,
        project: invocation.project()?,
    };
    let call = |mut api: Api, request| async move { api.sessions.release_session(request).await };
    let session = present(client.call(request, call).await?.session, "session")?;
    invocation.out.note(format!("{} is held no more", title(&session)));
    invocation.out.result(&session)?;
    Ok(0)
}
