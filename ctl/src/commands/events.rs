//! `droverctl events`: what happened, and with `-f` what happens.

use drover_proto::v1::watch_events_response::Item;
use drover_proto::v1::{ListEventsRequest, ListEventsResponse, WatchEventsRequest};

use super::Invocation;
use crate::cli::EventsArgs;
use crate::cli::values::Format;
use crate::client::{Api, Client};
use crate::context::project;
use crate::error::Failure;
use crate::output::View;

pub async fn events(invocation: &Invocation, args: EventsArgs) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    let project = project(&invocation.global)?.unwrap_or_default();
    let (session, node) = (args.session.unwrap_or_default(), args.node.unwrap_or_default());
    let watch = WatchEventsRequest {
        session: session.clone(),
        project: project.clone(),
        node: node.clone(),
        resume_position: String::new(),
    };
    let list = ListEventsRequest { session, project, node, newest_first: true, ..Default::default() };
    if !args.follow {
        let newest = newest(&client, list, args.tail).await?;
        invocation.out.data(&newest)?;
        return Ok(0);
    }
    follow(invocation, &client, watch, list, args.tail).await
}

async fn newest(client: &Client, list: ListEventsRequest, most: u32) -> Result<ListEventsResponse, Failure> {
    let call = |mut api: Api, request| async move { api.events.list_events(request).await };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let (mut events, mut page_token) = (Vec::new(), String::new());
    while events.len() < most {
        let page_size = i32::try_from((most - events.len()).min(1000)).unwrap_or(1000);
        let page = client.call(ListEventsRequest { page_size, page_token, ..list.clone() }, call).await?;
        events.extend(page.events);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    events.truncate(most);
    events.reverse();
    Ok(ListEventsResponse { events, next_page_token: String::new() })
}

/// The watch begins before the list is asked for, so that nothing falls between them; what is in both is told once.
async fn follow(
    invocation: &Invocation,
    client: &Client,
    mut watch: WatchEventsRequest,
    list: ListEventsRequest,
    tail: u32,
) -> Result<u8, Failure> {
    let open = |mut api: Api, request| async move { api.events.watch_events(request).await };
    let mut stream = client.open(watch.clone(), open).await?;
    let mut told = 0;
    for event in newest(client, list, tail).await?.events {
        told = event.revision;
        invocation.out.item(&event, |look| event.show(look))?;
    }
    loop {
        match stream.message().await {
            Ok(Some(answer)) => {
                watch.resume_position = answer.resume_position;
                if let Some(Item::Event(event)) = answer.item
                    && event.revision > told
                {
                    invocation.out.item(&event, |look| event.show(look))?;
                }
            }
            // The stream broke: go on from where it was, if the controller comes back.
            Ok(None) => stream = client.open(watch.clone(), open).await?,
            Err(status) if crate::client::watch::is_passing(status.code()) => {
                if invocation.out.format == Format::Table {
                    invocation.out.note("the connection broke; going on from there");
                }
                stream = client.open(watch.clone(), open).await?;
            }
            Err(status) => return Err(client.failure(&status)),
        }
    }
}
