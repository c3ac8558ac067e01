//! The edge as strangers meet it: plain HTTP, browsers, reflection, messages that are too long, silence.

use std::sync::Arc;
use std::time::Duration;

use drover_controller::app::Running;
use drover_proto::v1;
use drover_proto::v1::access_service_client::AccessServiceClient;
use drover_proto::v1::enrollment_service_client::EnrollmentServiceClient;
use drover_proto::v1::node_service_client::NodeServiceClient;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_types::StatusExt;

use crate::harness::{Bearer, channel, controller, controller_with, create, enroll, link, sessions, tls};

/// Sends one request over HTTP/1.1 and reads the whole answer.
async fn http(running: &Running, head: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(running.authority.as_bytes()).unwrap()).unwrap();
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let socket = TcpStream::connect(running.address).await.unwrap();
    let name = ServerName::try_from("drover-controller").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
    let rest = format!("host: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}\r\n{rest}").as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    (String::from_utf8_lossy(&answer[..end]).to_lowercase(), answer.split_off(end + 4))
}

#[tokio::test]
async fn health_readiness_and_metrics_need_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    sessions(&running).await.create_session(create("a")).await.unwrap();
    let (head, body) = http(&running, "GET /healthz HTTP/1.1", b"").await;
    assert!(head.starts_with("http/1.1 200") && body == b"ok\n", "{head}");
    let (head, body) = http(&running, "GET /readyz HTTP/1.1", b"").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(String::from_utf8_lossy(&body).contains("\"sessions\":1"));
    let (head, body) = http(&running, "GET /metrics HTTP/1.1", b"").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let body = String::from_utf8_lossy(&body);
    for expected in [
        "drover_sessions{state=\"queued\",project=\"default\"} 1",
        "drover_sessions_spawned_total 1",
        "# TYPE drover_rpc_seconds histogram",
        "method=\"CreateSession\",code=\"0\"} 1",
    ] {
        assert!(body.contains(expected), "{expected} is not in\n{body}");
    }
}

#[tokio::test]
async fn only_pages_of_configured_origins_may_call_and_they_may_send_their_token() {
    let dir = tempfile::tempdir().unwrap();
    let allow = |config: &mut drover_controller::config::Config| {
        config.origins = vec!["https://drover.example.org".parse().unwrap()];
    };
    let running = controller_with(dir.path(), allow).await;
    let ask = |origin: &str| {
        format!(
            "OPTIONS /drover.v1.AccessService/WhoAmI HTTP/1.1\r\norigin: {origin}\r\n\
             access-control-request-method: POST\r\naccess-control-request-headers: authorization,x-grpc-web"
        )
    };
    let (head, _) = http(&running, &ask("https://drover.example.org"), b"").await;
    assert!(head.contains("access-control-allow-origin: https://drover.example.org"), "{head}");
    assert!(head.contains("access-control-allow-headers: authorization,x-grpc-web"), "{head}");
    let (head, _) = http(&running, &ask("https://evil.example.org"), b"").await;
    assert!(!head.contains("access-control-allow-origin"), "{head}");
}

#[tokio::test]
async fn a_browser_calls_over_grpc_web() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let call = |token: &str| {
        format!(
            "POST /drover.v1.AccessService/WhoAmI HTTP/1.1\r\ncontent-type: application/grpc-web+proto\r\n\
             x-grpc-web: 1\r\nauthorization: Bearer {token}"
        )
    };
    let (head, body) = http(&running, &call(&running.operator_token), &[0; 5]).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let text = String::from_utf8_lossy(&body);
    assert!(text.contains("operator") && text.contains("grpc-status:0"), "{text}");
    let (head, body) = http(&running, &call("wrong"), &[0; 5]).await;
    let all = format!("{head}{}", String::from_utf8_lossy(&body));
    assert!(all.contains("grpc-status:16") || all.contains("grpc-status: 16"), "{all}");
}

#[tokio::test]
async fn a_message_that_is_too_long_costs_its_caller_only() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let mut client = sessions(&running).await;
    let mut long = create("long");
    long.spec.as_mut().unwrap().command = vec!["x".repeat(5 << 20)];
    let status = client.create_session(long).await.unwrap_err();
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
    assert!(status.message().contains("4194304"), "{status:?}");
    client.create_session(create("short")).await.unwrap();
}

#[tokio::test]
async fn reflection_lists_the_services_without_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let mut client = ServerReflectionClient::new(channel(&running, tls(&running)).await.unwrap());
    let ask = tonic_reflection::pb::v1::ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut answers = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for expected in ["drover.v1.SessionService", "drover.node.v1.NodeLinkService", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|name| name == expected), "{expected} in {names:?}");
    }
}

#[tokio::test]
async fn a_refusal_at_the_door_has_a_reason_for_programs_and_a_hint_for_people() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    for (token, reason) in [("", "WHO_ARE_YOU"), ("wrong", "TOKEN_UNKNOWN")] {
        let channel = channel(&running, tls(&running)).await.unwrap();
        let mut client = AccessServiceClient::with_interceptor(channel, Bearer(token.into()));
        let status = client.who_am_i(v1::WhoAmIRequest {}).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.reason, reason);
        assert!(info.metadata.contains_key("hint"), "{info:?}");
    }
}

#[tokio::test]
async fn a_crowd_that_says_nothing_keeps_neither_people_nor_agents_out() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let mut crowd = Vec::new();
    for _ in 0..1000 {
        crowd.push(TcpStream::connect(running.address).await.unwrap());
    }
    let within = |what| tokio::time::timeout(Duration::from_secs(20), what);
    let mut client = within(Box::pin(sessions(&running))).await.unwrap();
    client.create_session(create("a")).await.unwrap();
    let (_, identity) = enroll(&running).await;
    link(&running, identity, vec![]).await.map(drop).unwrap();
    drop(crowd);
}

#[tokio::test]
async fn a_revoked_node_is_cut_off_and_gets_no_new_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (node, identity) = enroll(&running).await;
    let mut agent = link(&running, identity.clone(), vec![]).await.unwrap();
    let operator = channel(&running, tls(&running)).await.unwrap();
    let mut nodes = NodeServiceClient::with_interceptor(operator, Bearer(running.operator_token.clone()));
    let ask =
        v1::RevokeNodeRequest { request_id: "r".into(), node: node.node_id.clone(), ..Default::default() };
    nodes.revoke_node(ask).await.unwrap();
    let end = async { while let Ok(Some(_)) = agent.down.message().await {} };
    tokio::time::timeout(Duration::from_secs(5), end).await.expect("the link is cut");
    let again = link(&running, identity.clone(), vec![]).await.map(drop).unwrap_err();
    assert_eq!(again.code(), Code::PermissionDenied, "{again:?}");
    let (key, params) = (KeyPair::generate().unwrap(), CertificateParams::new(Vec::<String>::new()).unwrap());
    let csr = params.serialize_request(&key).unwrap().der().to_vec();
    let channel = channel(&running, tls(&running).identity(identity)).await.unwrap();
    let mut client = EnrollmentServiceClient::new(channel);
    let refused = client.renew_certificate(v1::RenewCertificateRequest { csr }).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}
