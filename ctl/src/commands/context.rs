//! `droverctl context`: the controllers that this program knows.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::json;

use super::Invocation;
use crate::cli::{ContextAdd, ContextCommand, ContextName};
use crate::context::file::{Contexts, change, checked, path};
use crate::error::{Exit, Failure};
use crate::output::table::{Row, table};

pub fn context(invocation: &Invocation, command: ContextCommand) -> Result<u8, Failure> {
    match command {
        ContextCommand::Ls => list(invocation)?,
        ContextCommand::Add(args) => add(invocation, &args)?,
        ContextCommand::Use(args) => choose(invocation, &args)?,
        ContextCommand::Rm(args) => remove(invocation, &args)?,
    }
    Ok(0)
}

fn list(invocation: &Invocation) -> Result<(), Failure> {
    let contexts = Contexts::read(&path(&invocation.global)?)?;
    let current = |name: &String| contexts.current.as_ref() == Some(name);
    let rows: Vec<Row> = contexts
        .contexts
        .iter()
        .map(|(name, entry)| Row {
            cells: vec![
                if current(name) { "*" } else { "" }.to_owned(),
                name.clone(),
                entry.address.clone(),
                entry.project.clone().unwrap_or_default(),
            ],
            style: anstyle::Style::new(),
        })
        .collect();
    let values: Vec<_> = contexts
        .contexts
        .iter()
        .map(|(name, entry)| {
            json!({ "name": name, "address": entry.address, "project": entry.project, "current": current(name) })
        })
        .collect();
    let names: Vec<String> = contexts.contexts.keys().cloned().collect();
    let shown = table(&invocation.out.look(), &["CURRENT", "NAME", "ADDRESS", "PROJECT"], &rows);
    invocation.out.local(&json!({ "contexts": values }), shown, &names)?;
    Ok(())
}

fn add(invocation: &Invocation, args: &ContextAdd) -> Result<(), Failure> {
    let name = checked(&args.name)?;
    let token = args.token_file.as_deref().map(token).transpose()?;
    let entry = crate::context::entry(&invocation.global, token)?;
    let is_current = change(&path(&invocation.global)?, |contexts| {
        contexts.contexts.insert(name.clone(), entry);
        Ok(contexts.current.get_or_insert_with(|| name.clone()) == &name)
    })?;
    let current = if is_current { ", and it is the current one" } else { "" };
    invocation.out.note(format!("context '{name}' is known{current}"));
    Ok(())
}

fn choose(invocation: &Invocation, args: &ContextName) -> Result<(), Failure> {
    change(&path(&invocation.global)?, |contexts| {
        known(contexts, &args.name)?;
        contexts.current = Some(args.name.clone());
        Ok(())
    })?;
    invocation.out.note(format!("context '{}' is the current one", args.name));
    Ok(())
}

fn remove(invocation: &Invocation, args: &ContextName) -> Result<(), Failure> {
    let was_current = change(&path(&invocation.global)?, |contexts| {
        known(contexts, &args.name)?;
        contexts.contexts.remove(&args.name);
        let was_current = contexts.current.as_ref() == Some(&args.name);
        contexts.current.take_if(|_| was_current);
        Ok(was_current)
    })?;
    let rest = if was_current {
        "; it was the current one: choose another with `droverctl context use`"
    } else {
        ""
    };
    invocation.out.note(format!("context '{}' is forgotten{rest}", args.name));
    Ok(())
}

fn known(contexts: &Contexts, name: &str) -> Result<(), Failure> {
    if contexts.contexts.contains_key(name) {
        return Ok(());
    }
    let unknown = Failure::new(Exit::NotFound, format!("there is no context '{name}'"));
    Err(unknown.next("droverctl context ls lists the contexts"))
}

fn token(file: &Path) -> Result<String, Failure> {
    let read = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(file)
    };
    let text = read
        .map_err(|error| Failure::new(Exit::Usage, "cannot read the token").at(file.display()).why(error))?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(Failure::new(Exit::Usage, "that is not a token")
            .at(file.display())
            .why("it must be one word"));
    }
    Ok(token.to_owned())
}
