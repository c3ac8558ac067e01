//! `droverctl watch`: sessions as they are, then a line for each change.

use drover_proto::v1::{ListSessionsResponse, WatchSessionsRequest};

use super::Invocation;
use crate::cli::WatchArgs;
use crate::cli::values::Format;
use crate::client::watch::{Seen, Watch};
use crate::context::project;
use crate::error::Failure;
use crate::output::sessions::changed;

pub async fn watch(invocation: &Invocation, args: WatchArgs) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    let request = WatchSessionsRequest {
        project: project(&invocation.global)?.unwrap_or_default(),
        session: args.session.unwrap_or_default(),
        filter: args.filter.unwrap_or_default(),
        resume_position: String::new(),
    };
    let mut watch = Watch::new(&client, request, &invocation.clock);
    let for_people = matches!(invocation.out.format, Format::Table | Format::Wide);
    // What there is at the beginning is one table for people; programs get every session as it comes.
    let mut initial = for_people.then(ListSessionsResponse::default);
    loop {
        match (watch.next().await?, &mut initial) {
            (Seen::Session(session), Some(initial)) => initial.sessions.push(*session),
            (Seen::Session(session), None) => {
                invocation.out.item(&*session, |look| changed(&session, look))?;
            }
            (Seen::CaughtUp, Some(all)) => {
                if !all.sessions.is_empty() {
                    invocation.out.data(all)?;
                }
                invocation.out.note("-- what follows are changes; Ctrl-C ends --");
                initial = None;
            }
            (Seen::Removed(id), _) if for_people => {
                invocation.out.note(format!("{id} is no more to be shown"))
            }
            (Seen::CaughtUp, None) | (Seen::Removed(_), _) => {}
        }
    }
}
