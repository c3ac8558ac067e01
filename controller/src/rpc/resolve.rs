//! Which session or node somebody means: a name, `project/name`, or the beginning of an id that only one has.

use std::sync::Arc;

use drover_domain::fleet::Fleet;
use drover_domain::id::{NodeId, SessionId};
use drover_domain::name::Name;
use drover_domain::node::Node;
use drover_domain::session::Session;
use tonic::Code;

use crate::error::Error;

/// A project that was named, or the default one.
pub fn project(text: &str) -> Result<Name, Error> {
    if text.is_empty() {
        return Ok(Name::default_project());
    }
    Name::new(text).map_err(|problem| Error::invalid("project", problem))
}

pub fn session(fleet: &Fleet, reference: &str, in_project: &str) -> Result<Arc<Session>, Error> {
    if reference.is_empty() {
        return Err(Error::invalid(
            "session",
            "is missing: give a name, project/name, or the beginning of an id",
        ));
    }
    if reference.starts_with(SessionId::PREFIX) {
        return by_prefix(fleet, reference);
    }
    let (project_text, name) = reference.split_once('/').unwrap_or((in_project, reference));
    let project = project(project_text)?;
    let name = Name::new(name).map_err(|problem| Error::invalid("session", problem))?;
    if let Some(found) = fleet.session_named(&project, &name) {
        return Ok(found.clone());
    }
    // One that was cleaned not long ago can still be looked at by its name.
    let cleaned =
        fleet.sessions().filter(|session| session.project == project && session.name == name).last();
    cleaned.cloned().ok_or_else(|| unknown(reference, &project))
}

fn by_prefix(fleet: &Fleet, prefix: &str) -> Result<Arc<Session>, Error> {
    match fleet.sessions_with_prefix(prefix, 6).as_slice() {
        [] => Err(unknown(prefix, &Name::default_project())),
        [one] => Ok((*one).clone()),
        several => {
            let names: Vec<_> = several
                .iter()
                .take(5)
                .map(|session| format!("{} ({})", session.id, session.title()))
                .collect();
            let text = format!("'{prefix}' is the beginning of more than one id: {}", names.join(", "));
            Err(Error::new(Code::InvalidArgument, "AMBIGUOUS", text, "give more of the id, or the name"))
        }
    }
}

fn unknown(reference: &str, project: &Name) -> Error {
    let place = if project.is_default_project() { String::new() } else { format!(" in project '{project}'") };
    let hint = "droverctl ps --all lists the sessions; of another project: project/name";
    Error::not_found("SESSION_NOT_FOUND", format!("there is no session '{reference}'{place}"), hint)
}

pub fn node(fleet: &Fleet, reference: &str) -> Result<Arc<Node>, Error> {
    let unknown = || {
        let hint = "droverctl node ls lists the nodes";
        Error::not_found("NODE_NOT_FOUND", format!("there is no node '{reference}'"), hint)
    };
    if reference.is_empty() {
        return Err(Error::invalid("node", "is missing: give a name or the beginning of an id"));
    }
    if reference.starts_with(NodeId::PREFIX) {
        let mut found = fleet.nodes().filter(|node| node.id.to_string().starts_with(reference));
        let first = found.next().ok_or_else(unknown)?;
        return match found.next() {
            None => Ok(first.clone()),
            Some(second) => {
                let text = format!(
                    "'{reference}' is the beginning of more than one id: {}, {}",
                    first.name, second.name
                );
                Err(Error::new(Code::InvalidArgument, "AMBIGUOUS", text, "give more of the id, or the name"))
            }
        };
    }
    let name = Name::new(reference).map_err(|problem| Error::invalid("node", problem))?;
    fleet.node_named(&name).cloned().ok_or_else(unknown)
}
