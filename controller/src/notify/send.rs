//! How a message gets out: to a command's standard input, or by POST to a webhook, signed with a shared secret. Either has a
//! deadline, and neither sees anything of the controller's environment or secrets.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use ring::hmac;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;

use crate::random::hex;

/// How long one delivery may take.
const DEADLINE: Duration = Duration::from_secs(30);
const LONGEST_LINE: usize = 4096;

/// Whom to tell.
#[derive(Clone, Debug)]
pub enum Sink {
    /// A program and its arguments; it gets the message on its standard input, and answers with its exit code.
    Command(Vec<String>),
    Webhook(Webhook),
}

#[derive(Clone)]
pub struct Webhook {
    pub url: Uri,
    /// What the signature is made with.
    pub secret: Arc<str>,
    /// An authority to trust beside the system's.
    pub ca: Option<PathBuf>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Sink {
    /// As a person knows it. What a URL has after its host may be a secret.
    pub fn place(&self) -> String {
        match self {
            Self::Command(words) => words.first().cloned().unwrap_or_default(),
            Self::Webhook(webhook) => webhook.url.host().unwrap_or_default().to_owned(),
        }
    }

    pub(super) async fn send(&self, body: &[u8]) -> Result<(), String> {
        let sent = async {
            match self {
                Self::Command(words) => run(words, body).await,
                Self::Webhook(webhook) => post(webhook, body).await,
            }
        };
        let late = || Err(format!("it took longer than {} s", DEADLINE.as_secs()));
        tokio::time::timeout(DEADLINE, sent).await.unwrap_or_else(|_| late())
    }
}

async fn run(words: &[String], body: &[u8]) -> Result<(), String> {
    let told = |error: std::io::Error| error.to_string();
    let [program, arguments @ ..] = words else { return Err("no command is configured".into()) };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    let mut child = command.kill_on_drop(true).process_group(0).spawn().map_err(told)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read it all may be content with its beginning: its exit code tells.
        let _ = stdin.write_all(body).await;
    }
    let status = child.wait().await.map_err(told)?;
    if status.success() { Ok(()) } else { Err(format!("it ended with {status}")) }
}

async fn post(webhook: &Webhook, body: &[u8]) -> Result<(), String> {
    let host = webhook.url.host().ok_or("its URL has no host")?;
    let is_secure = webhook.url.scheme_str() == Some("https");
    let port = webhook.url.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let stream =
        TcpStream::connect((host.trim_matches(['[', ']']), port)).await.map_err(|error| error.to_string())?;
    if !is_secure {
        return exchange(webhook, body, stream).await;
    }
    let name =
        ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|error| error.to_string())?;
    let secure = TlsConnector::from(trust(webhook)?).connect(name, stream).await;
    exchange(webhook, body, secure.map_err(|error| error.to_string())?).await
}

/// The system's authorities, and the one that was named.
fn trust(webhook: &Webhook) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &webhook.ca {
        let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        for certificate in
            rustls_pki_types::CertificateDer::pem_file_iter(path).map_err(|error| told(&error))?
        {
            roots.add(certificate.map_err(|error| told(&error))?).map_err(|error| told(&error))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// One request and the first line of its answer, which says it all.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    webhook: &Webhook,
    body: &[u8],
    mut stream: S,
) -> Result<(), String> {
    let told = |error: std::io::Error| error.to_string();
    let path = webhook.url.path_and_query().map_or("/", |path| path.as_str());
    let authority = webhook.url.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: drover-controller/{}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\
         x-drover-signature-256: {}\r\n\r\n",
        env!("CARGO_PKG_VERSION"),
        body.len(),
        signature(&webhook.secret, body)
    );
    stream.write_all(head.as_bytes()).await.map_err(told)?;
    stream.write_all(body).await.map_err(told)?;
    stream.flush().await.map_err(told)?;
    let mut answer = Vec::new();
    while !answer.contains(&b'\n') && answer.len() < LONGEST_LINE {
        let mut piece = [0; 256];
        match stream.read(&mut piece).await.map_err(told)? {
            0 => break,
            length => answer.extend(piece.iter().take(length)),
        }
    }
    let line = String::from_utf8_lossy(&answer);
    let line = line.lines().next().unwrap_or_default();
    let code = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse::<u16>().ok());
    match code {
        Some(200..=299) => Ok(()),
        Some(code) => Err(format!("it answered {code}")),
        None => Err(format!("it answered {line:?}, which is not HTTP")),
    }
}

/// `sha256=` and the HMAC of the body, in hex.
fn signature(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("sha256={}", hex(hmac::sign(&key, body).as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_that_everybody_computes() {
        // RFC 4231, test case 2.
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature("Jefe", b"what do ya want for nothing?"), expected);
    }

    #[tokio::test]
    async fn a_command_gets_the_message_and_its_code_is_the_answer() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("got");
        let sink = |script: String| Sink::Command(vec!["sh".into(), "-c".into(), script]);
        let keep =
            sink(format!("cat > {}; env | grep -c SECRET_OF_CONTROLLER && exit 9; exit 0", file.display()));
        keep.send(b"hello").await.unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"hello");
        assert!(sink("exit 3".into()).send(b"x").await.unwrap_err().contains('3'));
        assert!(Sink::Command(vec!["/nonexistent/x".into()]).send(b"x").await.is_err());
    }

    #[tokio::test]
    async fn a_webhook_gets_a_signed_post_and_only_success_is_success() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = drover_daemon::tasks::Tasks::new().spawn(async move {
            let mut seen = Vec::new();
            for answer in ["HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 204 Yes\r\n\r\n"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut text = Vec::new();
                while !text.ends_with(b"{}") {
                    let mut piece = [0; 512];
                    let length = stream.read(&mut piece).await.unwrap();
                    text.extend_from_slice(&piece[..length]);
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
                seen.push(String::from_utf8(text).unwrap());
            }
            seen
        });
        let url = format!("http://{address}/hook?x=1").parse().unwrap();
        let sink = Sink::Webhook(Webhook { url, secret: "s".into(), ca: None });
        assert!(sink.send(b"{}").await.unwrap_err().contains("500"));
        sink.send(b"{}").await.unwrap();
        for request in server.await.unwrap() {
            assert!(request.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{request}");
            assert!(request.contains(&signature("s", b"{}")), "{request}");
        }
        assert_eq!(sink.place(), "127.0.0.1");
    }
}
