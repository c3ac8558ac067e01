//! Settings: flag, then `DROVER_*` environment, then file, then default. Every problem is found in one go and said with
//! its file and line; a key that nothing asked for is a problem too.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `file:line`, the variable or the flag.
    pub place: String,
    pub text: String,
}

/// Everything that is wrong with the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Problem { place, text }) in self.0.iter().enumerate() {
            write!(f, "{}{place}: {text}", if at == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Where settings come from. Ask for each, then [`Settings::finish`].
#[derive(Debug)]
pub struct Settings {
    path: PathBuf,
    text: String,
    environment: fn(&str) -> Option<String>,
    asked: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl Settings {
    /// From a file that must be there, or (`None`) from the environment and defaults alone.
    pub fn load(path: Option<&Path>) -> Self {
        let mut settings = Self {
            path: path.map(Path::to_owned).unwrap_or_default(),
            text: String::new(),
            environment: |name| std::env::var(name).ok().filter(|value| !value.is_empty()),
            asked: BTreeSet::new(),
            problems: Vec::new(),
        };
        if let Some(path) = path {
            match std::fs::read_to_string(path) {
                Ok(text) => settings.text = text,
                Err(error) => {
                    settings.problem(path.display().to_string(), format!("cannot be read: {error}"))
                }
            }
        }
        let (_, errors) = DeTable::parse_recoverable(&settings.text);
        for error in errors {
            let line = error.span().map_or(1, |span| line_of(&settings.text, span.start));
            settings.problems.push(Problem {
                place: format!("{}:{line}", path_text(path)),
                text: error.message().to_owned(),
            });
        }
        settings
    }

    /// A setting that is text, read by `parse`. `flag` wins over everything.
    pub fn get<T, E: fmt::Display>(
        &mut self,
        key: &str,
        flag: Option<String>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.asked.insert(key.to_owned());
        let (place, text) = self.find(key, flag)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(place, format!("{key} = {text:?}: {error}"));
                None
            }
        }
    }

    /// A list of texts: an array in the file, or texts with commas between them elsewhere.
    pub fn list(&mut self, key: &str, flags: &[String]) -> Vec<String> {
        self.asked.insert(key.to_owned());
        if !flags.is_empty() {
            return flags.to_vec();
        }
        if let Some(text) = (self.environment)(&variable(key)) {
            return text
                .split(',')
                .map(|part| part.trim().to_owned())
                .filter(|part| !part.is_empty())
                .collect();
        }
        match self.in_file(key, |value| {
            value.as_array().map(|array| array.iter().map(|item| scalar(item.get_ref())).collect::<Vec<_>>())
        }) {
            None => Vec::new(),
            Some((_, Some(items))) if items.iter().all(Option::is_some) => {
                let items: Vec<Option<String>> = items;
                items.into_iter().flatten().collect()
            }
            Some((line, _)) => {
                self.problem(self.place(line), format!("{key}: must be a list of texts"));
                Vec::new()
            }
        }
    }

    /// A problem that is found only when settings are looked at together.
    pub fn problem(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.problems.push(Problem { place: place.into(), text: text.into() });
    }

    /// The verdict: unknown keys too.
    pub fn finish(mut self) -> Result<(), Problems> {
        let (table, _) = DeTable::parse_recoverable(&self.text);
        let mut unknown = Vec::new();
        unknown_keys(table.get_ref(), "", &self.asked, &mut unknown);
        for (key, at) in unknown {
            let near = self.asked.iter().find(|known| alike(known, &key));
            let hint = near.map(|known| format!("; did you mean '{known}'?")).unwrap_or_default();
            self.problems.push(Problem {
                place: format!("{}:{}", self.path.display(), line_of(&self.text, at)),
                text: format!("unknown key '{key}'{hint}"),
            });
        }
        self.problems.sort_by_key(|problem| {
            problem.place.rsplit_once(':').and_then(|(_, line)| line.parse::<usize>().ok())
        });
        if self.problems.is_empty() { Ok(()) } else { Err(Problems(self.problems)) }
    }

    fn find(&mut self, key: &str, flag: Option<String>) -> Option<(String, String)> {
        if let Some(text) = flag {
            return Some((format!("--{}", key.replace(['_', '.'], "-")), text));
        }
        let variable = variable(key);
        if let Some(text) = (self.environment)(&variable) {
            return Some((variable, text));
        }
        match self.in_file(key, scalar)? {
            (line, Some(text)) => Some((self.place(line), text)),
            (line, None) => {
                self.problem(self.place(line), format!("{key}: must be a single value, not a list or table"));
                None
            }
        }
    }

    fn in_file<T>(&self, key: &str, read: impl Fn(&DeValue<'_>) -> Option<T>) -> Option<(usize, Option<T>)> {
        let (table, _) = DeTable::parse_recoverable(&self.text);
        let mut table = table.get_ref();
        let (sections, last) = key.rsplit_once('.').map_or(("", key), |(sections, last)| (sections, last));
        for section in sections.split('.').filter(|section| !section.is_empty()) {
            table = table.get(section)?.get_ref().as_table()?;
        }
        let (name, value): (&Spanned<_>, &Spanned<DeValue<'_>>) =
            table.iter().find(|(name, _)| name.get_ref().as_ref() == last)?;
        Some((line_of(&self.text, name.span().start), read(value.get_ref())))
    }

    fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }
}

/// `10s`, `1h30m`, `250ms`, `2d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("'{text}' is not a length of time such as 10s, 1h30m, 250ms or 2d");
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let count: u64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let word = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..word] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            "d" => Duration::from_secs(24 * 3600),
            _ => return Err(bad()),
        };
        total = u32::try_from(count)
            .ok()
            .and_then(|count| unit.checked_mul(count))
            .and_then(|length| total.checked_add(length))
            .ok_or_else(bad)?;
        rest = &rest[word..];
    }
    Ok(total)
}

