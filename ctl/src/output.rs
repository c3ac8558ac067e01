//! Everything that is printed goes through here: data to standard output in the format that was asked for, all else to
//! standard error. Colours only where somebody sees them; text from elsewhere only after it was made safe.

pub mod message;
pub mod nodes;
pub mod runs;
pub mod sanitise;
pub mod saved;
pub mod sessions;
pub mod table;
pub mod times;
pub mod upkeep;
pub mod whole;
pub mod why;

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use drover_daemon::clock::Clock;

use crate::cli::Global;
use crate::cli::values::Format;
use sanitise::Filter;

/// Something that can be printed in every format.
pub trait View: prost::Message {
    /// The message's full name in the API.
    const KIND: &'static str;
    /// For people.
    fn show(&self, look: &Look) -> String;
    /// The names of what is in it.
    fn names(&self) -> Vec<String>;
}

/// How things are shown to people.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    pub wide: bool,
    pub colour: bool,
    /// Now on this machine's clock, for ages.
    pub now: i64,
}

impl Look {
    /// `text` in `style`, where colours are seen.
    pub fn paint(&self, style: Style, text: &str) -> String {
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

pub const BAD: Style = AnsiColor::Red.on_default();
pub const BUSY: Style = AnsiColor::Yellow.on_default();
pub const GOOD: Style = AnsiColor::Green.on_default();
pub const STRONG: Style = Style::new().bold();
pub const FAINT: Style = Style::new().dimmed();

#[derive(Clone, Debug, Default)]
pub struct Output {
    pub format: Format,
    colour: bool,
    colour_of_notes: bool,
    clock: Clock,
}

impl Output {
    pub fn new(global: &Global, clock: &Clock) -> Self {
        let seen = |choice| !global.no_color && choice != ColorChoice::Never;
        Self {
            format: global.output,
            colour: seen(AutoStream::choice(&io::stdout())),
            colour_of_notes: seen(AutoStream::choice(&io::stderr())),
            clock: clock.clone(),
        }
    }

    /// Whether a person can be asked: they see the question, and can answer.
    pub fn can_ask(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Whether notes are seen at once by a person.
    pub fn is_watched(&self) -> bool {
        io::stderr().is_terminal()
    }

    pub fn look(&self) -> Look {
        let wide = self.format == Format::Wide;
        Look { wide, colour: self.colour, now: self.clock.wall_millis() }
    }

    /// Prints data in the format that was asked for.
    pub fn data<V: View>(&self, view: &V) -> io::Result<()> {
        let text = match self.format {
            Format::Table | Format::Wide => view.show(&self.look()),
            Format::Json => message::json(view, false)?,
            Format::Yaml => message::yaml(view)?,
            Format::Name => view.names().join("\n"),
        };
        self.text(&text)
    }

    /// Prints one of many data, as it comes: one line of JSON each, or documents of YAML.
    pub fn item<V: View>(&self, view: &V, line: impl FnOnce(&Look) -> String) -> io::Result<()> {
        let text = match self.format {
            Format::Table | Format::Wide => line(&self.look()),
            Format::Json => message::json(view, true)?,
            Format::Yaml => format!("---\n{}", message::yaml(view)?),
            Format::Name => view.names().join("\n"),
        };
        self.text(&text)
    }

    /// Prints what is this program's own, not the API's.
    pub fn local(&self, value: &serde_json::Value, table: String, names: &[String]) -> io::Result<()> {
        let text = match self.format {
            Format::Table | Format::Wide => table,
            Format::Json => serde_json::to_string_pretty(value)?,
            Format::Yaml => message::local_yaml(value)?,
            Format::Name => names.join("\n"),
        };
        self.text(&text)
    }

    /// After a change: the thing as it became for programs, nothing more for people, who are told by notes.
    pub fn result<V: View>(&self, view: &V) -> io::Result<()> {
        match self.format {
            Format::Table | Format::Wide => Ok(()),
            Format::Json | Format::Yaml | Format::Name => self.data(view),
        }
    }

    /// Something new: its name for people too, so that `$(droverctl run --detach …)` is one.
    pub fn named<V: View>(&self, view: &V) -> io::Result<()> {
        match self.format {
            Format::Table | Format::Wide => self.text(&view.names().join("\n")),
            Format::Json | Format::Yaml | Format::Name => self.data(view),
        }
    }

    /// Whole lines of data.
    pub fn text(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        if !text.is_empty() {
            stdout.write_all(text.trim_end_matches('\n').as_bytes())?;
            stdout.write_all(b"\n")?;
        }
        stdout.flush()
    }

    /// A word to the person, beside the data. `text` is this program's own or was made safe.
    pub fn note(&self, text: impl AsRef<str>) {
        // There is nobody left to tell that nobody can be told.
        let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
    }

    /// A failure, on standard error.
    pub fn error(&self, text: &str) {
        let look = Look { colour: self.colour_of_notes, ..Look::default() };
        self.note(format!("{} {text}", look.paint(BAD.bold(), "error:")));
    }
}

/// The bytes of a run on their way to standard output or standard error: as they are, unless a terminal shows them.
#[derive(Debug)]
pub struct Raw {
    stdout: Option<Filter>,
    stderr: Option<Filter>,
}

impl Default for Raw {
    fn default() -> Self {
        let filter = |is_terminal: bool| is_terminal.then(Filter::default);
        Self { stdout: filter(io::stdout().is_terminal()), stderr: filter(io::stderr().is_terminal()) }
    }
}

impl Raw {
    pub fn stdout(&mut self, bytes: &[u8]) -> io::Result<()> {
        write(&mut io::stdout().lock(), self.stdout.as_mut(), bytes)
    }

    pub fn stderr(&mut self, bytes: &[u8]) -> io::Result<()> {
        write(&mut io::stderr().lock(), self.stderr.as_mut(), bytes)
    }
}

fn write(to: &mut impl Write, filter: Option<&mut Filter>, bytes: &[u8]) -> io::Result<()> {
    match filter {
        Some(filter) => to.write_all(&filter.pass(bytes))?,
        None => to.write_all(bytes)?,
    }
    to.flush()
}
