//! `droverctl rm`: says what a removal would find, asks if work would have to be saved, removes, and says what was kept.
//! Saving cannot be switched off; only the question can.

use drover_proto::v1::{DeleteSessionRequest, ListSessionsResponse, RemovalPreview, Session};

use super::{Invocation, present};
use crate::cli::RmArgs;
use crate::client::{Api, Client, requests};
use crate::error::{Exit, Failure};
use crate::follow::{Goal, Patience, until};
use crate::output::sanitise::line;
use crate::output::sessions::{kept, preview, title};
use crate::prompt;

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
                self.tell(&found, &preview, "would be removed:");
                return Ok(None);
            }
            if !self.is_agreed(&found, &preview).await? {
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

    async fn is_agreed(&self, session: &Session, preview: &RemovalPreview) -> Result<bool, Failure> {
        let is_worth_a_word = preview.stops_run && self.invocation.out.can_ask();
        if !preview.saves_work && !is_worth_a_word {
            return Ok(true);
        }
        self.tell(session, preview, "has:");
        if !self.invocation.out.can_ask() {
            let what = format!("session '{}' has work that would have to be saved first", title(session));
            return Err(Failure::new(Exit::Conflict, what)
                .why("there is no terminal to ask on")
                .next("--yes saves the work and removes the session")
                .next(format!("droverctl diff {} shows the work", title(session))));
        }
        let how = if preview.saves_work { "Save the work and remove it?" } else { "Stop and remove it?" };
        prompt::confirm(how).await
    }

    fn tell(&self, session: &Session, found: &RemovalPreview, how: &str) {
        self.invocation.out.note(format!("{} {how}", title(session)));
        for text in preview(found) {
            self.invocation.out.note(format!("  {}", line(&text)));
        }
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
