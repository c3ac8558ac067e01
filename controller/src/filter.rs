//! The small language of `filter`: terms joined by `and`, each `field=value` or `field!=value`.

use drover_domain::fleet::Fleet;
use drover_domain::id::SessionId;
use drover_domain::labels::Labels;
use drover_domain::name::Name;
use drover_domain::node::{Node, Standing};
use drover_domain::session::{Session, State, StateKind};

use crate::error::Error;

/// One term.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    field: Box<str>,
    value: Box<str>,
    /// `!=`.
    is_not: bool,
}

/// Which sessions somebody wants to see.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    pub project: Option<Name>,
    pub session: Option<SessionId>,
    /// Cleaned ones too.
    pub all: bool,
    terms: Vec<Term>,
}

/// Which nodes somebody wants to see.
#[derive(Clone, Debug, Default)]
pub struct NodeFilter(Vec<Term>);

impl SessionFilter {
    pub fn parse(text: &str) -> Result<Self, Error> {
        let terms = terms(text)?;
        for term in &terms {
            match &*term.field {
                "state" if !StateKind::ALL.iter().any(|state| state.word() == &*term.value) => {
                    let words = StateKind::ALL.map(StateKind::word).join(", ");
                    return Err(Error::invalid(
                        "filter",
                        format!("there is no state '{}'; the states are {words}", term.value),
                    ));
                }
                "state" | "node" | "owner" | "name" | "project" => {}
                field if field.starts_with("label.") => {}
                other => {
                    let known = "state, name, project, owner, node and label.KEY";
                    return Err(Error::invalid(
                        "filter",
                        format!("sessions cannot be filtered by '{other}', but by {known}"),
                    ));
                }
            }
        }
        Ok(Self { terms, ..Self::default() })
    }

    pub fn matches(&self, fleet: &Fleet, session: &Session) -> bool {
        self.project.as_ref().is_none_or(|project| *project == session.project)
            && self.session.is_none_or(|id| id == session.id)
            && (self.all || !matches!(session.state, State::Cleaned { .. }))
            && self.terms.iter().all(|term| term.holds(|field| session_field(fleet, session, field)))
    }
}

impl NodeFilter {
    pub fn parse(text: &str) -> Result<Self, Error> {
        let terms = terms(text)?;
        for term in &terms {
            match &*term.field {
                "standing" if !Standing::ALL.iter().any(|standing| standing.word() == &*term.value) => {
                    let words = Standing::ALL.map(Standing::word).join(", ");
                    return Err(Error::invalid(
                        "filter",
                        format!("there is no standing '{}'; there are {words}", term.value),
                    ));
                }
                "standing" | "name" => {}
                field if field.starts_with("label.") => {}
                other => {
                    let text =
                        format!("nodes cannot be filtered by '{other}', but by standing, name and label.KEY");
                    return Err(Error::invalid("filter", text));
                }
            }
        }
        Ok(Self(terms))
    }

    pub fn matches(&self, node: &Node) -> bool {
        let field = |field: &str| match field {
            "standing" => Some(node.standing.word().to_owned()),
            "name" => Some(node.name.to_string()),
            other => label(&node.facts.labels, other),
        };
        self.0.iter().all(|term| term.holds(field))
    }
}

impl Term {
    fn holds(&self, field: impl Fn(&str) -> Option<String>) -> bool {
        (field(&self.field).as_deref() == Some(&*self.value)) != self.is_not
    }
}

fn session_field(fleet: &Fleet, session: &Session, field: &str) -> Option<String> {
    match field {
        "state" => Some(session.state.kind().word().to_owned()),
        "name" => Some(session.name.to_string()),
        "project" => Some(session.project.to_string()),
        "owner" => Some(session.owner.to_string()),
        "node" => session
            .state
            .placement()
            .and_then(|placement| fleet.node(placement.node))
            .map(|node| node.name.to_string()),
        other => label(&session.spec.labels, other),
    }
}

fn label(labels: &Labels, field: &str) -> Option<String> {
    let key = field.strip_prefix("label.")?;
    labels.iter().find(|(known, _)| *known == key).map(|(_, value)| value.to_owned())
}

fn terms(text: &str) -> Result<Vec<Term>, Error> {
    let parts = text.split(" and ").map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (field, value) = part.split_once('=').ok_or_else(|| {
                Error::invalid(
                    "filter",
                    format!("'{part}' is not a term such as state=running or label.KEY=VALUE"),
                )
            })?;
            let (field, is_not) = field.strip_suffix('!').map_or((field, false), |field| (field, true));
            Ok(Term { field: field.trim().into(), value: value.trim().into(), is_not })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_says_what_it_does_not_understand() {
        assert!(SessionFilter::parse("state=running and label.team=a and node!=b").is_ok());
        for (bad, words) in [
            ("state=runing", "there is no state"),
            ("colour=red", "cannot be filtered by"),
            ("x", "is not a term"),
        ] {
            assert!(SessionFilter::parse(bad).unwrap_err().text.contains(words), "{bad}");
        }
        assert!(NodeFilter::parse("standing=reachable").is_ok());
        assert!(NodeFilter::parse("state=running").is_err());
    }
}
