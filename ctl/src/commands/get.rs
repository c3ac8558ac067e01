//! `droverctl get`: one session, with all that is known.

use drover_proto::v1::{GetSessionRequest, Session};

use super::{Invocation, present};
use crate::cli::GetArgs;
use crate::client::{Api, Client};
use crate::error::Failure;

pub async fn get(invocation: &Invocation, args: GetArgs) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    let session = session(&client, args.session, invocation.project()?).await?;
    invocation.out.data(&session)?;
    Ok(0)
}

/// The session that a person named.
pub async fn session(client: &Client, session: String, project: String) -> Result<Session, Failure> {
    let request = GetSessionRequest { session, project, read_mask: None };
    let call = |mut api: Api, request| async move { api.sessions.get_session(request).await };
    present(client.call(request, call).await?.session, "session")
}
