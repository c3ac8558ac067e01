//! `droverctl ps`: the sessions, of the project if one is named, else of all.

use drover_proto::v1::{ListSessionsRequest, ListSessionsResponse};

use super::Invocation;
use crate::cli::PsArgs;
use crate::cli::values::{Format, order_by};
use crate::client::Api;
use crate::context::project;
use crate::error::Failure;

/// The most that one answer holds.
const PAGE: i32 = 1000;

pub async fn ps(invocation: &Invocation, args: PsArgs) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    let mut request = ListSessionsRequest {
        project: project(&invocation.global)?.unwrap_or_default(),
        all: args.all,
        filter: args.filter.unwrap_or_default(),
        order_by: order_by(args.sort.as_deref()),
        page_size: PAGE,
        ..Default::default()
    };
    let call = |mut api: Api, request| async move { api.sessions.list_sessions(request).await };
    let mut all = ListSessionsResponse::default();
    loop {
        let page = client.call(request.clone(), call).await?;
        all.sessions.extend(page.sessions);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let for_people = matches!(invocation.out.format, Format::Table | Format::Wide);
    if all.sessions.is_empty() && for_people {
        let hint = if request.filter.is_empty() {
            "there are no sessions; `droverctl run` makes one"
        } else {
            "no session is like that"
        };
        invocation.out.note(hint);
        return Ok(0);
    }
    invocation.out.data(&all)?;
    Ok(0)
}
