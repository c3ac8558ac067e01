//! `droverctl trash`: what removed and reset sessions left on their nodes: list it, bring it back, delete it for good.
//! What a node says of its trash is made safe to print here.

use drover_proto::v1::{
    GetTrashRequest, GetTrashResponse, ListTrashRequest, ListTrashResponse, PurgeTrashRequest,
    PurgeTrashResponse, RestoreTrashRequest, RestoreTrashResponse, Session, TrashItem,
};

use super::{Invocation, present};
use crate::cli::values::Format;
use crate::cli::{TrashCommand, TrashLs, TrashName, TrashPurge, TrashRestore};
use crate::client::{Api, Client, NODE_WORK, requests};
use crate::context::project;
use crate::error::{Exit, Failure};
use crate::follow::{Goal, until};
use crate::output::sanitise::line;
use crate::output::saved::{is_expired, of, sized};
use crate::output::sessions::title;
use crate::output::times::count;
use crate::prompt;

pub async fn trash(invocation: &Invocation, command: TrashCommand) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    match command {
        TrashCommand::Ls(args) => ls(invocation, &client, args).await?,
        TrashCommand::Show(TrashName { item }) => {
            invocation.out.data(&get(invocation, &client, item).await?)?;
        }
        TrashCommand::Restore(args) => restore(invocation, &client, args).await?,
        TrashCommand::Purge(args) => purge(invocation, &client, args).await?,
    }
    Ok(0)
}

async fn ls(invocation: &Invocation, client: &Client, args: TrashLs) -> Result<(), Failure> {
    let is_narrowed = args.session.is_some() || args.node.is_some();
    let found = list(invocation, client, args).await?;
    let for_people = matches!(invocation.out.format, Format::Table | Format::Wide);
    if found.items.is_empty() && for_people {
        let hint = if is_narrowed { "nothing in the trash is like that" } else { "the trash is empty" };
        invocation.out.note(hint);
    } else {
        invocation.out.data(&found)?;
    }
    note_unreachable(invocation, &found.unreachable_nodes);
    Ok(())
}

async fn list(invocation: &Invocation, client: &Client, args: TrashLs) -> Result<ListTrashResponse, Failure> {
    let request = ListTrashRequest {
        session: args.session.unwrap_or_default(),
        project: project(&invocation.global)?.unwrap_or_default(),
        node: args.node.unwrap_or_default(),
    };
    let call = |mut api: Api, request| async move { api.maintenance.list_trash(request).await };
    client.call_within(NODE_WORK, request, call).await
}

async fn get(invocation: &Invocation, client: &Client, item: String) -> Result<GetTrashResponse, Failure> {
    let request = GetTrashRequest { item, project: invocation.project()? };
    let call = |mut api: Api, request| async move { api.maintenance.get_trash(request).await };
    client.call_within(NODE_WORK, request, call).await
}

async fn restore(invocation: &Invocation, client: &Client, args: TrashRestore) -> Result<(), Failure> {
    let request = RestoreTrashRequest {
        request_id: requests::id(&args.change),
        item: args.item.clone(),
        project: invocation.project()?,
        name: args.name.unwrap_or_default(),
        directory: args.to.unwrap_or_default(),
        branch: args.branch.unwrap_or_default(),
    };
    let call = |mut api: Api, request| async move { api.maintenance.restore_trash(request).await };
    let mut restored = client.call_within(NODE_WORK, request, call).await?;
    match restored.session.take() {
        None => note_directory(invocation, &args.item, &restored),
        Some(session) if args.wait.no_wait => {
            invocation.out.note(line(&format!("{} will have the work of {}", title(&session), args.item)));
            restored.session = Some(session);
        }
        Some(session) => {
            let session = until(invocation, client, session, Goal::Ready, (&args.wait).into()).await?;
            note_session(invocation, &session, &restored);
            restored.session = Some(session);
        }
    }
    invocation.out.result(&restored)?;
    Ok(())
}

