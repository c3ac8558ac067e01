//! NodeService.

use std::time::Duration;

use drover_domain::command::Wish;
use drover_domain::fleet::{Answer, Fleet};
use drover_domain::id::TokenId;
use drover_domain::node::Node;
use drover_proto::convert::node::{render, token};
use drover_proto::convert::time::maybe_length;
use drover_proto::convert::{Invalid, known, parsed};
use drover_proto::v1;
use drover_proto::v1::node_service_server::NodeService;
use tonic::{Code, Request, Response, Status};

use super::session_reads::Items;
use super::{Call, page, resolve};
use crate::error::Error;
use crate::filter::NodeFilter;
use crate::pki::JoinToken;
use crate::plane::Plane;
use crate::random;
use crate::watch;
use crate::watch::encoded::Piece;

#[derive(Clone, Debug)]
pub struct NodeHandler(pub Plane);

/// How long a join token is good if nobody says otherwise.
const TOKEN_LASTS: Duration = Duration::from_secs(15 * 60);
const DEADLINE_AT_MOST: Duration = Duration::from_secs(365 * 24 * 3600);
const TOKEN_LASTS_AT_MOST: Duration = Duration::from_secs(30 * 24 * 3600);

impl NodeHandler {
    fn shown(&self) -> impl Fn(&Fleet, &Answer) -> Option<v1::Node> + Send + Sync + 'static {
        let plane = self.0.clone();
        move |fleet, answer| answer.node().map(|node| render(fleet, node, plane.heard(node)))
    }

    fn named(&self, reference: &str) -> Result<std::sync::Arc<Node>, Error> {
        resolve::node(&self.0.registry.now().fleet, reference)
    }
}

/// How long a node's runs may go on.
fn within(asked: &v1::DrainNodeRequest) -> Result<Option<Duration>, Error> {
    let deadline = maybe_length("deadline", asked.deadline.as_ref())?;
    if deadline.is_some_and(|deadline| deadline > DEADLINE_AT_MOST) {
        return Err(Error::invalid("deadline", "must be at most 365 days"));
    }
    match known::<v1::DrainMode>("mode", asked.mode)? {
        v1::DrainMode::Unspecified | v1::DrainMode::Wait => Ok(deadline),
        v1::DrainMode::Force => Ok(Some(deadline.unwrap_or_default())),
        v1::DrainMode::Migrate => Err(Error::not_built("moving sessions to other nodes")),
    }
}

pub fn watch(plane: &Plane, asked: &v1::WatchNodesRequest) -> Result<Response<Items<Piece>>, Status> {
    let begin = watch::begin(&plane.registry.now(), &asked.resume_position)?;
    let (sink, stream) = watch::stream()?;
    plane.tasks.spawn(watch::run(plane.clone(), watch::nodes::Nodes(plane.clone()), sink, begin));
    Ok(Response::new(Box::pin(stream)))
}

