//! `droverctl reset`: stops a session and forgets its troubles; `--hard` has its workspace made anew, once the work in the
//! old one is saved, and asks before it does that.

use drover_proto::v1::{RemovalPreview, ResetSessionRequest, ResetSessionResponse, Session};

use super::consent::{self, Deed};
use super::{Invocation, present};
use crate::cli::ResetArgs;
use crate::client::{Api, Client, requests};
use crate::error::{Exit, Failure};
use crate::follow::{Goal, until};
use crate::output::sanitise::line;
use crate::output::sessions::{detail, title};

const DEED: Deed = Deed {
    saving: "Save the work and make the workspace anew?",
    stopping: "Stop it and make the workspace anew?",
    yes: "--yes saves the work and makes the workspace anew",
};

pub async fn reset(invocation: &Invocation, args: ResetArgs) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    let project = invocation.project()?;
    let reset = Reset { invocation, client: &client, args: &args, project };
    if args.dry_run {
        return reset.rehearse().await;
    }
    if args.hard && !args.yes {
        let (session, preview) = reset.preview().await?;
        if !consent::is_agreed(&invocation.out, &session, &preview, DEED).await? {
            invocation.out.note(format!("{} is left as it is", title(&session)));
            return Ok(0);
        }
    }
    let session = present(reset.call(false).await?.session, "session")?;
    let session = reset.finish(session).await?;
    invocation.out.result(&session)?;
    Ok(0)
}

struct Reset<'a> {
    invocation: &'a Invocation,
    client: &'a Client,
    args: &'a ResetArgs,
    project: String,
}

impl Reset<'_> {
    async fn rehearse(&self) -> Result<u8, Failure> {
        let out = &self.invocation.out;
        let answer = self.call(true).await?;
        let session = present(answer.session.clone(), "session")?;
        match &answer.preview {
            Some(preview) => {
                consent::tell(out, &session, preview, "would be made anew:");
                out.note(line(&format!("  {}", beginning(&session))));
            }
            None => out.note(format!("{} would be stopped; its workspace would stay", title(&session))),
        }
        out.result(&answer)?;
        Ok(0)
    }

    async fn preview(&self) -> Result<(Session, RemovalPreview), Failure> {
        let answer = self.call(true).await.map_err(|failure| match failure.exit {
            Exit::Unavailable => {
                failure.next("--yes resets it without a look, saving its work, once its node is there")
            }
            _ => failure,
        })?;
        Ok((present(answer.session, "session")?, answer.preview.unwrap_or_default()))
    }

    /// Waits until it is ready, and says how it stands.
    async fn finish(&self, session: Session) -> Result<Session, Failure> {
        let out = &self.invocation.out;
        let is_anew = self.args.hard && session.workspace.is_some();
        if self.args.wait.no_wait {
            let will = if is_anew { "its workspace will be made anew" } else { "it will be ready" };
            out.note(format!("{}: {will}", title(&session)));
            return Ok(session);
        }
        let patience = (&self.args.wait).into();
        let session = until(self.invocation, self.client, session, Goal::Ready, patience).await?;
        let name = title(&session);
        if is_anew {
            out.note(line(&format!("{name} is ready: {}", beginning(&session))));
            out.note(format!("`droverctl trash ls --session {name}` shows what was saved"));
        } else {
            out.note(line(&format!("{name} is ready: {}", detail(&session, &out.look()))));
        }
        Ok(session)
    }

    async fn call(&self, validate_only: bool) -> Result<ResetSessionResponse, Failure> {
        let request_id = match validate_only {
            true => requests::id(&Default::default()),
            false => requests::id(&self.args.change),
        };
        let request = ResetSessionRequest {
            request_id,
            session: self.args.session.clone(),
            project: self.project.clone(),
            hard: self.args.hard,
            validate_only,
        };
        let call = |mut api: Api, request| async move { api.sessions.reset_session(request).await };
        self.client.call(request, call).await
    }
}

/// What its new workspace begins with.
fn beginning(session: &Session) -> String {
    let workspace = session.workspace.clone().unwrap_or_default();
    let base = session.spec.as_ref().map(|spec| spec.base.clone()).filter(|base| !base.is_empty());
    let base = base.map(|base| format!(" ({base})")).unwrap_or_default();
    format!("its workspace begins anew at {}{base}", workspace.base_commit)
}
