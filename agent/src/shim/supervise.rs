//! Watching over a run: one loop that sleeps until there is output, a signal, a client or a limit. The run is over when
//! nothing is left that came of its command; then, and only then, the exit file is written.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use drover_daemon::clock::Clock;
use drover_domain::outcome::Outcome;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, wait};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::ending::{Act, Ending, Sign};
use super::program::{Program, Refused};
use super::protocol::{Answer, Request, State};
use super::pulse::Pulse;
use super::record::{Exit, Lock, Run, RunDirectory, Used, VERSION, Verdict};
use super::socket::Clients;
use super::tree::Tree;
use super::usage::Meter;
use crate::cgroup::Cgroup;
use crate::logs::Stream;
use crate::logs::write::Writer;
use crate::sys;

/// How the world reaches the supervisor.
#[derive(Debug)]
pub(super) struct Ears {
    pub(super) signals: OwnedFd,
    pub(super) clients: Clients,
}

pub(super) struct Watch {
    directory: RunDirectory,
    run: Run,
    log: Writer,
    ears: Ears,
    tree: Tree,
    clock: Clock,
    ending: Ending,
    pulse: Pulse,
    meter: Meter,
    command: Command,
    pipes: [Option<OwnedFd>; 2],
    buffer: Vec<u8>,
    timer: OwnedFd,
    armed: Option<Duration>,
    /// When to try again to write the exit file.
    retry: Option<Duration>,
    told_stuck: bool,
    lock: Option<Lock>,
}

/// The command's own process.
#[derive(Debug, Default)]
struct Command {
    pid: Option<Pid>,
    started: Option<i64>,
    has_ended: bool,
    /// When nothing of it was left.
    over: Option<i64>,
    code: Option<i32>,
    signal: Option<i32>,
    text: Option<String>,
}

