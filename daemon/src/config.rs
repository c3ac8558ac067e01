//! Settings: flag, then `DROVER_*` environment, then file, then default. Every problem is found in one go and said with
//! its file and line; a key that nothing asked for is a problem too.

use std::collections::{BTreeMap, BTreeSet};
use std::env::VarError;
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
    environment: fn(&str) -> Result<String, VarError>,
    asked: BTreeSet<String>,
    /// What the command line decided: the file is not to blame for it.
    flagged: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl Settings {
    /// From a file that must be there, or (`None`) from the environment and defaults alone.
    pub fn load(path: Option<&Path>) -> Self {
        let mut settings = Self {
            path: path.map(Path::to_owned).unwrap_or_default(),
            text: String::new(),
            environment: |name| std::env::var(name),
            asked: BTreeSet::new(),
            flagged: BTreeSet::new(),
            problems: Vec::new(),
        };
        if let Some(path) = path {
            match std::fs::read_to_string(path) {
                Ok(text) => settings.text = text,
                Err(error) => settings.note(path.display().to_string(), format!("cannot be read: {error}")),
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
                self.note(place, format!("{key} = {text:?}: {error}"));
                None
            }
        }
    }

    /// A list of texts: an array in the file, or texts with commas between them elsewhere.
    pub fn list(&mut self, key: &str, flags: &[String]) -> Vec<String> {
        self.asked.insert(key.to_owned());
        if !flags.is_empty() {
            self.flagged.insert(key.to_owned());
            return flags.to_vec();
        }
        if let Some(text) = self.in_environment(key) {
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
                self.note(self.place(line), format!("{key}: must be a list of texts"));
                Vec::new()
            }
        }
    }

    /// Every table of an array of them, which only a file can have, read by `read`. It asks for each key.
    pub fn each<T>(&mut self, key: &str, read: impl Fn(&mut Item<'_>) -> Option<T>) -> Vec<T> {
        self.asked.insert(key.to_owned());
        let tables = |value: &DeValue<'_>| {
            let tables = value.as_array()?.iter().map(|table| {
                let at = table.span().start;
                let values = table.get_ref().as_table()?.iter();
                let one = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                    (
                        AsRef::<str>::as_ref(name.get_ref()).to_owned(),
                        (name.span().start, scalar(value.get_ref())),
                    )
                };
                Some((at, values.map(one).collect::<BTreeMap<_, _>>()))
            });
            tables.collect::<Option<Vec<_>>>()
        };
        let found = self.in_file(key, tables);
        match found {
            None => Vec::new(),
            Some((_, Some(tables))) => {
                let one = |(at, values)| {
                    let mut item = Item { settings: &mut *self, key, at, values };
                    let one = read(&mut item);
                    item.finish();
                    one
                };
                tables.into_iter().filter_map(one).collect()
            }
            Some((line, None)) => {
                self.note(self.place(line), format!("{key}: must be tables: [[{key}]]"));
                Vec::new()
            }
        }
    }

    /// A problem that is found only when a setting is looked at more closely, or together with others. `about` is its
    /// key, or that of a section; it is said with the place that it came from.
    pub fn problem(&mut self, about: &str, text: impl fmt::Display) {
        let place = if self.flagged.contains(about) {
            COMMAND_LINE.to_owned()
        } else if self.in_environment(about).is_some() {
            variable(about)
        } else if let Some((line, _)) = self.in_file(about, |_| Some(())) {
            self.place(line)
        } else {
            // It was given nowhere: that may be the problem.
            return self.note(about.to_owned(), text.to_string());
        };
        self.note(place, format!("{about}: {text}"));
    }

    /// The verdict: unknown keys too.
    pub fn finish(mut self) -> Result<(), Problems> {
        let (table, _) = DeTable::parse_recoverable(&self.text);
        let mut unknown = Vec::new();
        unknown_keys(table.get_ref(), "", &self.asked, &mut unknown);
        for (key, at) in unknown {
            let near = self.asked.iter().find(|known| alike(known, &key));
            let hint = near.map(|known| format!("; did you mean '{known}'?")).unwrap_or_default();
            let section = format!("{key}.");
            let text = if self.asked.iter().any(|known| known.starts_with(&section)) {
                format!("'{key}' must be a table: [{key}]")
            } else {
                format!("unknown key '{key}'{hint}")
            };
            self.note(self.place(line_of(&self.text, at)), text);
        }
        self.problems.sort_by_key(|problem| {
            problem.place.rsplit_once(':').and_then(|(_, line)| line.parse::<usize>().ok())
        });
        if self.problems.is_empty() { Ok(()) } else { Err(Problems(self.problems)) }
    }

    fn find(&mut self, key: &str, flag: Option<String>) -> Option<(String, String)> {
        if let Some(text) = flag {
            self.flagged.insert(key.to_owned());
            return Some((COMMAND_LINE.to_owned(), text));
        }
        if let Some(text) = self.in_environment(key) {
            return Some((variable(key), text));
        }
        match self.in_file(key, scalar)? {
            (line, Some(text)) => Some((self.place(line), text)),
            (line, None) => {
                self.note(self.place(line), format!("{key}: must be a single value, not a list or table"));
                None
            }
        }
    }

    fn in_environment(&mut self, key: &str) -> Option<String> {
        match (self.environment)(&variable(key)) {
            Ok(text) => Some(text).filter(|text| !text.is_empty()),
            Err(VarError::NotPresent) => None,
            Err(VarError::NotUnicode(_)) => {
                self.note(variable(key), "is not UTF-8 text".to_owned());
                None
            }
        }
    }

    fn note(&mut self, place: String, text: String) {
        let problem = Problem { place, text };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
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

/// One table of an array.
#[derive(Debug)]
pub struct Item<'a> {
    settings: &'a mut Settings,
    key: &'a str,
    /// Where it begins.
    at: usize,
    /// What nobody asked for yet, and where it stands. None: it is no single value.
    values: BTreeMap<String, (usize, Option<String>)>,
}

