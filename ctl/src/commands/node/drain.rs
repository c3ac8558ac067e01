//! `droverctl node drain`: empties a node. It asks before it stops anything, then waits until no run is left, and says what
//! became of each.

use std::time::Duration;

use drover_proto::v1::{
    DrainNodeRequest, GetSessionRequest, ListSessionsRequest, ListSessionsResponse, Node, Session,
};
use tokio::time::{sleep, timeout};

use super::get;
use crate::cli::NodeDrainArgs;
use crate::client::{Api, Client, requests};
use crate::commands::{Invocation, present};
use crate::error::{Exit, Failure};
use crate::output::runs::outcome;
use crate::output::sanitise::line;
use crate::output::sessions::title;
use crate::output::times::{count, short};
use crate::progress::Progress;
use crate::prompt;

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(500);

pub(super) async fn drain(invocation: &Invocation, args: NodeDrainArgs) -> Result<(), Failure> {
    let out = &invocation.out;
    let client = invocation.client().await?;
    let node = get(&client, args.node.clone()).await?;
    let running = running(&client, &node).await?;
    if args.dry_run {
        let node = ask(&client, &args, &node, true).await?;
        out.note(line(&format!("node {} would be drained: {}", node.name, plan(&args, &running))));
        return Ok(out.result(&node)?);
    }
    if !is_agreed(invocation, &args, &node, &running).await? {
        out.note(line(&format!("node {} is left as it is", node.name)));
        return Ok(());
    }
    let mut node = ask(&client, &args, &node, false).await?;
    if args.wait.no_wait {
        out.note(line(&format!("node {} is being drained: {}", node.name, plan(&args, &running))));
        return Ok(out.result(&node)?);
    }
    let left = emptied(invocation, &client, &node);
    node = match args.wait.wait_timeout {
        None => left.await?,
        Some(limit) => match timeout(limit, left).await {
            Ok(node) => node?,
            Err(_) => return Err(too_long(&get(&client, node.id).await?, limit)),
        },
    };
    for session in running {
        out.note(line(&became(&client, session).await?));
    }
    let stay = count(node.sessions.into(), "session keeps its files", "sessions keep their files");
    out.note(line(&format!("node {} is drained: no run is left on it; {stay} there", node.name)));
    out.note(line(&format!("`droverctl node uncordon {}` lets runs begin again", node.name)));
    Ok(out.result(&node)?)
}

async fn ask(client: &Client, args: &NodeDrainArgs, node: &Node, dry: bool) -> Result<Node, Failure> {
    let request = DrainNodeRequest {
        request_id: requests::id(&args.change),
        node: node.id.clone(),
        deadline: args.deadline.map(requests::length),
        validate_only: dry,
        ..Default::default()
    };
    let call = |mut api: Api, request| async move { api.nodes.drain_node(request).await };
    present(client.call(request, call).await?.node, "node")
}

/// The sessions with a run there.
async fn running(client: &Client, node: &Node) -> Result<Vec<Session>, Failure> {
    let filter = format!("node={}", node.name);
    let mut request = ListSessionsRequest { filter, page_size: 1000, ..Default::default() };
    let call = |mut api: Api, request| async move { api.sessions.list_sessions(request).await };
    let mut found = Vec::new();
    loop {
        let ListSessionsResponse { sessions, next_page_token, .. } =
            client.call(request.clone(), call).await?;
        found.extend(sessions.into_iter().filter(|session| session.current_run.is_some()));
        if next_page_token.is_empty() {
            return Ok(found);
        }
        request.page_token = next_page_token;
    }
}

/// What becomes of its runs, in words.
fn plan(args: &NodeDrainArgs, running: &[Session]) -> String {
    let runs = count(running.len() as u64, "run is", "runs are");
    match args.deadline {
        _ if running.is_empty() => "no run is on it".to_owned(),
        None => format!("{runs} on it and may go on until the end"),
        Some(Duration::ZERO) => format!("{runs} on it and stopped at once, the work saved first"),
        Some(deadline) => {
            format!("{runs} on it; what goes on for {} is stopped, the work saved first", short(deadline))
        }
    }
}

/// Asks if runs would be stopped.
async fn is_agreed(
    invocation: &Invocation,
    args: &NodeDrainArgs,
    node: &Node,
    running: &[Session],
) -> Result<bool, Failure> {
    if args.yes || args.deadline.is_none() || running.is_empty() {
        return Ok(true);
    }
    let what = format!("node {}: {}", node.name, plan(args, running));
    let names: Vec<_> = running.iter().map(title).collect();
    if !invocation.out.can_ask() {
        return Err(Failure::new(Exit::Conflict, what)
            .why(format!("there is no terminal to ask on; they are {}", names.join(", ")))
            .next("--yes stops them")
            .next("without --deadline they end by themselves"));
    }
    invocation.out.note(line(&format!("{what}: {}", names.join(", "))));
    prompt::confirm("Drain it?").await
}

/// Waits until no run is left on the node, whatever is restarted meanwhile.
async fn emptied(invocation: &Invocation, client: &Client, node: &Node) -> Result<Node, Failure> {
    let progress = Progress::new(&invocation.out);
    loop {
        let now = get(client, node.id.clone()).await?;
        if now.drain.is_none() {
            let what = format!("node '{}' was uncordoned, which ended its drain", now.name);
            return Err(Failure::new(Exit::Conflict, what));
        }
        if now.runs == 0 {
            return Ok(now);
        }
        progress.say(&format!("{} left on node {}", count(now.runs.into(), "run is", "runs are"), now.name));
        sleep(PERIOD).await;
    }
}

async fn became(client: &Client, before: Session) -> Result<String, Failure> {
    let name = title(&before);
    let request = GetSessionRequest { session: before.id, ..Default::default() };
    let call = |mut api: Api, request| async move { api.sessions.get_session(request).await };
    let now = present(client.call(request, call).await?.session, "session")?;
    Ok(match &now.last_run {
        Some(run) => format!("{name}: {}", outcome(run)),
        None => format!("{name}: it had not run yet"),
    })
}

fn too_long(node: &Node, limit: Duration) -> Failure {
    let left = count(node.runs.into(), "run is", "runs are");
    Failure::new(
        Exit::TimedOut,
        format!("waited for {}, and {left} left on node '{}'", short(limit), node.name),
    )
    .next("the drain goes on; droverctl node get shows how far it is")
}
