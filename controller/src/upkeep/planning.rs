//! From findings to a plan that is kept: who is asked, what is looked at closely, what is in the plan's scope.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use drover_domain::finding::{Code, Cure, Finding, Key, Remains};
use drover_domain::id::{NodeId, PlanId, SessionId};
use drover_domain::name::Name;
use drover_domain::node::{Node, Standing};
use drover_domain::plan::{self, Assessment, Kept, KeptItem, Made, Plan, Purpose};
use drover_proto::convert::plan::to_wire;
use futures::future::join_all;
use prost::Message;

use super::{ask, findings};
use crate::error::Error;
use crate::plane::Plane;
use crate::random;

/// What a plan is for. Everything that is given must match.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub session: Option<SessionId>,
    pub project: Option<Name>,
    pub node: Option<NodeId>,
    /// A directory on a node.
    pub repository: Option<String>,
    pub codes: Vec<Code>,
    /// What is risky too, if it is named closely.
    pub force: bool,
}

impl Scope {
    fn takes(&self, finding: &Finding, project: impl Fn(SessionId) -> Option<Name>) -> bool {
        let in_repository = |wanted: &String| {
            let is_it = |path: &str| path == wanted || path.strip_suffix("/.git") == Some(wanted);
            finding.repository.as_deref().is_some_and(is_it)
        };
        self.session.is_none_or(|session| finding.session == Some(session))
            && self.node.is_none_or(|node| finding.node == Some(node))
            && self.repository.as_ref().is_none_or(in_repository)
            && (self.codes.is_empty() || self.codes.contains(&finding.code))
            && self.project.as_ref().is_none_or(|wanted| {
                finding.session.and_then(project).is_some_and(|project| project == *wanted)
            })
    }

    /// So closely that force means just this.
    fn is_named(&self) -> bool {
        self.session.is_some() || self.repository.is_some()
    }
}

/// Looks at the nodes in question anew and in full, twice, then plans.
pub async fn fresh(plane: &Plane, purpose: Purpose, scope: &Scope, by: &str) -> Result<Plan, Error> {
    let fleet = plane.registry.now().fleet.clone();
    let nodes: Vec<Arc<Node>> = fleet
        .nodes()
        .filter(|node| node.standing != Standing::Revoked && scope.node.is_none_or(|only| only == node.id))
        .cloned()
        .collect();
    let looked = join_all(nodes.iter().map(|node| plane.looks.take_twice(plane, node.id))).await;
    let (mut found, mut away) = (Vec::new(), Vec::new());
    for (node, looked) in nodes.iter().zip(looked) {
        match looked {
            Ok(()) => found.extend(findings::of_node(plane, node, &plane.looks.of(node.id)).await?),
            Err(status) => away.push(KeptItem {
                subject: node.name.as_str().into(),
                code: Kept::NodeAway,
                reason: status.message().into(),
            }),
        }
    }
    let mut plan = of(plane, purpose, scope, found, by).await?;
    plan.kept.extend(away);
    plan.digest = digest(plane, &plan);
    Ok(plan)
}

/// A plan of what was found.
pub async fn of(
    plane: &Plane,
    purpose: Purpose,
    scope: &Scope,
    found: Vec<Finding>,
    by: &str,
) -> Result<Plan, Error> {
    let (published, now) = plane.view();
    let fleet = &published.fleet;
    let strangers = found.iter().filter_map(|finding| finding.session);
    let strangers = strangers.filter(|id| scope.project.is_some() && fleet.session(*id).is_none()).collect();
    let past = findings::past(plane, strangers).await?;
    let project = |id: SessionId| {
        let live = fleet.session(id).map(|session| session.project.clone());
        live.or_else(|| past.get(&id).map(|session| session.project.clone()))
    };
    let found: Vec<Finding> = found.into_iter().filter(|finding| scope.takes(finding, project)).collect();
    let assessed = assessed(plane, &found).await;
    let Made { actions, kept } = plan::make(purpose, found, scope.force, scope.is_named(), &|finding, _| {
        assessed.get(&finding.key()).cloned()
    });
    let mut plan = Plan {
        id: PlanId::from_random(random::bytes()),
        purpose,
        by: by.into(),
        made: now,
        expires: now.after(plan::GOOD_FOR),
        actions,
        kept,
        digest: [0; 32],
        applied: None,
    };
    plan.digest = digest(plane, &plan);
    Ok(plan)
}

/// A close look at everything that may be cleared away. What its node does not say is not in it.
async fn assessed(plane: &Plane, found: &[Finding]) -> BTreeMap<Key, Assessment> {
    let mut by_node: HashMap<NodeId, Vec<(Key, Remains)>> = HashMap::new();
    for finding in found {
        if let (Some(node), Some(Cure::Clear(remains))) = (finding.node, &finding.cure) {
            by_node.entry(node).or_default().push((finding.key(), remains.clone()));
        }
    }
    let asked = by_node.into_iter().map(|(node, remains)| async move {
        let (keys, remains): (Vec<_>, Vec<_>) = remains.into_iter().unzip();
        match ask::assess(plane, node, &remains).await {
            Ok(assessed) => keys.into_iter().zip(assessed).collect(),
            Err(status) => {
                tracing::warn!(%node, "what remains there could not be looked at: {}", status.message());
                Vec::new()
            }
        }
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// Of what is shown of it: what was shown is what is applied.
fn digest(plane: &Plane, plan: &Plan) -> [u8; 32] {
    let bare = Plan { digest: [0; 32], applied: None, ..plan.clone() };
    random::hash(&to_wire(&bare, &plane.registry.now().fleet).encode_to_vec())
}