impl Item<'_> {
    pub fn get<T, E: fmt::Display>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        let (at, text) = self.values.remove(name)?;
        let problem = match text {
            Some(text) => match parse(&text) {
                Ok(value) => return Some(value),
                Err(error) => format!("{}.{name} = {text:?}: {error}", self.key),
            },
            None => format!("{}.{name}: must be a single value, not a list or table", self.key),
        };
        self.note(at, problem);
        None
    }

    /// The same of what may not be missing.
    pub fn needed<T, E: fmt::Display>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        if !self.values.contains_key(name) {
            self.note(self.at, format!("{}: '{name}' is missing", self.key));
        }
        self.get(name, parse)
    }

    fn finish(mut self) {
        for (name, (at, _)) in std::mem::take(&mut self.values) {
            self.note(at, format!("unknown key '{}.{name}'", self.key));
        }
    }

    fn note(&mut self, at: usize, text: String) {
        let place = self.settings.place(line_of(&self.settings.text, at));
        self.settings.note(place, text);
    }
}

/// The place of what was given by a flag.
const COMMAND_LINE: &str = "command line";

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
        settings.environment = |name| match name {
            "DROVER_LEASE" => Ok("5s".to_owned()),
            "DROVER_EMPTY" => Ok(String::new()),
            "DROVER_ODD" => Err(VarError::NotUnicode("?".into())),
            _ => Err(VarError::NotPresent),
        };
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
    fn a_problem_is_said_with_the_place_that_the_setting_came_from() {
        let (_dir, mut settings) =
            settings("slots = 4\nlease = \"1s\"\n[log]\nlevel = \"info\"\nfilter = 3\n");
        let text = |text: &str| Ok::<_, String>(text.to_owned());
        for key in ["lease", "slots", "empty", "log.level", "odd"] {
            settings.get(key, None, text);
        }
        settings.get("log.filter", Some("x".into()), text);
        for about in ["lease", "slots", "log", "log.level", "log.filter", "empty"] {
            settings.problem(about, "is odd");
        }
        let found = lines(settings);
        for expected in [
            "DROVER_LEASE lease: is odd",
            "1 slots: is odd",
            "3 log: is odd",
            "4 log.level: is odd",
            "command line log.filter: is odd",
            "empty is odd",
            "DROVER_ODD is not UTF-8 text",
        ] {
            assert!(found.iter().any(|line| line == expected), "{expected} in {found:?}");
        }
        assert_eq!(found.len(), 7, "each is said once: {found:?}");
    }

    #[test]
    fn a_section_that_is_no_table_says_so() {
        let (_dir, mut settings) = settings("log = \"info\"\n");
        settings.get("log.level", None, |text| Ok::<_, String>(text.to_owned()));
        assert_eq!(lines(settings), ["1 'log' must be a table: [log]"]);
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
