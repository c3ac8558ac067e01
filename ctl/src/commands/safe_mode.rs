//! `droverctl safe-mode`: refuse new work, take it again, see where it is refused.

use drover_proto::v1::{GetSafeModeRequest, GetSafeModeResponse, SetSafeModeRequest, SetSafeModeResponse};

use super::Invocation;
use crate::cli::{SafeModeCommand, SafeModeOff, SafeModeOn};
use crate::client::{Api, Client, requests};
use crate::error::Failure;
use crate::output::sanitise::line;

pub async fn safe_mode(invocation: &Invocation, command: SafeModeCommand) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    match command {
        SafeModeCommand::On(SafeModeOn { node, reason, change }) => {
            let request_id = requests::id(&change);
            let node = node.unwrap_or_default();
            let request = SetSafeModeRequest { request_id, node: node.clone(), on: true, reason };
            set(invocation, &client, request).await?;
            let place = if node.is_empty() { "everywhere".to_owned() } else { format!("on node {node}") };
            invocation.out.note(line(&format!("new work is refused {place}; what runs goes on")));
        }
        SafeModeCommand::Off(SafeModeOff { node, change }) => {
            let request_id = requests::id(&change);
            let request = SetSafeModeRequest {
                request_id,
                node: node.unwrap_or_default(),
                on: false,
                reason: String::new(),
            };
            let left = set(invocation, &client, request).await?;
            let text = if left.modes.is_empty() {
                "new work is taken again"
            } else {
                "new work is still refused elsewhere: droverctl safe-mode status"
            };
            invocation.out.note(text);
        }
        SafeModeCommand::Status => {
            let call = |mut api: Api, request| async move { api.maintenance.get_safe_mode(request).await };
            let found: GetSafeModeResponse = client.call(GetSafeModeRequest {}, call).await?;
            invocation.out.data(&found)?;
        }
    }
    Ok(0)
}

async fn set(
    invocation: &Invocation,
    client: &Client,
    request: SetSafeModeRequest,
) -> Result<SetSafeModeResponse, Failure> {
    let call = |mut api: Api, request| async move { api.maintenance.set_safe_mode(request).await };
    let modes = client.call(request, call).await?;
    invocation.out.result(&modes)?;
    Ok(modes)
}
