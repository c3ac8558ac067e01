//! Everything that is served on the one port: the calls (gRPC and gRPC-web), health, metrics.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router, middleware};
use drover_proto::node_v1::node_link_service_server::NodeLinkServiceServer;
use drover_proto::v1::access_service_server::AccessServiceServer;
use drover_proto::v1::enrollment_service_server::EnrollmentServiceServer;
use drover_proto::v1::event_service_server::EventServiceServer;
use drover_proto::v1::maintenance_service_server::MaintenanceServiceServer;
use drover_proto::v1::node_service_server::NodeServiceServer;
use drover_proto::v1::session_service_server::SessionServiceServer;
use http::{HeaderName, HeaderValue, Method, header};
use serde_json::json;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::gate::{self, Gate};
use crate::link::LinkHandler;
use crate::plane::Plane;
use crate::rpc::{access, enrollment, events, maintenance, nodes, sessions};
use crate::watch;

/// The largest message that is taken.
const LONGEST_MESSAGE: usize = 4 * 1024 * 1024;

/// How long a browser may remember what it may send.
const PREFLIGHT: Duration = Duration::from_secs(600);

/// The router, and what tells callers that it is going to end.
pub fn router(
    plane: &Plane,
    gate: Gate,
    origins: &[HeaderValue],
) -> Result<(Router, HealthReporter), String> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(drover_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = reflection().build_v1().map_err(|error| error.to_string())?;
    let v1alpha = reflection().build_v1alpha().map_err(|error| error.to_string())?;
    let p = || plane.clone();
    let size = LONGEST_MESSAGE;
    let calls = Routes::new(health_service)
        .add_service(v1)
        .add_service(v1alpha)
        .add_service(SessionServiceServer::new(sessions::SessionHandler(p())).max_decoding_message_size(size))
        .add_service(NodeServiceServer::new(nodes::NodeHandler(p())).max_decoding_message_size(size))
        .add_service(
            MaintenanceServiceServer::new(maintenance::MaintenanceHandler(p()))
                .max_decoding_message_size(size),
        )
        .add_service(EventServiceServer::new(events::EventHandler(p())).max_decoding_message_size(size))
        .add_service(AccessServiceServer::new(access::AccessHandler(p())).max_decoding_message_size(size))
        .add_service(
            EnrollmentServiceServer::new(enrollment::EnrollmentHandler(p())).max_decoding_message_size(size),
        )
        .add_service(NodeLinkServiceServer::new(LinkHandler(p())).max_decoding_message_size(size));
    let calls = calls
        .into_axum_router()
        .merge(watch::encoded::routes(plane))
        .layer(middleware::from_fn_with_state(gate, gate::pass))
        .layer(tonic_web::GrpcWebLayer::new())
        .layer(cors(origins));
    let plain = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(plane.clone());
    Ok((plain.merge(calls), health))
}

fn cors(origins: &[HeaderValue]) -> CorsLayer {
    let exposed = ["grpc-status", "grpc-message", "grpc-status-details-bin"].map(HeaderName::from_static);
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins.to_vec()))
        .allow_methods([Method::POST])
        // Named one by one: the wildcard does not cover the one with the token.
        .allow_headers(AllowHeaders::mirror_request())
        .max_age(PREFLIGHT)
        .expose_headers(exposed)
}

/// Whether it may serve, with detail.
async fn ready(State(plane): State<Plane>) -> impl IntoResponse {
    let published = plane.registry.now();
    let nodes = published.fleet.nodes().count();
    let linked = published.fleet.nodes().filter(|node| plane.links.is_linked(node.id)).count();
    let is_ready = !plane.tasks.is_cancelled();
    let detail = json!({
        "ready": is_ready,
        "revision": published.fleet.revision(),
        "sessions": published.fleet.session_count(),
        "queue": published.fleet.queue_length(),
        "nodes": nodes,
        "linked": linked,
        "writable": plane.registry.trouble().is_none(),
    });
    (if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(detail))
}

async fn metrics(State(plane): State<Plane>) -> impl IntoResponse {
    let published = plane.registry.now();
    let now = plane.clock.boot();
    let oldest = published.fleet.nodes().filter_map(|node| plane.links.silence(node.id, now)).max();
    let text = plane.metrics.render(&published.fleet, oldest);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
