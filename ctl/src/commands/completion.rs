//! `droverctl completion`: a script for the person's shell.

use std::io::Write;

use crate::cli::{CompletionArgs, completions};
use crate::error::Failure;

pub fn completion(args: CompletionArgs) -> Result<u8, Failure> {
    std::io::stdout().lock().write_all(&completions(args.shell))?;
    Ok(0)
}
