//! The console of a process that stays, which nobody may be reading: it goes on when the pipe behind it is full, at once
//! (faults.md RE07).

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use crate::console::lost_note;

/// Messages that wait for the reader; what comes behind them is counted and lost.
const WAITING_MAX: usize = 256;

/// How long the end of the process waits for the reader.
const FLUSH_MAX: Duration = Duration::from_millis(500);

/// A thread that writes, and the queue in front of it.
#[derive(Debug)]
pub struct Detached {
    queue: Option<SyncSender<Message>>,
    written: Receiver<()>,
    lost: u64,
}

#[derive(Debug)]
struct Message {
    to_stderr: bool,
    text: String,
}

impl Detached {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let (queue, messages) = sync_channel::<Message>(WAITING_MAX);
        let (done, written) = sync_channel(1);
        thread::Builder::new().name("console".to_owned()).spawn(move || {
            for Message { to_stderr, text } in messages {
                // Nobody is told: this is the way on which it would be.
                drop(if to_stderr {
                    io::stderr().lock().write_all(text.as_bytes())
                } else {
                    io::stdout().lock().write_all(text.as_bytes())
                });
            }
            drop(done);
        })?;
        Ok(Self { queue: Some(queue), written, lost: 0 })
    }

    /// Has a message written; never waits. Tells first how many were lost before it.
    pub fn write(&mut self, to_stderr: bool, text: String) {
        let Some(queue) = &self.queue else { return };
        let text = match self.lost {
            0 => text,
            lost => lost_note(lost) + &text,
        };
        match queue.try_send(Message { to_stderr, text }) {
            Ok(()) => self.lost = 0,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.lost = self.lost.saturating_add(1),
        }
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.queue = None;
        match self.written.recv_timeout(FLUSH_MAX) {
            Ok(()) | Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => {}
        }
    }
}
