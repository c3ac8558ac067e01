//! `droverctl whoami`: who the controller takes the caller for.

use drover_proto::v1::WhoAmIRequest;

use super::Invocation;
use crate::client::Api;
use crate::error::Failure;

pub async fn whoami(invocation: &Invocation) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    let call = |mut api: Api, request| async move { api.access.who_am_i(request).await };
    let answer = client.call(WhoAmIRequest {}, call).await?;
    invocation.out.data(&answer)?;
    Ok(0)
}
