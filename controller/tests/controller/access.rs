//! Who may call: by token or by certificate, and by nothing else.

use drover_controller::app;
use drover_controller::config::{Config, Flags};
use drover_daemon::clock::Clock;
use drover_proto::v1;
use drover_proto::v1::access_service_client::AccessServiceClient;
use drover_proto::v1::session_service_client::SessionServiceClient;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;
use tonic::Code;
use tonic::transport::Identity;

use crate::harness::{Bearer, channel, controller, create, enroll, link, tls, try_enroll};

#[tokio::test]
async fn without_a_token_or_with_a_wrong_one_nobody_gets_in() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    for token in ["", "wrong"] {
        let channel = channel(&running, tls(&running)).await.unwrap();
        let mut client = SessionServiceClient::with_interceptor(channel, Bearer(token.into()));
        let status = client.create_session(create("a")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{token:?}");
    }
}

#[tokio::test]
async fn the_operator_is_known_by_the_token_of_the_first_start() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let token = std::fs::read_to_string(dir.path().join("operator.token")).unwrap();
    let channel = channel(&running, tls(&running)).await.unwrap();
    let mut client = AccessServiceClient::with_interceptor(channel, Bearer(token.trim().into()));
    let me = client.who_am_i(v1::WhoAmIRequest {}).await.unwrap().into_inner();
    assert_eq!((me.name.as_str(), me.role()), ("operator", v1::Role::Admin));
}

#[tokio::test]
async fn a_join_token_is_good_once() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let token = running.join_token(std::time::Duration::from_secs(60)).await.unwrap();
    try_enroll(&running, token.clone()).await.unwrap();
    let again = try_enroll(&running, token).await.map(drop).unwrap_err();
    assert_eq!((again.code(), again.message()), (Code::PermissionDenied, "the join token was used before"));
    let forged = try_enroll(&running, "tok_aaaaaaaaaaaaaaaa.x.00".into()).await.map(drop).unwrap_err();
    assert_eq!(forged.code(), Code::PermissionDenied);
    let short = running.join_token(std::time::Duration::ZERO).await.unwrap();
    let late = try_enroll(&running, short).await.map(drop).unwrap_err();
    assert_eq!(late.message(), "the join token has expired");
}

#[tokio::test]
async fn two_who_race_for_one_token_are_one_node() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let token = running.join_token(std::time::Duration::from_secs(60)).await.unwrap();
    let races = (0..8).map(|_| try_enroll(&running, token.clone()));
    let won = futures::future::join_all(races).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_worth_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (node, _) = enroll(&running).await;
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(authority, KeyPair::generate().unwrap());
    let mut forged = CertificateParams::new(Vec::<String>::new()).unwrap();
    forged.distinguished_name.push(DnType::CommonName, format!("drover-node:{}", node.node_id));
    let forged = forged.signed_by(&key, &issuer).unwrap();
    let identity = Identity::from_pem(forged.pem(), key.serialize_pem());
    let connected = channel(&running, tls(&running).identity(identity)).await;
    if let Ok(channel) = connected {
        let mut client = SessionServiceClient::with_interceptor(channel, Bearer(String::new()));
        assert!(client.list_sessions(v1::ListSessionsRequest::default()).await.is_err());
    }
}

#[tokio::test]
async fn a_node_may_link_and_nothing_else_and_a_person_may_not_link() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (_, identity) = enroll(&running).await;
    let channel = channel(&running, tls(&running).identity(identity.clone())).await.unwrap();
    let mut client = SessionServiceClient::with_interceptor(channel, Bearer(String::new()));
    let status = client.list_sessions(v1::ListSessionsRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    link(&running, identity, vec![]).await.map(drop).unwrap();
}

#[tokio::test]
async fn a_second_controller_on_the_same_files_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let flags = Flags { data_dir: Some(dir.path().display().to_string()), ..Flags::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let second = app::start(Config::load(None, flags).unwrap(), listener, Clock::system()).await;
    let words = second.unwrap_err().to_string();
    assert!(words.contains("another controller works with"), "{words}");
    drop(running);
}
