//! `droverctl node token`: tokens that let one machine join.

use drover_proto::v1::{
    CreateJoinTokenRequest, ListJoinTokensRequest, ListJoinTokensResponse, RevokeJoinTokenRequest,
};

use super::super::Invocation;
use crate::cli::values::Format;
use crate::cli::{TokenCommand, TokenCreate, TokenName};
use crate::client::{Api, requests};
use crate::context::Target;
use crate::error::Failure;
use crate::output::times::stamp;

pub async fn token(invocation: &Invocation, command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create(args) => create(invocation, args).await,
        TokenCommand::Ls => list(invocation).await,
        TokenCommand::Revoke(args) => revoke(invocation, args).await,
    }
}

/// The secret goes to standard output alone, so that it can be piped to where it is needed.
async fn create(invocation: &Invocation, args: TokenCreate) -> Result<(), Failure> {
    let client = invocation.client().await?;
    let request = CreateJoinTokenRequest {
        request_id: requests::id(&args.change),
        lifetime: args.lifetime.map(requests::length),
    };
    let call = |mut api: Api, request| async move { api.nodes.create_join_token(request).await };
    let created = client.call(request, call).await?;
    invocation.out.data(&created)?;
    if matches!(invocation.out.format, Format::Table | Format::Wide) {
        let target = Target::find(&invocation.global)?;
        let until =
            created.token.and_then(|token| token.expire_time).map(|at| stamp(&at)).unwrap_or_default();
        let address = target.address.trim_start_matches("https://");
        invocation
            .out
            .note(format!("It is good once, until {until}, and is not shown again. On the other machine:"));
        invocation
            .out
            .note(format!("  drover-agent --controller {address} --join-token-file FILE-WITH-THE-TOKEN"));
    }
    Ok(())
}

async fn list(invocation: &Invocation) -> Result<(), Failure> {
    let client = invocation.client().await?;
    let call = |mut api: Api, request| async move { api.nodes.list_join_tokens(request).await };
    let mut all = ListJoinTokensResponse::default();
    let mut page_token = String::new();
    loop {
        let page = client.call(ListJoinTokensRequest { page_size: 1000, page_token }, call).await?;
        all.tokens.extend(page.tokens);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    Ok(invocation.out.data(&all)?)
}

async fn revoke(invocation: &Invocation, args: TokenName) -> Result<(), Failure> {
    let client = invocation.client().await?;
    let request = RevokeJoinTokenRequest { request_id: requests::id(&args.change), token: args.id.clone() };
    let call = |mut api: Api, request| async move { api.nodes.revoke_join_token(request).await };
    client.call(request, call).await?;
    invocation.out.note(format!("token {} is good no more", args.id));
    Ok(())
}
