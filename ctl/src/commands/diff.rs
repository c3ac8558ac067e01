//! `droverctl diff`: what changed in a session's workspace since its base, as git says it.

use drover_proto::v1::GetDiffRequest;

use super::Invocation;
use crate::cli::DiffArgs;
use crate::client::{Api, Client};
use crate::error::Failure;
use crate::output::Raw;

pub async fn diff(invocation: &Invocation, args: DiffArgs) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    let request = GetDiffRequest { session: args.session, project: invocation.project()?, stat: args.stat };
    print(&client, request).await?;
    Ok(0)
}

/// Prints a difference; says whether there is one.
pub async fn print(client: &Client, request: GetDiffRequest) -> Result<bool, Failure> {
    let open = |mut api: Api, request| async move { api.sessions.get_diff(request).await };
    let mut pieces = client.open(request, open).await?;
    let (mut raw, mut any) = (Raw::default(), false);
    while let Some(piece) = pieces.message().await.map_err(|status| client.failure(&status))? {
        any |= !piece.data.is_empty();
        raw.stdout(&piece.data)?;
    }
    Ok(any)
}
