//! SessionService: which call is answered by whom.

use drover_proto::v1;
use drover_proto::v1::session_service_server::SessionService;
use tonic::{Request, Response, Status};

use super::{explain, session_changes as changes, session_reads as reads};
use crate::error::Error;
use crate::plane::Plane;
use crate::watch;

#[derive(Clone, Debug)]
pub struct SessionHandler(pub Plane);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl SessionService for SessionHandler {
    type WatchSessionsStream = reads::Items<v1::WatchSessionsResponse>;
    type StreamLogsStream = reads::Items<v1::StreamLogsResponse>;
    type GetDiffStream = reads::Items<v1::GetDiffResponse>;

    async fn create_session(
        &self,
        request: Request<v1::CreateSessionRequest>,
    ) -> Answer<v1::CreateSessionResponse> {
        changes::create(&self.0, request).await
    }

    async fn batch_create_sessions(
        &self,
        _: Request<v1::BatchCreateSessionsRequest>,
    ) -> Answer<v1::BatchCreateSessionsResponse> {
        Err(Error::not_built("creating sessions together").into())
    }

    async fn get_session(&self, request: Request<v1::GetSessionRequest>) -> Answer<v1::GetSessionResponse> {
        reads::get(&self.0, request.into_inner())
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Answer<v1::ListSessionsResponse> {
        reads::list(&self.0, &request.into_inner())
    }

    /// Served from bytes that all watchers share, see `watch::encoded`: the router asks there first.
    async fn watch_sessions(
        &self,
        _: Request<v1::WatchSessionsRequest>,
    ) -> Answer<Self::WatchSessionsStream> {
        Err(watch::encoded::not_served_here().into())
    }

    async fn start_session(
        &self,
        request: Request<v1::StartSessionRequest>,
    ) -> Answer<v1::StartSessionResponse> {
        changes::start(&self.0, request).await
    }

    async fn stop_session(
        &self,
        request: Request<v1::StopSessionRequest>,
    ) -> Answer<v1::StopSessionResponse> {
        changes::stop(&self.0, request).await
    }

    async fn hold_session(
        &self,
        request: Request<v1::HoldSessionRequest>,
    ) -> Answer<v1::HoldSessionResponse> {
        changes::hold(&self.0, request).await
    }

    async fn release_session(
        &self,
        request: Request<v1::ReleaseSessionRequest>,
    ) -> Answer<v1::ReleaseSessionResponse> {
        changes::release(&self.0, request).await
    }

    async fn reset_session(
        &self,
        request: Request<v1::ResetSessionRequest>,
    ) -> Answer<v1::ResetSessionResponse> {
        changes::reset(&self.0, request).await
    }

    async fn delete_session(
        &self,
        request: Request<v1::DeleteSessionRequest>,
    ) -> Answer<v1::DeleteSessionResponse> {
        changes::delete(&self.0, request).await
    }

    async fn extend_session(
        &self,
        request: Request<v1::ExtendSessionRequest>,
    ) -> Answer<v1::ExtendSessionResponse> {
        changes::extend(&self.0, request).await
    }

    async fn explain_session(
        &self,
        request: Request<v1::ExplainSessionRequest>,
    ) -> Answer<v1::ExplainSessionResponse> {
        explain::session(&self.0, request.into_inner()).await
    }

    async fn list_runs(&self, request: Request<v1::ListRunsRequest>) -> Answer<v1::ListRunsResponse> {
        reads::runs(&self.0, request.into_inner()).await
    }

    async fn stream_logs(&self, request: Request<v1::StreamLogsRequest>) -> Answer<Self::StreamLogsStream> {
        reads::logs(&self.0, request.into_inner()).await
    }

    async fn get_diff(&self, request: Request<v1::GetDiffRequest>) -> Answer<Self::GetDiffStream> {
        reads::diff(&self.0, request.into_inner()).await
    }

    async fn checkpoint(&self, request: Request<v1::CheckpointRequest>) -> Answer<v1::CheckpointResponse> {
        changes::checkpoint(&self.0, request.into_inner()).await
    }
}
