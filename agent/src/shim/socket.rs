//! The supervisor's socket and who is connected. Nobody holds up anybody: a client that does not read what it asked for,
//! or sends what is no request, is dropped.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::protocol::{self, Answer, LONGEST, Request, VERSION};

#[derive(Debug)]
pub(super) struct Clients {
    listener: UnixListener,
    path: PathBuf,
    run: String,
    open: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    heard: Vec<u8>,
    is_greeted: bool,
    waits: bool,
    is_gone: bool,
}

const MOST: usize = 64;

impl Clients {
    /// Listens on a new socket; one that a dead supervisor left is replaced.
    pub(super) fn listen(path: &Path, run: &str) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path: path.to_owned(), run: run.to_owned(), open: Vec::new() })
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = &UnixStream> {
        self.open.iter().map(|client| &client.stream)
    }

    pub(super) fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.open.len() < MOST && stream.set_nonblocking(true).is_ok() {
                let heard = Vec::new();
                self.open.push(Client { stream, heard, is_greeted: false, waits: false, is_gone: false });
            }
        }
    }

    /// Hears what these clients ask, in order. A hello and a wait are answered here.
    pub(super) fn hear(&mut self, ready: &[bool]) -> Vec<(usize, Request)> {
        let mut asked = Vec::new();
        for (number, client) in
            self.open.iter_mut().enumerate().filter(|(number, _)| ready.get(*number) == Some(&true))
        {
            for line in client.lines() {
                match (serde_json::from_slice(&line), client.is_greeted) {
                    (Ok(Request::Hello { .. }), _) => {
                        client.is_greeted = true;
                        client.say(&Answer::Hello { version: VERSION, run: self.run.clone() });
                    }
                    (Ok(_), false) => client.refuse("say hello first"),
                    (Ok(Request::Wait), true) => {
                        client.waits = true;
                        client.say(&Answer::Waiting);
                    }
                    (Ok(request), true) => asked.push((number, request)),
                    (Err(error), _) => client.refuse(&format!("this is no request: {error}")),
                }
            }
        }
        asked
    }

    pub(super) fn answer(&mut self, client: usize, answer: &Answer) {
        if let Some(client) = self.open.get_mut(client) {
            client.say(answer);
        }
    }

    /// Tells all who wait.
    pub(super) fn tell(&mut self, answer: &Answer) {
        self.open.iter_mut().filter(|client| client.waits).for_each(|client| client.say(answer));
    }

    pub(super) fn drop_gone(&mut self) {
        self.open.retain(|client| !client.is_gone);
    }

    pub(super) fn close(&mut self) {
        // What is left of it is found and removed with the run.
        let _ = fs::remove_file(&self.path);
        self.open.clear();
    }
}

impl Client {
    fn lines(&mut self) -> Vec<Vec<u8>> {
        let mut buffer = [0; 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    self.is_gone = true;
                    break;
                }
                Ok(count) => self.heard.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.is_gone = true;
                    break;
                }
            }
            if self.heard.len() > LONGEST {
                self.is_gone = true;
                break;
            }
        }
        let mut lines = Vec::new();
        while let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
            lines.push(self.heard.drain(..=end).collect());
        }
        lines
    }

    fn say(&mut self, answer: &Answer) {
        let line = protocol::line(answer);
        // The kernel keeps far more than a client ever has to read.
        if !matches!(self.stream.write(&line), Ok(count) if count == line.len()) {
            self.is_gone = true;
        }
    }

    fn refuse(&mut self, why: &str) {
        self.say(&Answer::Refused { why: why.to_owned() });
        self.is_gone = true;
    }
}
