//! EnrollmentService: how a machine joins, and renews its certificate.

use drover_domain::actor::Actor;
use drover_domain::command::{Command, Enrollment, Wish};
use drover_domain::fleet::Answer;
use drover_domain::id::NodeId;
use drover_domain::name::Name;
use drover_domain::node::Standing;
use drover_domain::refused::Refused;
use drover_proto::convert::{Invalid, node::facts_from};
use drover_proto::v1;
use drover_proto::v1::enrollment_service_server::EnrollmentService;
use tonic::{Code, Request, Response, Status};

use crate::access::node_of;
use crate::error::Error;
use crate::pki::JoinToken;
use crate::plane::Plane;
use crate::random;
use crate::registry::Done;

#[derive(Clone, Debug)]
pub struct EnrollmentHandler(pub Plane);

#[tonic::async_trait]
impl EnrollmentService for EnrollmentHandler {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let asked = request.into_inner();
        let token: JoinToken = asked.token.parse().map_err(|_| Error::from(Refused::TokenWrong))?;
        let mut invalid = Invalid::default();
        let facts = invalid.take(facts_from("facts", &asked.facts.unwrap_or_default()));
        let name = match asked.name.as_str() {
            "" => None,
            text => invalid.take(Name::new(text).map_err(|problem| Invalid::one("name", problem))),
        };
        let facts = invalid.or(facts).map_err(Error::from)?;
        let authority = &self.0.authority;
        let node = NodeId::from_random(random::bytes());
        // Signed before the token is used up: a request that cannot be signed costs nobody a token.
        let chain = authority.sign_node(&asked.csr, node).map_err(|why| Error::invalid("csr", why))?;
        let enrollment = Enrollment { token: token.id, secret_hash: token.secret_hash(), node, name, facts };
        let command =
            Command { actor: Actor::Node(node), trace: None, wish: Wish::Enroll(Box::new(enrollment)) };
        let registry = self.0.registry.clone();
        let work = self.0.tasks.spawn(async move { registry.submit(command, None).await });
        let done =
            work.await.map_err(|error| Error::internal("the enrolment", &error))?.map_err(Error::from)?;
        let Done::Fresh(Answer::Node(joined)) = done else {
            return Err(Error::new(Code::Internal, "INTERNAL", "the enrolment was not answered", "").into());
        };
        Ok(Response::new(v1::EnrollResponse {
            node_id: joined.id.to_string(),
            name: joined.name.to_string(),
            installation_id: self.0.registry.now().fleet.installation().to_string(),
            certificate_chain: chain,
            authority: authority.certificate().to_owned(),
        }))
    }

    async fn renew_certificate(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Result<Response<v1::RenewCertificateResponse>, Status> {
        let node = node_of(&request)?;
        let published = self.0.registry.now();
        let known = published.fleet.node(node).ok_or_else(|| Error::from(Refused::NodeUnknown(node)))?;
        if known.standing == Standing::Revoked {
            return Err(Error::from(Refused::NodeRevoked(known.name.clone())).into());
        }
        let authority = &self.0.authority;
        let chain =
            authority.sign_node(&request.get_ref().csr, node).map_err(|why| Error::invalid("csr", why))?;
        Ok(Response::new(v1::RenewCertificateResponse {
            certificate_chain: chain,
            authority: authority.certificate().to_owned(),
        }))
    }
}