fn note_directory(invocation: &Invocation, item: &str, restored: &RestoreTrashResponse) {
    let RestoreTrashResponse { node, branch, directory, session: _ } = restored;
    let text = format!("the work of {item} is back: on node {node} in {directory}, on branch {branch}");
    invocation.out.note(line(&text));
    invocation.out.note("it stays in the trash too; `droverctl trash purge` deletes it there");
}

fn note_session(invocation: &Invocation, session: &Session, restored: &RestoreTrashResponse) {
    let name = title(session);
    let text =
        format!("{name} is ready on node {}, with the work on branch {}", restored.node, restored.branch);
    invocation.out.note(line(&text));
    invocation.out.note(line(&format!(
        "`droverctl diff {name} --stat` shows it, `droverctl start {name} --resume` goes on with it"
    )));
}

async fn purge(invocation: &Invocation, client: &Client, args: TrashPurge) -> Result<(), Failure> {
    let out = &invocation.out;
    let found = doomed(invocation, client, &args).await?;
    if found.is_empty() {
        out.note("nothing in the trash has expired");
        return Ok(out.result(&PurgeTrashResponse::default())?);
    }
    if args.dry_run || !args.yes {
        found.iter().for_each(|item| out.note(told(item, "would be deleted for good")));
    }
    if args.dry_run {
        return Ok(out.result(&PurgeTrashResponse { items: found, ..Default::default() })?);
    }
    if !args.yes && !is_agreed(invocation, found.len() as u64).await? {
        out.note("the trash is left as it is");
        return Ok(());
    }
    let request = PurgeTrashRequest {
        request_id: requests::id(&args.change),
        // What has expired is decided by the nodes' clocks, not by this machine's.
        items: if args.expired { vec![] } else { found.iter().map(|item| item.id.clone()).collect() },
        expired: args.expired,
    };
    let call = |mut api: Api, request| async move { api.maintenance.purge_trash(request).await };
    let purged = client.call_within(NODE_WORK, request, call).await?;
    purged.items.iter().for_each(|item| out.note(told(item, "is deleted for good")));
    note_unreachable(invocation, &purged.unreachable_nodes);
    out.result(&purged)?;
    Ok(())
}

/// What is to be deleted: the named items, each found before any is touched, or those that have expired.
async fn doomed(
    invocation: &Invocation,
    client: &Client,
    args: &TrashPurge,
) -> Result<Vec<TrashItem>, Failure> {
    if args.expired {
        let look = invocation.out.look();
        let all = list(invocation, client, TrashLs { session: None, node: None }).await?;
        return Ok(all.items.into_iter().filter(|item| is_expired(item, &look)).collect());
    }
    let mut found: Vec<TrashItem> = Vec::new();
    for named in &args.items {
        let item = present(get(invocation, client, named.clone()).await?.item, "item")?;
        if found.iter().all(|known| known.id != item.id) {
            found.push(item);
        }
    }
    Ok(found)
}

async fn is_agreed(invocation: &Invocation, items: u64) -> Result<bool, Failure> {
    if invocation.out.can_ask() {
        return prompt::confirm("Delete for good?").await;
    }
    let what = format!("{} would be deleted for good", count(items, "item", "items"));
    Err(Failure::new(Exit::Conflict, what)
        .why("there is no terminal to ask on")
        .next("--yes deletes them")
        .next("droverctl trash show ITEM shows what it holds"))
}

fn told(item: &TrashItem, how: &str) -> String {
    line(&format!("{} ({}) on node {}, {}: {how}", of(item), item.id, item.node, sized(item))).into_owned()
}

fn note_unreachable(invocation: &Invocation, nodes: &[String]) {
    let text = match nodes {
        [] => return,
        [one] => format!("node {one} cannot be asked now: it may have more"),
        several => format!("nodes {} cannot be asked now: they may have more", several.join(", ")),
    };
    invocation.out.note(line(&text));
}
