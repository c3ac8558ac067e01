//! `droverctl rm`: says what a removal would find, asks if work would have to be saved, removes, and says what was kept.

use drover_proto::v1::{DeleteSessionRequest, ListSessionsResponse, RemovalPreview, Session};

use super::consent::{self, Deed};
use super::{Invocation, present};
use crate::cli::RmArgs;
use crate::client::{Api, Client, requests};
use crate::error::{Exit, Failure};
use crate::follow::{Goal, Patience, until};
use crate::output::sanitise::line;
use crate::output::sessions::{kept, title};

const DEED: Deed = Deed {
    saving: "Save the work and remove it?",
    stopping: "Stop and remove it?",
    yes: "--yes saves the work and removes the session",
};

pub async fn rm(invocation: &Invocation, args: RmArgs) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    let project = invocation.project()?;
    let removal = Removal { invocation, client: &client, args: &args, project };
    let mut failed = None;
    let mut removed = ListSessionsResponse::default();
    // All are ordered before any is waited for: removals on different nodes go on at the same time.
    let mut ordered = Vec::new();
    for session in &args.sessions {
        match removal.order(session).await {
            Ok(Some(session)) => ordered.push(session),
            Ok(None) => {}
            Err(failure) => removal.keep_first(&mut failed, failure),
        }
    }
    for session in ordered {
        match removal.finish(session).await {
            Ok(session) => removed.sessions.push(session),
            Err(failure) => removal.keep_first(&mut failed, failure),
        }
    }
    invocation.out.result(&removed)?;
    failed.map_or(Ok(0), Err)
}

struct Removal<'a> {
    invocation: &'a Invocation,
    client: &'a Client,
    args: &'a RmArgs,
    project: String,
}

impl Removal<'_> {
    /// Asks if that is needed, and has the removal recorded. Nothing: the person said no, or only wanted to know.
    async fn order(&self, session: &str) -> Result<Option<Session>, Failure> {
        if self.args.dry_run || !self.args.yes {
            let (found, preview) = self.preview(session).await?;
            if self.args.dry_run {
                consent::tell(&self.invocation.out, &found, &preview, "would be removed:");
                return Ok(None);
            }
            if !consent::is_agreed(&self.invocation.out, &found, &preview, DEED).await? {
                self.invocation.out.note(format!("{} is left as it is", title(&found)));
                return Ok(None);
            }
        }
        let request = self.request(session, false);
        self.call(request).await.map(|(session, _)| Some(session))
    }

    async fn preview(&self, session: &str) -> Result<(Session, RemovalPreview), Failure> {
        let (found, preview) =
            self.call(self.request(session, true)).await.map_err(|failure| match failure.exit {
                Exit::Unavailable => {
                    failure.next("--yes removes it without a look, saving its work, once its node is there")
                }
                _ => failure,
            })?;
        Ok((found, preview.unwrap_or_default()))
    }

    /// Waits until it is gone, and says what was kept.
    async fn finish(&self, session: Session) -> Result<Session, Failure> {
        let out = &self.invocation.out;
        if self.args.wait.no_wait {
            out.note(format!("{} will be removed", title(&session)));
            return Ok(session);
        }
        let patience = Patience::from(&self.args.wait);
        let session = until(self.invocation, self.client, session, Goal::Removed, patience).await?;
        out.note(format!("{} is removed", title(&session)));
        for text in kept(&session).lines() {
            let kept = if text.starts_with("branch ") { "kept " } else { "" };
            out.note(format!("  {kept}{}", line(text)));
        }
        if session.kept.as_ref().is_some_and(|kept| !kept.trash.is_empty()) {
            out.note(format!("  `droverctl trash restore {}` brings it back", title(&session)));
        }
        Ok(session)
    }

    fn request(&self, session: &str, validate_only: bool) -> DeleteSessionRequest {
        DeleteSessionRequest {
            request_id: self.request_id(session, validate_only),
            session: session.to_owned(),
            project: self.project.clone(),
            keep_branch: self.args.keep_branch,
            force: self.args.force,
            validate_only,
        }
    }

    /// A given id stands for all that is named: each session has its own, made of both.
    fn request_id(&self, session: &str, validate_only: bool) -> String {
        match (&self.args.change.request_id, validate_only) {
            (Some(id), false) if self.args.sessions.len() > 1 => format!("{id}/{session}"),
            (Some(id), false) => id.clone(),
            _ => requests::id(&Default::default()),
        }
    }

    async fn call(
        &self,
        request: DeleteSessionRequest,
    ) -> Result<(Session, Option<RemovalPreview>), Failure> {
        let call = |mut api: Api, request| async move { api.sessions.delete_session(request).await };
        let answer = self.client.call(request, call).await?;
        Ok((present(answer.session, "session")?, answer.preview))
    }

    /// The first failure decides the exit code; the others are said at once.
    fn keep_first(&self, first: &mut Option<Failure>, failure: Failure) {
        match first {
            None => *first = Some(failure),
            Some(_) => self.invocation.out.error(&failure.to_string()),
        }
    }
}
