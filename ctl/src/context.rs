//! Which controller a command speaks to, and as whom: flags, then the environment, then the file of contexts. A
//! context's token is only ever shown to whoever proves to be of that context's authority.

pub mod file;

use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::Global;
use crate::error::{Exit, Failure};
use file::{Contexts, Entry};

/// A controller, and how to speak to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// `https://HOST:PORT`
    pub address: String,
    /// The authority to trust, PEM.
    pub ca: String,
    pub token: String,
    /// The context that it is from, if it is from one.
    pub context: Option<String>,
}

impl Target {
    /// What the flags and the file of contexts come to.
    pub fn find(global: &Global) -> Result<Self, Failure> {
        let path = file::path(global)?;
        let contexts = Contexts::read(&path)?;
        let named = chosen(global, &contexts, &path)?;
        let entry = named.and_then(|name| contexts.contexts.get(name));
        let missing = |what: &str, how: &str| {
            Err(Failure::new(Exit::Usage, format!("--server is given, but no {what}")).next(how))
        };
        let Some(server) = global.server.as_deref().or(entry.map(|entry| entry.address.as_str())) else {
            return Err(none_known());
        };
        let ca = match (&global.ca, entry) {
            (Some(file), _) => read(file)?,
            (None, Some(entry)) => entry.ca.clone(),
            (None, None) => {
                return missing("authority to trust", "add --ca FILE, the controller's CA certificate");
            }
        };
        let kept = entry.filter(|_| global.ca.is_none()).map(|entry| entry.token.clone());
        let Some(token) = global.token.clone().or(kept) else {
            return missing("token for it", "add --token, or set DROVER_TOKEN");
        };
        Ok(Self {
            address: address(server)?,
            ca,
            token: token.trim().to_owned(),
            context: named.map(str::to_owned),
        })
    }

    /// Where it is, for a person.
    pub fn place(&self) -> String {
        match &self.context {
            Some(context) => format!("{} (context {context})", self.address),
            None => self.address.clone(),
        }
    }

    /// What to do if it cannot be reached.
    pub fn advice(&self) -> &'static str {
        match self.context.as_deref() {
            Some(name) if name == "dev" || name.starts_with("dev-") => {
                "is it running? `droverctl dev` starts it, in another terminal"
            }
            _ => "is the controller running, and is the address right? droverctl context ls",
        }
    }
}

/// The project that plain names belong to: the flag's, the context's, or none.
pub fn project(global: &Global) -> Result<Option<String>, Failure> {
    if global.project.is_some() {
        return Ok(global.project.clone());
    }
    let path = file::path(global)?;
    let contexts = Contexts::read(&path)?;
    let name = chosen(global, &contexts, &path)?;
    Ok(name.and_then(|name| contexts.contexts.get(name)).and_then(|entry| entry.project.clone()))
}

/// A new context of what the flags say.
pub fn entry(global: &Global, token: Option<String>) -> Result<Entry, Failure> {
    let need = |what: &str| {
        Failure::new(Exit::Usage, format!("a context needs {what}")).next("droverctl context add --help")
    };
    let server = global.server.as_deref().ok_or_else(|| need("an address: --server HOST:PORT"))?;
    let ca = global.ca.as_deref().ok_or_else(|| need("an authority to trust: --ca FILE"))?;
    let token = token.or_else(|| global.token.clone());
    let token = token.ok_or_else(|| need("a token: --token-file FILE, or DROVER_TOKEN"))?;
    let ca_text = read(ca)?;
    if !ca_text.contains("-----BEGIN CERTIFICATE-----") {
        return Err(Failure::new(Exit::Usage, "that is not a certificate")
            .at(ca.display())
            .next("it must be PEM"));
    }
    let project = global.project.clone();
    Ok(Entry { address: address(server)?, ca: ca_text, token: token.trim().to_owned(), project })
}

fn chosen<'a>(global: &'a Global, contexts: &'a Contexts, path: &Path) -> Result<Option<&'a str>, Failure> {
    let name = match (&global.context, &contexts.current) {
        (Some(name), _) => name,
        (None, Some(name)) => name,
        (None, None) => return Ok(None),
    };
    if contexts.contexts.contains_key(name) {
        return Ok(Some(name));
    }
    Err(Failure::new(Exit::NotFound, format!("there is no context '{name}'"))
        .at(path.display())
        .next("droverctl context ls lists the contexts"))
}

fn none_known() -> Failure {
    Failure::new(Exit::Usage, "no controller is known yet")
        .next("`droverctl dev` starts one on this machine")
        .next("`droverctl context add` makes another one known")
}

/// `HOST:PORT` or `https://HOST:PORT`, as the latter.
fn address(text: &str) -> Result<String, Failure> {
    let wrong = |why: &str| {
        Failure::new(Exit::Usage, format!("'{text}' is not a controller's address"))
            .why(why)
            .next("write it like drover.example.org:7443")
    };
    let rest = match text.split_once("://") {
        Some(("https", rest)) => rest,
        Some(_) => return Err(wrong("the only scheme is https")),
        None => text,
    };
    let rest = rest.trim_end_matches('/');
    let (host, port) = rest.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
    if port.parse::<u16>().is_err() {
        return Err(wrong("its port is not a number up to 65535"));
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if bare.is_empty() || !bare.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:".contains(&b)) {
        return Err(wrong("its host is not a name or an IP address"));
    }
    Ok(format!("https://{host}:{port}"))
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path)
        .map_err(|error| Failure::new(Exit::Usage, "cannot read the file").at(path.display()).why(error))
}

/// A directory of the XDG kind: from the environment if it is absolute there, or else under the home directory.
pub fn xdg(variable: &str, under_home: &str) -> Result<PathBuf, Failure> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(under_home))).ok_or_else(|| {
        Failure::new(Exit::Usage, "there is no home directory")
            .why(format!("neither HOME nor {variable} is an absolute path"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port_and_only_one_scheme() {
        let table = [
            ("127.0.0.1:7443", Some("https://127.0.0.1:7443")),
            ("https://drover.example.org:7443/", Some("https://drover.example.org:7443")),
            ("[::1]:7443", Some("https://[::1]:7443")),
            ("http://h:1", None),
            ("host", None),
            ("host:port", None),
            ("host:70000", None),
            (":7443", None),
            ("a b:1", None),
            ("user@host:1", None),
        ];
        for (text, expected) in table {
            assert_eq!(address(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_contexts_token_is_not_shown_to_another_authority() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.toml");
        let ca = dir.path().join("ca.pem");
        fs::write(&ca, "-----BEGIN CERTIFICATE-----").unwrap();
        let entry =
            Entry { address: "https://h:1".into(), ca: "old".into(), token: "secret".into(), project: None };
        file::change(&config, |contexts| {
            contexts.contexts.insert("a".into(), entry);
            contexts.current = Some("a".into());
            Ok(())
        })
        .unwrap();
        let global = Global { config: Some(config), ..Global::default() };
        assert!(Target::find(&global).is_ok_and(|target| target.token == "secret"));
        let elsewhere = Global { server: Some("other:1".into()), ..global.clone() };
        assert!(Target::find(&elsewhere).is_ok_and(|target| target.ca == "old"));
        let foreign = Global { ca: Some(ca), ..elsewhere };
        assert!(Target::find(&foreign).is_err());
    }
}
