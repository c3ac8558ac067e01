//! The accounts of this machine, as far as runs need them: who a name is, and which groups it is in.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use thiserror::Error;

use crate::git::runner::Account;
use crate::shim::record::User;

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    #[error("there is no user '{0}' on this machine")]
    Unknown(String),
    #[error("the groups of user '{name}' cannot be told: {why}")]
    Groups { name: String, why: String },
    #[error("the agent runs as user {own} and cannot run anything as '{name}'")]
    NotRoot { name: String, own: u32 },
}

/// The account of this name.
pub fn find(name: &str) -> Result<Account, Error> {
    let local = fs::read_to_string(Path::new("/etc/passwd")).unwrap_or_default();
    // Directories of users (LDAP and the like) are asked by the system's own program.
    let found = entry(&local, name).or_else(|| entry(&run("getent", &["passwd", "--", name]).ok()?, name));
    found.ok_or_else(|| Error::Unknown(name.to_owned()))
}

/// What a supervisor needs to become this account; none: it is already.
pub(super) fn user(account: &Account) -> Result<Option<User>, Error> {
    let own = rustix::process::geteuid().as_raw();
    if own == account.uid {
        return Ok(None);
    }
    let name = account.name.clone();
    if own != 0 {
        return Err(Error::NotRoot { name, own });
    }
    let failed = |why| Error::Groups { name: account.name.clone(), why };
    let text = run("id", &["-G", "--", &name]).map_err(failed)?;
    let groups: Result<_, _> = text.split_whitespace().map(str::parse).collect();
    let groups = groups.map_err(|_| failed(format!("id says '{}'", text.trim())))?;
    Ok(Some(User { name, uid: account.uid, gid: account.gid, groups }))
}

/// name:password:uid:gid:comment:home:shell
fn entry(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let [found, _, uid, gid, _, home, ..] = fields.as_slice() else { return None };
        (*found == name).then_some(())?;
        Some(Account {
            name: name.to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home: home.into(),
        })
    })
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_their_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nrooty:x:7:8::/home/r:/bin/sh\nbad\n";
        let found = entry(passwd, "rooty").unwrap();
        assert_eq!((found.uid, found.gid, found.home.to_str()), (7, 8, Some("/home/r")));
        assert_eq!(entry(passwd, "roo"), None);
        assert_eq!(find("no-such-user"), Err(Error::Unknown("no-such-user".into())));
        assert_eq!(find("root").unwrap().uid, 0);
    }

    #[test]
    fn nobody_needs_to_become_who_he_is() {
        let own = rustix::process::geteuid().as_raw();
        let account = Account { name: "me".into(), uid: own, gid: 0, home: "/".into() };
        assert_eq!(user(&account), Ok(None));
    }
}
