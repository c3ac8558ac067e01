//! Nodes and how they join: tokens, enrolment, links with their cookies, standing, cordon, revocation, removal.

use std::sync::Arc;
use std::time::Duration;

use super::{Answer, Draft, enter};
use crate::actor::Actor;
use crate::change::{After, Kind};
use crate::command::Enrollment;
use crate::id::{NodeId, TokenId};
use crate::name::Name;
use crate::node::{Cookie, Drain, Node, NodeFacts, Standing, Token, Witness};
use crate::refused::Refused;
use crate::session::{Session, State};

const MOST_NODES: usize = 10_000;
const MOST_TOKENS: usize = 10_000;

impl Draft<'_> {
    pub(super) fn create_token(
        &mut self,
        id: TokenId,
        secret_hash: [u8; 32],
        lasts: Duration,
    ) -> Result<Answer, Refused> {
        let there = self.fleet.tokens().count();
        if there >= MOST_TOKENS {
            return Err(Refused::LimitReached { what: "join tokens", there, most: MOST_TOKENS });
        }
        let token = Arc::new(Token {
            id,
            secret_hash,
            expires: self.now.after(lasts),
            made_by: self.command.actor.to_string().into(),
            made: self.now,
            used: None,
        });
        self.add(Kind::TokenCreated, After::Token(token.clone()));
        Ok(Answer::Token(token))
    }

    pub(super) fn end_token(&mut self, id: TokenId, kind: Kind) -> Result<Answer, Refused> {
        self.fleet.token(id).ok_or(Refused::TokenUnknown)?;
        self.add(kind, After::TokenForgotten(id));
        Ok(Answer::Gone)
    }

    pub(super) fn enroll(&mut self, new: &Enrollment) -> Result<Answer, Refused> {
        let token = self.fleet.token(new.token).ok_or(Refused::TokenWrong)?;
        if token.secret_hash != new.secret_hash {
            return Err(Refused::TokenWrong);
        } else if token.used.is_some() {
            return Err(Refused::TokenUsed);
        } else if token.expires <= self.now {
            return Err(Refused::TokenExpired);
        }
        let there = self.fleet.nodes().count();
        if there >= MOST_NODES {
            return Err(Refused::LimitReached { what: "nodes", there, most: MOST_NODES });
        }
        let node = Arc::new(Node {
            id: new.node,
            name: self.free_node_name(new.name.as_ref(), &new.facts)?,
            facts: new.facts.clone(),
            standing: Standing::Joined,
            cordoned: false,
            drain: None,
            joined: self.now,
            revision: self.revision(),
            since: self.now,
            cookie: Cookie::default(),
            acknowledged: 0,
        });
        let token = Arc::new(Token { used: Some((new.node, self.now)), ..Token::clone(token) });
        self.add(Kind::NodeJoined, After::Joined(token, node.clone()));
        Ok(Answer::Node(node))
    }

    /// The name that was asked for, which must be free, or one after the hostname that is.
    fn free_node_name(&self, wish: Option<&Name>, facts: &NodeFacts) -> Result<Name, Refused> {
        let taken = |name: &Name| self.fleet.node_named(name).is_some();
        if let Some(name) = wish {
            return if taken(name) { Err(Refused::NodeNameTaken(name.clone())) } else { Ok(name.clone()) };
        }
        let stem: String = facts
            .hostname
            .to_ascii_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .take(48)
            .collect();
        let stem = stem.trim_matches('-');
        let stem = if stem.is_empty() { "node" } else { stem };
        let candidates = std::iter::once(stem.to_owned()).chain((2..).map(|n| format!("{stem}-{n}")));
        let mut names = candidates.filter_map(|text| Name::new(&text).ok());
        // There are fewer nodes than candidates, so one of them is free.
        Ok(names.find(|name| !taken(name)).unwrap_or_else(Name::default_project))
    }

    pub(super) fn link(
        &mut self,
        id: NodeId,
        facts: &NodeFacts,
        (shown, next): (Option<[u8; 32]>, [u8; 32]),
        witness: &Witness,
    ) -> Result<Answer, Refused> {
        let before = self.living(id)?;
        // First: an older registry knows older cookies too.
        self.check_age(&before, witness)?;
        if !before.cookie.accepts(shown.as_ref()) {
            return Err(Refused::CookieStale(before.name.clone()));
        }
        let mut node = Node::clone(&before);
        node.facts = facts.clone();
        node.cookie = before.cookie.rolled(shown, next);
        if node.standing != Standing::Reachable {
            node.standing = Standing::Reachable;
            node.since = self.now;
        }
        let answer = self.save_node(Kind::NodeLinked, node);
        self.return_orphans(id);
        Ok(answer)
    }

    pub(super) fn set_standing(&mut self, id: NodeId, standing: Standing) -> Result<Answer, Refused> {
        let before = self.living(id)?;
        if before.standing == standing {
            return Ok(Answer::Node(before));
        }
        let node = Node { standing, since: self.now, ..Node::clone(&before) };
        let answer = self.save_node(Kind::NodeStanding, node);
        match standing {
            Standing::Lost => self.orphan(id, "the node was not heard for longer than lost-after"),
            Standing::Reachable => self.return_orphans(id),
            Standing::Joined | Standing::Unreachable | Standing::Revoked => {}
        }
        Ok(answer)
    }

    pub(super) fn cordon(&mut self, id: NodeId, cordoned: bool) -> Result<Answer, Refused> {
        let before = self.living(id)?;
        // A drain goes on under a cordon, and ends without one.
        let drain = before.drain.clone().filter(|_| cordoned);
        if before.cordoned == cordoned && before.drain == drain {
            return Ok(Answer::Node(before));
        }
        let kind = if cordoned { Kind::NodeCordoned } else { Kind::NodeUncordoned };
        Ok(self.save_node(kind, Node { cordoned, drain, ..Node::clone(&before) }))
    }

    /// Asked again, only the deadline and who asked for it become others.
    pub(super) fn drain(&mut self, id: NodeId, within: Option<Duration>) -> Result<Answer, Refused> {
        let before = self.living(id)?;
        let by = self.command.actor.to_string().into();
        let since = before.drain.as_ref().map_or(self.now, |drain| drain.since);
        let drain = Some(Drain { by, since, deadline: within.map(|within| self.now.after(within)) });
        if before.drain == drain {
            return Ok(Answer::Node(before));
        }
        Ok(self.save_node(Kind::NodeDraining, Node { cordoned: true, drain, ..Node::clone(&before) }))
    }

    pub(super) fn revoke_node(&mut self, id: NodeId) -> Result<Answer, Refused> {
        let before = self.fleet.node(id).cloned().ok_or(Refused::NodeUnknown(id))?;
        if before.standing == Standing::Revoked {
            return Ok(Answer::Node(before));
        }
        let node = Node { standing: Standing::Revoked, since: self.now, ..Node::clone(&before) };
        let answer = self.save_node(Kind::NodeRevoked, node);
        self.orphan(id, "the node was revoked");
        Ok(answer)
    }

    pub(super) fn remove_node(&mut self, id: NodeId) -> Result<Answer, Refused> {
        let node = self.fleet.node(id).ok_or(Refused::NodeUnknown(id))?;
        let sessions = self.fleet.placed_on(id).count();
        if sessions > 0 {
            return Err(Refused::NodeInUse { node: node.name.clone(), sessions });
        }
        self.add(Kind::NodeRemoved, After::NodeRemoved(id));
        Ok(Answer::Gone)
    }

    /// A node that is there and not revoked. A node speaks only for itself.
    fn living(&self, id: NodeId) -> Result<Arc<Node>, Refused> {
        debug_assert!(!matches!(&self.command.actor, Actor::Node(actor) if *actor != id));
        let node = self.fleet.node(id).cloned().ok_or(Refused::NodeUnknown(id))?;
        if node.standing == Standing::Revoked {
            Err(Refused::NodeRevoked(node.name.clone()))
        } else {
            Ok(node)
        }
    }

    fn orphan(&mut self, node: NodeId, evidence: &str) {
        let placed: Vec<_> = self.fleet.placed_on(node).cloned().collect();
        for before in placed {
            if matches!(before.state, State::Orphaned { .. } | State::Error { .. }) {
                continue;
            }
            let mut session = Session::clone(&before);
            let was = Box::new(session.state.clone());
            enter(&mut session, State::Orphaned { was, evidence: evidence.into() }, self.now);
            self.save(Kind::SessionOrphaned, session);
        }
    }

    fn return_orphans(&mut self, node: NodeId) {
        let placed: Vec<_> = self.fleet.placed_on(node).cloned().collect();
        for before in placed {
            if let State::Orphaned { was, .. } = &before.state {
                let mut session = Session::clone(&before);
                enter(&mut session, State::clone(was), self.now);
                self.save(Kind::SessionReturned, session);
            }
        }
    }
}
