//! Questions to a person, on standard error, answered by a line on standard input.

use std::io::{self, BufRead, Write};

use tokio::task::spawn_blocking;

use crate::error::{Exit, Failure};

/// The answer to a question; nothing if the input ended.
pub async fn ask(question: &str) -> Result<String, Failure> {
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question} ")?;
    stderr.flush()?;
    drop(stderr);
    let read = || {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_| line)
    };
    let line =
        spawn_blocking(read).await.map_err(|error| Failure::new(Exit::Failed, "cannot ask").why(error))?;
    Ok(line?.trim().to_ascii_lowercase())
}

/// Whether the answer is yes; no answer is no.
pub async fn confirm(question: &str) -> Result<bool, Failure> {
    let answer = ask(&format!("{question} [y/N]")).await?;
    Ok(matches!(answer.as_str(), "y" | "yes"))
}
