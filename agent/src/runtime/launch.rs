//! Starting a supervisor. It makes itself nobody's child and keeps a pipe open until it has come to the command.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::Command;
use tokio::time::timeout;

use crate::shim;
use crate::shim::record::RunDirectory;

const PATIENCE: Duration = Duration::from_secs(30);
const MOST_SAID: u64 = 4 * 1024;

/// Returns what it says, which is nothing if all is well. It gets no part of the agent's environment.
pub(super) async fn launch(program: &Path, directory: &RunDirectory) -> io::Result<String> {
    let (heard, say) = io::pipe()?;
    // Without a closure before exec and in a group, so that the agent's memory is not copied for it.
    let mut child = Command::new(program)
        .arg(shim::COMMAND)
        .arg(directory.path())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(say.try_clone()?)
        .stderr(say)
        .process_group(0)
        .spawn()?;
    let mut said = Vec::new();
    let heard = Receiver::from_owned_fd(heard.into())?;
    let hear = async {
        heard.take(MOST_SAID).read_to_end(&mut said).await?;
        child.wait().await
    };
    match timeout(PATIENCE, hear).await {
        Ok(result) => result.map(drop)?,
        Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not come to the command")),
    }
    Ok(String::from_utf8_lossy(&said).trim().to_owned())
}
