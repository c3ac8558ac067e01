//! MaintenanceService: health, plans of repair and cleanup, the trash, safe mode. Debug mode is not built yet.

use drover_proto::v1;
use drover_proto::v1::maintenance_service_server::MaintenanceService;
use tonic::{Request, Response, Status};

use super::session_reads::Items;
use super::{health, plans, safe_mode, trash, trash_changes};
use crate::error::Error;
use crate::plane::Plane;

#[derive(Clone, Debug)]
pub struct MaintenanceHandler(pub Plane);

type Answer<T> = Result<Response<T>, Status>;

fn not_built<T>(what: &str) -> Answer<T> {
    Err(Error::not_built(what).into())
}

#[tonic::async_trait]
impl MaintenanceService for MaintenanceHandler {
    type WatchHealthStream = Items<v1::WatchHealthResponse>;
    type ApplyPlanStream = Items<v1::ApplyPlanResponse>;

    async fn get_health(&self, _: Request<v1::GetHealthRequest>) -> Answer<v1::GetHealthResponse> {
        Ok(Response::new(health::now(&self.0).await?))
    }

    async fn watch_health(&self, _: Request<v1::WatchHealthRequest>) -> Answer<Self::WatchHealthStream> {
        health::watch(&self.0)
    }
    async fn plan_repair(&self, request: Request<v1::PlanRepairRequest>) -> Answer<v1::PlanRepairResponse> {
        plans::repair(&self.0, request).await
    }
    async fn plan_cleanup(
        &self,
        request: Request<v1::PlanCleanupRequest>,
    ) -> Answer<v1::PlanCleanupResponse> {
        plans::cleanup(&self.0, request).await
    }
    async fn get_plan(&self, request: Request<v1::GetPlanRequest>) -> Answer<v1::GetPlanResponse> {
        plans::get(&self.0, request.get_ref())
    }
    async fn apply_plan(&self, request: Request<v1::ApplyPlanRequest>) -> Answer<Self::ApplyPlanStream> {
        plans::apply(&self.0, request).await
    }
    async fn list_trash(&self, request: Request<v1::ListTrashRequest>) -> Answer<v1::ListTrashResponse> {
        trash::list(&self.0, request.into_inner()).await
    }
    async fn get_trash(&self, request: Request<v1::GetTrashRequest>) -> Answer<v1::GetTrashResponse> {
        trash::get(&self.0, request.into_inner()).await
    }
    async fn restore_trash(
        &self,
        request: Request<v1::RestoreTrashRequest>,
    ) -> Answer<v1::RestoreTrashResponse> {
        trash_changes::restore(&self.0, request).await
    }
    async fn purge_trash(&self, request: Request<v1::PurgeTrashRequest>) -> Answer<v1::PurgeTrashResponse> {
        trash_changes::purge(&self.0, request).await
    }
    async fn get_safe_mode(&self, _: Request<v1::GetSafeModeRequest>) -> Answer<v1::GetSafeModeResponse> {
        Ok(Response::new(safe_mode::get(&self.0)))
    }
    async fn set_safe_mode(
        &self,
        request: Request<v1::SetSafeModeRequest>,
    ) -> Answer<v1::SetSafeModeResponse> {
        safe_mode::set(&self.0, request).await
    }
    async fn get_debug(&self, _: Request<v1::GetDebugRequest>) -> Answer<v1::GetDebugResponse> {
        not_built("debug mode")
    }
    async fn set_debug(&self, _: Request<v1::SetDebugRequest>) -> Answer<v1::SetDebugResponse> {
        not_built("debug mode")
    }
}
