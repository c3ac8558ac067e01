//! AccessService: who is asking. Tokens of people and projects are not built yet.

use drover_proto::v1;
use drover_proto::v1::access_service_server::AccessService;
use tonic::{Request, Response, Status};

use crate::access::principal_of;
use crate::error::Error;
use crate::plane::Plane;

#[derive(Clone, Debug)]
pub struct AccessHandler(pub Plane);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl AccessService for AccessHandler {
    async fn who_am_i(&self, request: Request<v1::WhoAmIRequest>) -> Answer<v1::WhoAmIResponse> {
        let principal = principal_of(&request)?;
        Ok(Response::new(v1::WhoAmIResponse {
            name: principal.name(),
            role: principal.role().wire().into(),
            installation: self.0.registry.now().fleet.installation().to_string(),
            controller_version: env!("CARGO_PKG_VERSION").into(),
        }))
    }

    async fn create_token(&self, _: Request<v1::CreateTokenRequest>) -> Answer<v1::CreateTokenResponse> {
        Err(Error::not_built("making tokens for people").into())
    }

    async fn list_tokens(&self, _: Request<v1::ListTokensRequest>) -> Answer<v1::ListTokensResponse> {
        Err(Error::not_built("listing tokens of people").into())
    }

    async fn revoke_token(&self, _: Request<v1::RevokeTokenRequest>) -> Answer<v1::RevokeTokenResponse> {
        Err(Error::not_built("revoking tokens of people").into())
    }

    async fn list_projects(&self, _: Request<v1::ListProjectsRequest>) -> Answer<v1::ListProjectsResponse> {
        Err(Error::not_built("listing projects").into())
    }

    async fn update_project(
        &self,
        _: Request<v1::UpdateProjectRequest>,
    ) -> Answer<v1::UpdateProjectResponse> {
        Err(Error::not_built("changing projects").into())
    }
}
