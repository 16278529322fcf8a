//! The commands of `sync+exec`, with their output.

use std::io::{PipeReader, Read};
use std::os::fd::AsFd;

use super::actions::Actions;
use super::rules::Command;
use super::signal;
use crate::base::id::ContainerId;
use crate::engine;
use crate::engine::exec::{Exec, no_stdio};
use crate::model::container::Status;
use crate::runtime::Stdio;

/// Longest line of a command's output that is shown in one piece, in bytes.
const LINE_BYTES_MAX: usize = 8 << 10;

impl Actions<'_> {
    /// Runs the command of a rule in all running containers of its service, in all at once.
    pub(super) fn run_command(&self, service: &str, command: &Command) {
        let observed = match self.shared.engine.observe(&self.project.name, None) {
            Ok(observed) => observed,
            Err(error) => return self.failed(error),
        };
        let running = observed.of_service(service).filter(|container| container.status == Status::Running);
        std::thread::scope(|threads| {
            for container in running {
                threads.spawn(|| match self.run_in(&container.id, &container.name, command) {
                    Ok(0) => {}
                    Ok(_) if self.shared.stop.is_set() => {}
                    Ok(code) => {
                        self.shared.client.say(&format!("{}: {} ended with code {code}", container.name, line(command)))
                    }
                    Err(error) => self.failed(error),
                });
            }
        });
    }

    fn run_in(&self, id: &ContainerId, name: &str, command: &Command) -> engine::Result<i32> {
        let exec = Exec {
            args: command.command.clone().unwrap_or_default(),
            environment: command.environment.clone().unwrap_or_default(),
            user: command.user.clone(),
            working_dir: command.working_dir.clone(),
            privileged: command.privileged,
            terminal: false,
        };
        let Ok((output, stdio)) = pipes() else { return Err(engine::Error::Interrupted) };
        self.shared.client.say(&format!("{name}: {}", line(command)));
        let running = self.shared.engine.exec(id, &exec, stdio)?;
        let mut output = Output { pipe: output, line: Vec::new() };
        let mut say = |line: &str| self.shared.client.say(&format!("{name}: {line}"));
        loop {
            let fds = [output.pipe.as_fd(), running.pidfd.as_fd(), self.shared.stop.fd()];
            if signal::wait(&fds, None).is_err() || self.shared.stop.is_set() {
                running.signal(rustix::process::Signal::KILL.as_raw())?;
                break;
            }
            let ended = running.try_wait()?;
            // What it started and left running may hold the pipe: its own end counts.
            let at_end = output.read(&mut say);
            if let Some(status) = ended {
                return Ok(status.code);
            }
            if at_end {
                break;
            }
        }
        Ok(running.wait()?.code)
    }
}

fn line(command: &Command) -> String {
    command.command.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// Standard streams of a command whose output is shown.
fn pipes() -> std::io::Result<(PipeReader, Stdio)> {
    let (reader, writer) = std::io::pipe()?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    let Ok(Stdio::Pipes { stdin, .. }) = no_stdio() else { return Err(std::io::ErrorKind::NotFound.into()) };
    Ok((reader, Stdio::Pipes { stdin, stdout: writer.try_clone()?.into(), stderr: writer.into() }))
}

/// The output of a command, line by line.
struct Output {
    pipe: PipeReader,
    line: Vec<u8>,
}

impl Output {
    /// Shows what is there; whether it was the end.
    fn read(&mut self, say: &mut dyn FnMut(&str)) -> bool {
        let mut buffer = [0; 4096];
        let at_end = loop {
            match self.pipe.read(&mut buffer) {
                Ok(0) => break true,
                Ok(count) => self.take(&buffer[..count], say),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => break error.kind() != std::io::ErrorKind::WouldBlock,
            }
        };
        if at_end && !self.line.is_empty() {
            say(&String::from_utf8_lossy(&std::mem::take(&mut self.line)));
        }
        at_end
    }

    fn take(&mut self, bytes: &[u8], say: &mut dyn FnMut(&str)) {
        for byte in bytes {
            if *byte == b'\n' || self.line.len() >= LINE_BYTES_MAX {
                say(&String::from_utf8_lossy(&std::mem::take(&mut self.line)));
            }
            if *byte != b'\n' {
                self.line.push(*byte);
            }
        }
    }
}
