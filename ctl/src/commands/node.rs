//! `droverctl node`: see nodes, let them join, take them out of service.

mod drain;
mod token;

use drover_proto::v1::{
    CordonNodeRequest, GetNodeRequest, ListNodesRequest, ListNodesResponse, Node, RemoveNodeRequest,
    RevokeNodeRequest, UncordonNodeRequest,
};

use super::{Invocation, present};
use crate::cli::values::{Format, order_by};
use crate::cli::{NodeChange, NodeCommand, NodeLs, NodeRemoval};
use crate::client::{Api, Client, requests};
use crate::error::{Exit, Failure};
use crate::output::times::count;
use crate::prompt;

pub async fn node(invocation: &Invocation, command: NodeCommand) -> Result<u8, Failure> {
    match command {
        NodeCommand::Ls(args) => list(invocation, args).await?,
        NodeCommand::Get(args) => {
            let client = invocation.client().await?;
            invocation.out.data(&get(&client, args.node).await?)?;
        }
        NodeCommand::Cordon(args) => cordon(invocation, args).await?,
        NodeCommand::Uncordon(args) => uncordon(invocation, args).await?,
        NodeCommand::Rm(args) => remove(invocation, args).await?,
        NodeCommand::Revoke(args) => revoke(invocation, args).await?,
        NodeCommand::Token(command) => token::token(invocation, command).await?,
        NodeCommand::Drain(args) => drain::drain(invocation, args).await?,
        NodeCommand::Preflight(_) => return Err(not_built("preflight")),
    }
    Ok(0)
}

fn not_built(name: &str) -> Failure {
    Failure::new(Exit::Failed, format!("`droverctl node {name}` is not built yet"))
        .next("droverctl node --help lists what is")
}

async fn list(invocation: &Invocation, args: NodeLs) -> Result<(), Failure> {
    let client = invocation.client().await?;
    let mut request = ListNodesRequest {
        filter: args.filter.unwrap_or_default(),
        order_by: order_by(args.sort.as_deref()),
        page_size: 1000,
        page_token: String::new(),
    };
    let call = |mut api: Api, request| async move { api.nodes.list_nodes(request).await };
    let mut all = ListNodesResponse::default();
    loop {
        let page = client.call(request.clone(), call).await?;
        all.nodes.extend(page.nodes);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    if all.nodes.is_empty() && matches!(invocation.out.format, Format::Table | Format::Wide) {
        invocation.out.note("no node has joined; `droverctl node token create` makes a token for one");
        return Ok(());
    }
    Ok(invocation.out.data(&all)?)
}

async fn get(client: &Client, node: String) -> Result<Node, Failure> {
    let call = |mut api: Api, request| async move { api.nodes.get_node(request).await };
    present(client.call(GetNodeRequest { node }, call).await?.node, "node")
}

async fn cordon(invocation: &Invocation, args: NodeChange) -> Result<(), Failure> {
    let client = invocation.client().await?;
    let request = CordonNodeRequest {
        request_id: requests::id(&args.change),
        node: args.node,
        validate_only: args.dry_run,
    };
    let call = |mut api: Api, request| async move { api.nodes.cordon_node(request).await };
    let node = present(client.call(request, call).await?.node, "node")?;
    tell(invocation, args.dry_run, &node.name, "takes no new sessions", "would take no new sessions");
    Ok(invocation.out.result(&node)?)
}

async fn uncordon(invocation: &Invocation, args: NodeChange) -> Result<(), Failure> {
    let client = invocation.client().await?;
    let request = UncordonNodeRequest {
        request_id: requests::id(&args.change),
        node: args.node,
        validate_only: args.dry_run,
    };
    let call = |mut api: Api, request| async move { api.nodes.uncordon_node(request).await };
    let node = present(client.call(request, call).await?.node, "node")?;
    tell(invocation, args.dry_run, &node.name, "takes new sessions", "would take new sessions");
    Ok(invocation.out.result(&node)?)
}

async fn remove(invocation: &Invocation, args: NodeChange) -> Result<(), Failure> {
    let client = invocation.client().await?;
    let request = RemoveNodeRequest {
        request_id: requests::id(&args.change),
        node: args.node.clone(),
        validate_only: args.dry_run,
    };
    let call = |mut api: Api, request| async move { api.nodes.remove_node(request).await };
    client.call(request, call).await?;
    tell(invocation, args.dry_run, &args.node, "is forgotten", "would be forgotten");
    Ok(())
}

/// Revoking ends what the node may say, but not what runs on it: that is asked about first.
async fn revoke(invocation: &Invocation, args: NodeRemoval) -> Result<(), Failure> {
    let client = invocation.client().await?;
    let NodeRemoval { change, yes } = args;
    let node = get(&client, change.node).await?;
    if node.sessions > 0 && !yes && !change.dry_run {
        let sessions = count(node.sessions.into(), "session", "sessions");
        let what = format!("node '{}' has {sessions}; revoked, it cannot report on them any more", node.name);
        if !invocation.out.can_ask() {
            return Err(Failure::new(Exit::Conflict, what).next("--yes revokes it all the same"));
        }
        invocation.out.note(what);
        if !prompt::confirm("Revoke it all the same?").await? {
            return Ok(());
        }
    }
    let request = RevokeNodeRequest {
        request_id: requests::id(&change.change),
        node: node.id,
        validate_only: change.dry_run,
    };
    let call = |mut api: Api, request| async move { api.nodes.revoke_node(request).await };
    let node = present(client.call(request, call).await?.node, "node")?;
    tell(invocation, change.dry_run, &node.name, "may not speak any more", "would be revoked");
    Ok(invocation.out.result(&node)?)
}

fn tell(invocation: &Invocation, dry_run: bool, node: &str, done: &str, would: &str) {
    invocation.out.note(format!("node {node} {}", if dry_run { would } else { done }));
}