#[tonic::async_trait]
impl NodeService for NodeHandler {
    type WatchNodesStream = Items<v1::WatchNodesResponse>;

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let asked = request.into_inner();
        let filter = NodeFilter::parse(&asked.filter)?;
        let size = page::size(asked.page_size)?;
        let bound = ["nodes", &asked.filter, &asked.order_by];
        let skip = match page::read(&asked.page_token, &bound)? {
            Some(place) => place.parse().map_err(|_| Error::invalid("page_token", "is odd"))?,
            None => 0,
        };
        let published = self.0.registry.now();
        let mut nodes: Vec<_> = published.fleet.nodes().filter(|node| filter.matches(node)).collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        match asked.order_by.trim() {
            "" | "name" => {}
            "name desc" => nodes.reverse(),
            other => {
                return Err(
                    Error::invalid("order_by", format!("'{other}' is not name or 'name desc'")).into()
                );
            }
        }
        let next = (nodes.len() > skip + size).then(|| page::write(&(skip + size).to_string(), &bound));
        let nodes = nodes.into_iter().skip(skip).take(size);
        let nodes = nodes.map(|node| render(&published.fleet, node, self.0.heard(node))).collect();
        Ok(Response::new(v1::ListNodesResponse { nodes, next_page_token: next.unwrap_or_default() }))
    }

    async fn get_node(
        &self,
        request: Request<v1::GetNodeRequest>,
    ) -> Result<Response<v1::GetNodeResponse>, Status> {
        let published = self.0.registry.now();
        let node = resolve::node(&published.fleet, &request.into_inner().node)?;
        let node = Some(render(&published.fleet, &node, self.0.heard(&node)));
        Ok(Response::new(v1::GetNodeResponse { node }))
    }

    /// Served from bytes that all watchers share, see `watch::encoded`: the router asks there first.
    async fn watch_nodes(
        &self,
        _: Request<v1::WatchNodesRequest>,
    ) -> Result<Response<Self::WatchNodesStream>, Status> {
        Err(watch::encoded::not_served_here().into())
    }

    async fn cordon_node(
        &self,
        request: Request<v1::CordonNodeRequest>,
    ) -> Result<Response<v1::CordonNodeResponse>, Status> {
        let asked = request.get_ref().clone();
        let call =
            Call::of(&request, "CordonNode", &asked.request_id, &asked)?.validating(asked.validate_only);
        let wish = Wish::Cordon { node: self.named(&asked.node)?.id, cordoned: true };
        let shown = self.shown();
        call.submit(&self.0, wish, move |fleet, answer, _| v1::CordonNodeResponse {
            node: shown(fleet, answer),
        })
        .await
    }

    async fn uncordon_node(
        &self,
        request: Request<v1::UncordonNodeRequest>,
    ) -> Result<Response<v1::UncordonNodeResponse>, Status> {
        let asked = request.get_ref().clone();
        let call =
            Call::of(&request, "UncordonNode", &asked.request_id, &asked)?.validating(asked.validate_only);
        let wish = Wish::Cordon { node: self.named(&asked.node)?.id, cordoned: false };
        let shown = self.shown();
        call.submit(&self.0, wish, move |fleet, answer, _| v1::UncordonNodeResponse {
            node: shown(fleet, answer),
        })
        .await
    }

    async fn drain_node(
        &self,
        request: Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeResponse>, Status> {
        let asked = request.get_ref().clone();
        let call =
            Call::of(&request, "DrainNode", &asked.request_id, &asked)?.validating(asked.validate_only);
        let wish = Wish::Drain { node: self.named(&asked.node)?.id, within: within(&asked)? };
        let shown = self.shown();
        call.submit(&self.0, wish, move |fleet, answer, _| v1::DrainNodeResponse {
            node: shown(fleet, answer),
        })
        .await
    }

    async fn remove_node(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::RemoveNodeResponse>, Status> {
        let asked = request.get_ref().clone();
        let call =
            Call::of(&request, "RemoveNode", &asked.request_id, &asked)?.validating(asked.validate_only);
        let node = self.named(&asked.node)?.id;
        let answer =
            call.submit(&self.0, Wish::RemoveNode { node }, |_, _, _| v1::RemoveNodeResponse {}).await?;
        if !asked.validate_only {
            self.0.links.forget(node);
        }
        Ok(answer)
    }

    async fn revoke_node(
        &self,
        request: Request<v1::RevokeNodeRequest>,
    ) -> Result<Response<v1::RevokeNodeResponse>, Status> {
        let asked = request.get_ref().clone();
        let call =
            Call::of(&request, "RevokeNode", &asked.request_id, &asked)?.validating(asked.validate_only);
        let node = self.named(&asked.node)?.id;
        let shown = self.shown();
        let render =
            move |fleet: &Fleet, answer: &Answer, _| v1::RevokeNodeResponse { node: shown(fleet, answer) };
        let answer = call.submit(&self.0, Wish::RevokeNode { node }, render).await?;
        if !asked.validate_only {
            self.0.links.cut(node);
        }
        Ok(answer)
    }

    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::CreateJoinTokenResponse>, Status> {
        let asked = request.get_ref().clone();
        let call = Call::of(&request, "CreateJoinToken", &asked.request_id, &asked)?;
        let lasts =
            maybe_length("lifetime", asked.lifetime.as_ref()).map_err(Error::from)?.unwrap_or(TOKEN_LASTS);
        if lasts.is_zero() || lasts > TOKEN_LASTS_AT_MOST {
            return Err(Error::from(Invalid::one(
                "lifetime",
                "must be more than nothing and at most 30 days",
            ))
            .into());
        }
        let join =
            JoinToken::new(TokenId::from_random(random::bytes()), random::secret(), self.0.authority.hash());
        let wish = Wish::CreateToken { id: join.id, secret_hash: join.secret_hash(), lasts };
        // The secret is in no kept answer: who did not hear it makes another token.
        let render = |_: &Fleet, answer: &Answer, _| v1::CreateJoinTokenResponse {
            token: answer.token().map(|made| token(made)),
            secret: String::new(),
        };
        let mut answer = call.submit(&self.0, wish, render).await?;
        let made = answer.get_ref().token.as_ref().map(|token| token.id.clone()).unwrap_or_default();
        if made != join.id.to_string() {
            let text = "this request was answered before, and a token's secret is told only once";
            return Err(Error::new(
                Code::AlreadyExists,
                "SECRET_TOLD",
                text,
                "make another token, with a new request id",
            )
            .into());
        }
        answer.get_mut().secret = join.to_string();
        Ok(answer)
    }

    async fn list_join_tokens(
        &self,
        request: Request<v1::ListJoinTokensRequest>,
    ) -> Result<Response<v1::ListJoinTokensResponse>, Status> {
        let asked = request.into_inner();
        let size = page::size(asked.page_size)?;
        let after = page::read(&asked.page_token, &["tokens"])?.unwrap_or_default();
        let published = self.0.registry.now();
        let mut tokens = published.fleet.tokens().filter(|token| token.id.to_string() > after);
        let page: Vec<_> = tokens.by_ref().take(size).map(|known| token(known)).collect();
        let next = tokens.next().and_then(|_| page.last()).map(|last| page::write(&last.id, &["tokens"]));
        Ok(Response::new(v1::ListJoinTokensResponse {
            tokens: page,
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn revoke_join_token(
        &self,
        request: Request<v1::RevokeJoinTokenRequest>,
    ) -> Result<Response<v1::RevokeJoinTokenResponse>, Status> {
        let asked = request.get_ref().clone();
        let call = Call::of(&request, "RevokeJoinToken", &asked.request_id, &asked)?;
        let id = parsed::<TokenId>("token", &asked.token).map_err(Error::from)?;
        call.submit(&self.0, Wish::RevokeToken { id }, |_, _, _| v1::RevokeJoinTokenResponse {}).await
    }

    async fn preflight_node(
        &self,
        _: Request<v1::PreflightNodeRequest>,
    ) -> Result<Response<v1::PreflightNodeResponse>, Status> {
        Err(Error::not_built("pre-flight checks").into())
    }
}