const STREAMS: [Stream; 2] = [Stream::Output, Stream::Error];
const BUFFER: usize = 64 * 1024;
const RETRY: Duration = Duration::from_secs(1);
const FENCED: &str =
    "the node lost contact, and its time for the run was over: it was ended before another node takes it up";

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Watch {
    pub(super) fn new(
        directory: RunDirectory,
        run: Run,
        log: Writer,
        ears: Ears,
        cgroup: Option<Cgroup>,
    ) -> io::Result<Self> {
        let clock = Clock::system();
        let now = clock.boot();
        Ok(Self {
            ending: Ending::new(&run.limits, now),
            pulse: Pulse::new(run.heartbeat(), now),
            meter: Meter::new(now),
            tree: Tree::new(cgroup, run.boot.clone()),
            timer: timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?,
            directory,
            run,
            log,
            ears,
            clock,
            command: Command::default(),
            pipes: [None, None],
            buffer: vec![0; BUFFER],
            armed: None,
            retry: None,
            told_stuck: false,
            lock: None,
        })
    }

    /// Holds the run's lock as long as it watches.
    pub(super) fn holding(self, lock: Lock) -> Self {
        Self { lock: Some(lock), ..self }
    }

    pub(super) fn directory(&self) -> &RunDirectory {
        &self.directory
    }

    pub(super) fn run(&self) -> &Run {
        &self.run
    }

    pub(super) fn cgroup(&self) -> Option<&Cgroup> {
        self.tree.cgroup.as_ref()
    }

    /// The command runs.
    pub(super) fn began(&mut self, program: Program, started: i64) {
        self.command.pid = i32::try_from(program.pid).ok().and_then(Pid::from_raw);
        self.command.started = Some(started);
        self.pipes = [Some(program.output), Some(program.error)];
        let now = self.clock.boot();
        self.ending = Ending::new(&self.run.limits, now);
        self.meter = Meter::new(now);
    }

    /// The command could not be started: the run has ended.
    pub(super) fn refused(&mut self, refused: Refused) {
        let said = format!("drover: the command cannot be started: {}\n", refused.text);
        self.log.append(Stream::Drover, self.clock.wall_millis(), said.as_bytes());
        self.command.has_ended = true;
        self.command.code = Some(refused.code);
        self.command.text = Some(refused.text);
    }

    /// Drover cannot go on with it: everything is killed.
    pub(super) fn break_off(&mut self, why: &str) {
        self.command.text = Some(why.to_owned());
        self.ending.break_off(Outcome::Lost, self.clock.boot());
    }

    /// Watches until the run is over and that is written down.
    pub(super) fn watch(mut self) -> io::Result<()> {
        loop {
            let is_childless = self.reap();
            if self.command.has_ended && is_childless && !self.tree.is_populated() {
                if self.finish() {
                    return Ok(());
                }
            } else {
                self.act();
            }
            self.sleep()?;
        }
    }

    /// Takes leave of every child that ended. True: there is none left.
    fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if Some(pid) == self.command.pid => {
                    self.command.has_ended = true;
                    self.command.code = status.exit_status();
                    self.command.signal = status.terminating_signal();
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }

    fn act(&mut self) {
        let now = self.clock.boot();
        self.meter.look(&self.tree, &self.clock, now);
        if self.ending.asks_for_signs(now) {
            for (sign, at) in self.pulse.look(&self.tree, &self.clock, now).into_iter().flatten() {
                self.ending.saw(sign, at);
            }
        }
        while let Some(act) = self.ending.step(now, !self.command.has_ended) {
            self.carry_out(act);
        }
        if self.ending.is_stuck(now) && !self.told_stuck {
            self.told_stuck = true;
            self.ears.clients.tell(&Answer::Stuck { pids: self.tree.pids() });
        }
    }

    fn carry_out(&mut self, act: Act) {
        match act {
            Act::Ask => {
                // Its pid stays its own until it is waited for; its group is gone if it has ended.
                if let (Some(pid), false) = (self.command.pid, self.command.has_ended) {
                    let _ = kill_process_group(pid, Signal::TERM);
                }
            }
            Act::Announce => self.announce(),
            Act::Tell => self.meter.saw(self.tree.tell()),
            Act::Kill => self.tree.kill(),
        }
    }

    fn sleep(&mut self) -> io::Result<()> {
        self.arm()?;
        let ready = self.ready()?;
        let (ears, ready) = ready.split_at(3);
        if ears[0] {
            self.hear_signals();
        }
        if ears[1] {
            // How often it fired says nothing.
            let _ = rustix::io::read(&self.timer, &mut [0_u8; 8]);
            self.armed = None;
        }
        let (mut pipes, clients) = ready.split_at(self.pipes.iter().flatten().count());
        for number in 0..self.pipes.len() {
            if self.pipes[number].is_some()
                && let Some((is_ready, rest)) = pipes.split_first()
            {
                pipes = rest;
                if *is_ready {
                    self.read_output(number);
                }
            }
        }
        for (client, request) in self.ears.clients.hear(clients) {
            let answer = self.answer(request);
            self.ears.clients.answer(client, &answer);
        }
        self.ears.clients.drop_gone();
        if ears[2] {
            self.ears.clients.accept();
        }
        Ok(())
    }

    /// Which of signals, timer, listener, open pipes and clients have something.
    fn ready(&self) -> io::Result<Vec<bool>> {
        let pipes = self.pipes.iter().flatten().map(AsFd::as_fd);
        let clients = self.ears.clients.streams().map(AsFd::as_fd);
        let ears = [self.ears.signals.as_fd(), self.timer.as_fd(), self.ears.clients.listener().as_fd()];
        let of = |file| PollFd::from_borrowed_fd(file, PollFlags::IN);
        let mut files: Vec<_> = ears.into_iter().chain(pipes).chain(clients).map(of).collect();
        loop {
            match poll(&mut files, None) {
                Ok(_) => return Ok(files.iter().map(|file| !file.revents().is_empty()).collect()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn arm(&mut self) -> io::Result<()> {
        let next = self.retry.or_else(|| self.ending.next().into_iter().chain([self.meter.next()]).min());
        if next != self.armed {
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let at = next.map_or(zero, |next| Timespec {
                tv_sec: i64::try_from(next.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: next.subsec_nanos().into(),
            });
            let setting = Itimerspec { it_interval: zero, it_value: at };
            timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &setting)?;
            self.armed = next;
        }
        Ok(())
    }

    fn hear_signals(&mut self) {
        while let Some(signal) = sys::next_signal(&self.ears.signals) {
            if signal == Signal::TERM.as_raw() {
                self.stop("SIGTERM", self.run.limits.grace());
            }
        }
    }

    fn answer(&mut self, request: Request) -> Answer {
        match request {
            Request::Status => {
                let pid = self.command.pid.map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
                let (deadline_wall_ms, extensions) = (self.deadline(), self.ending.extensions());
                Answer::Status { state: self.state(), pid, deadline_wall_ms, extensions }
            }
            Request::Stop { by, grace_ms } => {
                self.stop(&by, Duration::from_millis(grace_ms));
                match self.state() {
                    State::Stuck => Answer::Stuck { pids: self.tree.pids() },
                    State::Running | State::Stopping => Answer::Stopping,
                }
            }
            Request::Grant { total_ms, count } => self.grant(Duration::from_millis(total_ms), count),
            Request::Fence { boot_ms } => {
                let until = self.ending.fence(Duration::from_millis(boot_ms));
                Answer::Fenced { boot_ms: u64::try_from(until.as_millis()).unwrap_or(u64::MAX) }
            }
            Request::Hello { .. } | Request::Wait => Answer::Waiting,
        }
    }

    fn grant(&mut self, total: Duration, count: u32) -> Answer {
        if !self.ending.is_running() {
            return Answer::Refused { why: "the run is being ended".to_owned() };
        }
        if self.ending.grant(total, count) {
            self.announce();
        }
        Answer::Granted { deadline_wall_ms: self.deadline(), extensions: self.ending.extensions() }
    }

    /// Tells who waits that the deadline was moved.
    fn announce(&mut self) {
        if let Some(deadline_wall_ms) = self.deadline() {
            let extensions = self.ending.extensions();
            self.ears.clients.tell(&Answer::Extended { deadline_wall_ms, extensions });
        }
    }

    /// The deadline on the wall clock, as that stands now.
    fn deadline(&self) -> Option<i64> {
        let left = self.ending.deadline()?.saturating_sub(self.clock.boot());
        Some(self.clock.wall_millis().saturating_add(i64::try_from(left.as_millis()).unwrap_or(i64::MAX)))
    }

    fn state(&self) -> State {
        if self.ending.is_stuck(self.clock.boot()) {
            State::Stuck
        } else if self.ending.is_running() {
            State::Running
        } else {
            State::Stopping
        }
    }

    fn stop(&mut self, by: &str, grace: Duration) {
        if let Some(act) = self.ending.end(Outcome::Stopped(by.into()), grace, self.clock.boot()) {
            self.carry_out(act);
        }
    }

    /// Reads once. True: there may be more.
    fn read_output(&mut self, number: usize) -> bool {
        let Some(pipe) = &self.pipes[number] else { return false };
        match rustix::io::read(pipe, &mut self.buffer) {
            Ok(count) if count > 0 => {
                self.log.append(STREAMS[number], self.clock.wall_millis(), &self.buffer[..count]);
                self.ending.saw(Sign::Output, self.clock.boot());
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            Ok(_) | Err(_) => {
                self.pipes[number] = None;
                false
            }
        }
    }

    /// False: the end could not be written down. It is tried again, for nobody else can say it.
    fn finish(&mut self) -> bool {
        for number in 0..self.pipes.len() {
            while self.read_output(number) {}
        }
        self.command.over.get_or_insert_with(|| self.clock.wall_millis());
        match self.directory.write_exit(&self.exit()) {
            // If somebody took the run's directory away, nobody asks how it ended.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.retry = Some(self.clock.boot() + RETRY);
                return false;
            }
            Ok(()) | Err(_) => {}
        }
        self.lock = None;
        self.ears.clients.tell(&Answer::Ended);
        self.ears.clients.close();
        if let Some(cgroup) = &self.tree.cgroup {
            // The rest, in which this process is, goes when the end is seen.
            let _ = cgroup.remove_leaf();
        }
        true
    }

    fn exit(&self) -> Exit {
        let Command { started, over, code, signal, text, .. } = &self.command;
        Exit {
            version: VERSION,
            verdict: Verdict::from(&self.ending.outcome(*code, *signal)),
            code: *code,
            signal: *signal,
            text: text.clone().or_else(|| self.ending.was_fenced().then(|| FENCED.to_owned())),
            started: *started,
            ended: over.unwrap_or_else(|| self.clock.wall_millis()),
            used: Used::from(self.meter.usage(&self.tree, started.is_some())),
            log_bytes: Some(self.log.written()),
            log_dropped: Some(self.log.dropped()),
        }
    }
}
