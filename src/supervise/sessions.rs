//! What a supervisor does for those who are attached: takes their input and wishes, and waits for them at the end.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::clients::Kind;
use super::frame::Frame;
use super::supervisor::{READS_A_TURN, Supervisor};
use super::{Error, Result};
use crate::model::container::Status;

/// When the container is gone, clients that may be dropped have so long to read what waits for them.
const LINGER: Duration = Duration::from_secs(5);
impl Supervisor {
    /// Does what a connection is ready for.
    pub(super) fn serve_client(&mut self, number: i32) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let alive = self.place_of(number).is_some_and(|index| self.clients.all[index].flush())
            && self.take_frames(number, &mut buffer).is_ok();
        self.buffer = buffer;
        let Some(index) = self.place_of(number).filter(|_| !alive) else { return };
        let client = self.clients.all.swap_remove(index);
        if client.kind == Kind::Blocking
            && let Some(run) = &mut self.run
        {
            // Docker's StdinOnce: the one who ran it in the foreground was its input.
            run.stdio.end_input();
        }
    }

    /// Where a connection is among all. What a frame asks for may end others, and this one.
    fn place_of(&self, number: i32) -> Option<usize> {
        self.clients.all.iter().position(|client| client.number() == number)
    }

    /// Takes what a connection sent, as long as there is room for it: bounded, like everything that others feed.
    /// `Err` when it is gone.
    fn take_frames(&mut self, number: i32, buffer: &mut [u8]) -> std::result::Result<(), ()> {
        for _ in 0..READS_A_TURN {
            if self.run.as_ref().is_some_and(|run| !run.stdio.takes_input()) {
                return Ok(());
            }
            let index = self.place_of(number).ok_or(())?;
            match self.clients.all[index].receive(buffer)? {
                Some(frame) => self.take_frame(number, frame),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn take_frame(&mut self, number: i32, frame: Frame) {
        match frame {
            Frame::Attach => {
                if let Some(index) = self.place_of(number) {
                    self.clients.all[index].kind = Kind::Droppable;
                }
            }
            Frame::Freeze(freeze) => {
                let result = self.freeze(freeze);
                self.answer(number, result);
            }
            Frame::Reload => {
                let result = self.reload();
                self.answer(number, result);
            }
            Frame::Restart => self.restart_for_another(),
            Frame::Stdin(input) => {
                if let Some(run) = &mut self.run {
                    run.stdio.write(&input);
                }
            }
            Frame::StdinEnd => {
                if let Some(run) = &mut self.run {
                    run.stdio.end_input();
                }
            }
            Frame::Resize { rows, columns } => {
                self.size = Some((rows, columns));
                if let Some(run) = &self.run {
                    run.stdio.resize(rows, columns);
                }
            }
            // What only a supervisor says.
            Frame::Stdout(_) | Frame::Stderr(_) | Frame::Exit(_) | Frame::Restarting(_) => {}
            Frame::Detached | Frame::Answer(_) => {}
        }
    }

    fn answer(&mut self, number: i32, result: Result<()>) {
        let messages = result.err().map(|error| super::report::messages(&error).join(": "));
        if let Some(index) = self.place_of(number) {
            self.clients.all[index].answer(&Frame::Answer(messages));
        }
    }

    fn freeze(&mut self, freeze: bool) -> Result<()> {
        let Some(run) = &self.run else { return Err(Error::NotRunning { id: self.id().clone() }) };
        if freeze {
            run.cgroup.freeze()?;
            self.state.status = Status::Paused;
        } else {
            run.cgroup.thaw()?;
            self.state.status = Status::Running;
        }
        self.note(if freeze { "pause" } else { "unpause" });
        self.save()
    }

    /// Does what the spec in the store says and ours did not.
    fn reload(&mut self) -> Result<()> {
        let spec = self.store.containers().spec(self.id())?;
        if let Some(run) = self.run.as_ref().filter(|_| spec.resources != self.spec.resources)
            && let Err(error) = run.cgroup.update(&spec.resources)
        {
            // What was set already goes back; the first error is the one to tell.
            drop(run.cgroup.update(&self.spec.resources));
            return Err(error.into());
        }
        self.network.adjust(&self.store, &spec)?;
        self.state.ports = self.network.ports.clone();
        self.state.addresses = self.network.endpoints.clone();
        self.spec = spec;
        super::launch::write_etc_files(&self.store, &self.spec, &self.network)?;
        self.write_card();
        self.save()
    }

    /// Waits until clients have read what was sent to them: those who want no loss for ever, others for a while.
    pub(super) fn linger(&mut self) {
        let deadline = Instant::now() + LINGER;
        loop {
            let now = Instant::now();
            self.clients.all.retain_mut(|client| {
                client.flush() && client.is_behind() && (client.kind == Kind::Blocking || now < deadline)
            });
            if self.clients.all.is_empty() {
                return;
            }
            let mut fds: Vec<PollFd<'_>> =
                self.clients.all.iter().map(|client| PollFd::new(client, PollFlags::OUT)).collect();
            let left = deadline.saturating_duration_since(now);
            let timeout = rustix::event::Timespec::try_from(left).ok().filter(|_| !left.is_zero());
            let _interrupted = rustix::event::poll(&mut fds, timeout.as_ref());
        }
    }
}
