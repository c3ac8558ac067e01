//! `droverctl logs -f` as a person has it open: what it has printed until now, and how it ends.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};

use crate::installation::Installation;
use crate::patience::eventually;

/// Killed if the test fails before it has ended.
#[derive(Debug)]
pub struct Follower {
    child: Child,
    output: PathBuf,
}

impl Follower {
    pub fn start(there: &Installation, session: &str) -> Self {
        let output = there.path(&format!("{session}.followed"));
        let mut command = there.droverctl(&["logs", session, "-f"]);
        command.stdout(File::create(&output).unwrap()).stderr(Stdio::null());
        Self { child: command.spawn().unwrap(), output }
    }

    pub fn printed(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap()
    }

    pub fn lines(&self) -> usize {
        self.printed().lines().count()
    }

    /// Waits for so many more lines.
    pub async fn sees_more(&self, lines: usize) {
        let goal = self.lines() + lines;
        eventually("the follower sees more", || async { (self.lines() >= goal).then_some(()) }).await;
    }

    /// Waits until it ends by itself.
    pub async fn end(&mut self) -> ExitStatus {
        eventually("droverctl ends with the run", || {
            let status = self.child.try_wait().unwrap();
            async move { status }
        })
        .await
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