fn variable(key: &str) -> String {
    format!("DROVER_{}", key.to_ascii_uppercase().replace('.', "_"))
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn unknown_keys(
    table: &DeTable<'_>,
    above: &str,
    asked: &BTreeSet<String>,
    found: &mut Vec<(String, usize)>,
) {
    for (name, value) in table.iter() {
        let key =
            if above.is_empty() { name.get_ref().to_string() } else { format!("{above}.{}", name.get_ref()) };
        let section = format!("{key}.");
        match value.get_ref().as_table() {
            Some(inner) if asked.iter().any(|known| known.starts_with(&section)) => {
                unknown_keys(inner, &key, asked, found)
            }
            _ if asked.contains(&key) => {}
            _ => found.push((key, name.span().start)),
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

fn path_text(path: Option<&Path>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

/// One letter more, less, or other.
fn alike(one: &str, other: &str) -> bool {
    let common = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let rest =
        |text: &str, skip: usize| text.get((common + skip).min(text.len())..).unwrap_or_default().to_owned();
    one.len().abs_diff(other.len()) <= 1
        && (rest(one, 1) == rest(other, 1)
            || rest(one, 1) == rest(other, 0)
            || rest(one, 0) == rest(other, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> (tempfile::TempDir, Settings) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        let mut settings = Settings::load(Some(&path));
        settings.environment = |name| (name == "DROVER_LEASE").then(|| "5s".to_owned());
        (dir, settings)
    }

    fn lines(settings: Settings) -> Vec<String> {
        let problems = settings.finish().err().unwrap_or_default().0;
        problems.into_iter().map(|p| format!("{} {}", p.place.rsplit(':').next().unwrap(), p.text)).collect()
    }

    #[test]
    fn flag_goes_before_environment_before_file() {
        let (_dir, mut settings) =
            settings("lease = \"1s\"\nslots = 4\nlabels = [\"a\", \"b\"]\n[log]\nlevel = \"info\"\n");
        assert_eq!(settings.get("lease", Some("9s".into()), duration), Some(Duration::from_secs(9)));
        assert_eq!(settings.get("lease", None, duration), Some(Duration::from_secs(5)));
        assert_eq!(settings.get("slots", None, str::parse::<u32>), Some(4));
        assert_eq!(
            settings.get("log.level", None, |text| Ok::<_, String>(text.to_owned())),
            Some("info".into())
        );
        assert_eq!(settings.list("labels", &[]), ["a", "b"]);
        assert_eq!(settings.finish(), Ok(()));
    }

    #[test]
    fn every_mistake_is_said_at_once_with_its_line() {
        let (_dir, mut settings) =
            settings("slotz = 4\nslots = \"many\"\n[log]\nlevel = [1]\n[odd]\nx = 1\n");
        settings.get("slots", None, str::parse::<u32>);
        settings.get("log.level", None, |text| Ok::<_, String>(text.to_owned()));
        let found = lines(settings);
        assert_eq!(found.len(), 4, "{found:?}");
        assert_eq!(found[0], "1 unknown key 'slotz'; did you mean 'slots'?");
        assert!(found[1].starts_with("2 slots = \"many\""), "{found:?}");
        assert!(found[2].starts_with("4 log.level: must be"), "{found:?}");
        assert_eq!(found[3], "5 unknown key 'odd'");
    }

    #[test]
    fn a_file_that_is_not_toml_says_where() {
        let (_dir, settings) = settings("a = 1\nb = = 2\n");
        assert!(lines(settings).iter().any(|line| line.starts_with('2')));
    }

    #[test]
    fn lengths_of_time_are_read_as_people_write_them() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "10", "s", "1w", "-1s", "99999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
