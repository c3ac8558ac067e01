//! Variables of a run's environment: `--env`, whose values everybody who may look sees, and the lines of `--env-file`,
//! whose values are secrets and never shown again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::cli::values::Pair;
use crate::error::{Exit, Failure};

/// Pairs as a map; the same key twice is a mistake.
pub fn unique(option: &str, pairs: &[Pair]) -> Result<BTreeMap<String, String>, Failure> {
    let mut map = BTreeMap::new();
    for Pair { key, value } in pairs {
        if map.insert(key.clone(), value.clone()).is_some() {
            return Err(Failure::new(Exit::Usage, format!("{option} gives {key} twice")));
        }
    }
    Ok(map)
}

/// The variables of all files; a later file wins. Every line that cannot be read is named.
pub fn of_files<P: AsRef<Path>>(paths: &[P]) -> Result<BTreeMap<String, String>, Failure> {
    let mut variables = BTreeMap::new();
    for path in paths.iter().map(AsRef::as_ref) {
        let text = fs::read_to_string(path).map_err(|error| {
            Failure::new(Exit::Usage, "cannot read the file of variables").at(path.display()).why(error)
        })?;
        variables.extend(of_text(&text).map_err(|wrong| {
            let failure =
                Failure::new(Exit::Usage, "the file of variables is not as it must be").at(path.display());
            wrong.into_iter().fold(failure, Failure::why).next("a line is KEY=VALUE, or a comment after #")
        })?);
    }
    Ok(variables)
}

/// One variable on each line, its value as it stands there. The values are secrets: none is repeated in a message.
fn of_text(text: &str) -> Result<BTreeMap<String, String>, Vec<String>> {
    let (mut variables, mut wrong) = (BTreeMap::new(), Vec::new());
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        match line.split_once('=') {
            Some((key, value)) if is_name(key) => {
                if variables.insert(key.to_owned(), value.to_owned()).is_some() {
                    wrong.push(format!("line {number}: {key} is there twice"));
                }
            }
            Some(_) => wrong.push(format!("line {number}: what is before the = is not a variable's name")),
            None => wrong.push(format!("line {number}: there is no =")),
        }
    }
    if wrong.is_empty() { Ok(variables) } else { Err(wrong) }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_as_they_stand() {
        let text = "# a comment\n\nA=1\n  B = x\nexport C=a=b # not a comment\nD=\nE=\"quoted\"";
        let read = of_text(&text.replace("B = x", "B= x")).unwrap();
        let pairs: Vec<_> = read.iter().map(|(key, value)| format!("{key}[{value}]")).collect();
        assert_eq!(pairs, ["A[1]", "B[ x]", "C[a=b # not a comment]", "D[]", "E[\"quoted\"]"]);
    }

    #[test]
    fn every_wrong_line_is_named_without_its_secret() {
        let wrong = of_text("A=1\nsecret\n1X=secret\nA=secret").unwrap_err();
        assert_eq!(wrong.len(), 3);
        assert!(wrong.iter().all(|line| !line.contains("secret")), "{wrong:?}");
        assert!(wrong[0].starts_with("line 2"), "{wrong:?}");
    }

    #[test]
    fn a_key_that_is_given_twice_is_refused() {
        let pair = |value: &str| Pair { key: "A".into(), value: value.into() };
        assert!(unique("--env", &[pair("1"), pair("2")]).is_err());
    }
}
