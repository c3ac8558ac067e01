//! `droverctl why`: the last decisions about a session with what they rest on, and what comes next.

use drover_proto::v1::ExplainSessionRequest;

use super::Invocation;
use crate::cli::WhyArgs;
use crate::client::Api;
use crate::error::Failure;

pub async fn why(invocation: &Invocation, args: WhyArgs) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    let request = ExplainSessionRequest { session: args.session, project: invocation.project()? };
    let call = |mut api: Api, request| async move { api.sessions.explain_session(request).await };
    invocation.out.data(&client.call(request, call).await?)?;
    Ok(0)
}
