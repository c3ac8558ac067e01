//! Clients in other languages, made from the contract alone; and clients that ask for the contract first.

use std::path::{Path, PathBuf};
use std::process::Command;

use drover_proto::v1::SessionState as State;
use drover_tests::client::script;
use drover_tests::installation::Installation;
use drover_tests::programs::{Program, Ran};
use drover_tests::repository::Repository;
use rustix::fs::{FlockOperation, flock};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_client_made_from_the_contract_lists_and_watches_sessions() {
    let Some(python) = python() else { return };
    let there = Installation::start(1, 2).await;
    let repository = Repository::default();
    let client = there.client();
    client.create(script("first", &repository.path, "exit 3")).await.unwrap();
    client.until("first", State::Ready).await;
    let generated = there.path("generated");
    generate(&python, &generated);

    let mut command = there.command("drover-agent");
    let program = std::mem::replace(&mut command, Command::new(&python));
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    command.arg(manifest.join("python/client.py")).arg(there.address());
    command.arg(there.path("controller").join("ca.crt")).arg(there.path("controller").join("operator.token"));
    command.env("PYTHONPATH", &generated).env("PYTHONUNBUFFERED", "1");
    let watcher = Program::spawn(command, &there.path("python.log"));
    drover_tests::patience::eventually("it has caught up", || async {
        watcher.said().contains("caught up").then_some(())
    })
    .await;
    client.create(script("second", &repository.path, "true")).await.unwrap();
    let log = watcher.log.clone();
    let ended = watcher.wait();
    let said = std::fs::read_to_string(log).unwrap();
    assert!(ended.success(), "{said}");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(
        lines[..3],
        ["listed first SESSION_STATE_READY 3", "watched first SESSION_STATE_READY", "caught up"]
    );
    assert_eq!(lines.last(), Some(&"watched second SESSION_STATE_READY"), "{said}");
}

/// The interpreter with the tools for gRPC, in an environment of the build's own.
#[expect(clippy::print_stdout, reason = "a test that is skipped says why")]
fn python() -> Option<PathBuf> {
    let home = target().join("python");
    let python = home.join("bin/python");
    let lock = std::fs::File::create(target().join("python.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let has_tools = || Command::new(&python).args(["-c", "import grpc_tools"]).output();
    if has_tools().is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    let install = "python3 -m venv \"$0\" && \"$0/bin/pip\" install --quiet grpcio-tools==1.85.1";
    let ran = Ran::of(Command::new("sh").args(["-c", install]).arg(&home));
    if ran.code == 0 {
        return Some(python);
    }
    let reason = format!("the Python client cannot be made: {}", ran.stderr);
    assert!(
        std::env::var_os("DROVER_WITHOUT_PYTHON").is_some(),
        "{reason}; DROVER_WITHOUT_PYTHON=1 allows it"
    );
    println!("skipped: {reason}");
    None
}

/// The build's directory.
fn target() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    here.ancestors().find(|folder| folder.join("deps").is_dir()).unwrap().to_owned()
}

fn generate(python: &Path, into: &Path) {
    std::fs::create_dir(into).unwrap();
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/proto");
    let mut command = Command::new(python);
    command.args(["-m", "grpc_tools.protoc"]).arg("-I").arg(&contract);
    command
        .arg(format!("--python_out={}", into.display()))
        .arg(format!("--grpc_python_out={}", into.display()));
    for name in ["log", "removal", "session", "session_service"] {
        command.arg(format!("drover/v1/{name}.proto"));
    }
    let ran = Ran::of(&mut command);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[tokio::test]
async fn both_versions_of_reflection_list_the_same_services() {
    use tonic_reflection::pb::{v1, v1alpha};
    let there = Installation::start(0, 0).await;
    let tls = ClientTlsConfig::new().domain_name("drover-controller");
    let tls = tls.ca_certificate(Certificate::from_pem(there.controllers("ca.crt")));
    let endpoint = Endpoint::from_shared(format!("https://{}", there.address())).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();

    let ask = v1::ServerReflectionRequest {
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(names.iter().any(|name| name == "drover.v1.SessionService"), "{names:?}");

    let ask = v1alpha::ServerReflectionRequest {
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
        ..Default::default()
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}")
    };
    let older: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    let all_but_itself = |names: Vec<String>| -> Vec<_> {
        names.into_iter().filter(|name| !name.starts_with("grpc.reflection.")).collect()
    };
    assert_eq!(all_but_itself(older), all_but_itself(names));
}
