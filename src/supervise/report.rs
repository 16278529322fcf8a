//! What a supervisor tells the command that started it: one packet, then it is on its own.

use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags};
use serde::{Deserialize, Serialize};

use super::error::{Cause, Error};
use crate::base::error::{Attribute, Explain};
use crate::base::id::ContainerId;
use crate::model::container::{ProcessIdentity, PublishedPort};

/// Largest report: the ports of a container, or an error with its causes.
const REPORT_BYTES_MAX: usize = 160 << 10;
/// Longest text of one error in a report.
const MESSAGE_BYTES_MAX: usize = 8 << 10;

/// How the start went.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The process runs.
    Started {
        /// It.
        identity: ProcessIdentity,
        /// Its published ports.
        ports: Vec<PublishedPort>,
    },
    /// It runs already.
    AlreadyRunning,
    /// It does not run; nothing is left behind.
    Failed {
        /// The error and what was behind it, outermost first.
        messages: Vec<String>,
        /// What to do about it.
        hint: Option<String>,
        /// The attribute of the service that it is about.
        attribute: Option<Attribute>,
        /// 125, 126 or 127.
        exit_code: u8,
    },
}

impl Report {
    /// The report of an error.
    pub(super) fn of_error(error: &Error) -> Self {
        Self::Failed {
            messages: messages(error),
            hint: error.hint(),
            attribute: error.attribute(),
            exit_code: error.exit_code(),
        }
    }

    /// Sends it; a caller that does not wait any more does not matter.
    pub(super) fn send(&self, socket: &OwnedFd) {
        if let Ok(packet) = serde_json::to_vec(self) {
            let _refused = rustix::net::send(socket, &packet, SendFlags::NOSIGNAL);
        }
    }

    /// Waits for the report.
    pub(super) fn receive(socket: impl AsFd, id: &ContainerId) -> Result<(ProcessIdentity, Vec<PublishedPort>), Error> {
        let mut packet = vec![0; REPORT_BYTES_MAX];
        let length = loop {
            match rustix::net::recv(&socket, packet.as_mut_slice(), RecvFlags::empty()) {
                Ok((_, length)) => break length.min(packet.len()),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break 0,
            }
        };
        match serde_json::from_slice(&packet[..length]) {
            Ok(Self::Started { identity, ports }) => Ok((identity, ports)),
            Ok(Self::AlreadyRunning) => Err(Error::AlreadyRunning { id: id.clone() }),
            Ok(Self::Failed { mut messages, hint, attribute, exit_code }) => {
                let causes = if messages.is_empty() { Vec::new() } else { messages.split_off(1) };
                let message = messages.pop().unwrap_or_default();
                Err(Error::Start {
                    id: id.clone(),
                    message,
                    hint,
                    attribute: attribute.map(Box::new),
                    exit_code,
                    source: Cause::chain(causes),
                })
            }
            Err(_) => Err(Error::SupervisorLost { id: id.clone() }),
        }
    }
}

/// An error's text and those of its sources.
pub(super) fn messages(error: &dyn std::error::Error) -> Vec<String> {
    let mut messages = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let mut text = error.to_string();
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
        if messages.last() != Some(&text) && messages.len() < 16 {
            messages.push(text);
        }
        next = error.source();
    }
    messages
}
