//! The console of a command that ends: its reader is waited for, but not for ever. Who runs a command may have stopped
//! reading, and a backup or a WAL file must not wait for that (faults.md RE07).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// What a pipe that has room takes without keeping its writer waiting (`PIPE_BUF` in pipe(7)).
const PIECE_BYTES: usize = 4096;

/// Standard output and standard error, to which whole messages are written.
#[derive(Debug)]
pub struct Console {
    /// How long the reader may keep a message waiting; `None` waits as long as it takes.
    patience: Option<Duration>,
    stdout: Reader,
    stderr: Reader,
}

/// What is known of the reader of one of the two.
#[derive(Debug, Default)]
struct Reader {
    /// It let a message wait too long: until it takes one, none waits for it.
    is_away: bool,
    /// The last message went out in part.
    is_cut: bool,
    /// Messages that it did not get.
    lost: u64,
}

impl Console {
    /// A console whose readers may keep a message waiting for so long.
    pub fn new(patience: Option<Duration>) -> Self {
        Self { patience, stdout: Reader::default(), stderr: Reader::default() }
    }

    /// Writes a message, or counts it as lost; that messages were lost stands in front of the next one that is not.
    pub fn write(&mut self, to_stderr: bool, text: &str) {
        if to_stderr {
            self.stderr.write(io::stderr().as_fd(), text, self.patience);
        } else {
            self.stdout.write(io::stdout().as_fd(), text, self.patience);
        }
    }
}

impl Reader {
    fn write(&mut self, pipe: BorrowedFd<'_>, text: &str, patience: Option<Duration>) {
        let mut whole = String::new();
        if self.is_cut {
            whole.push('\n');
        }
        if self.lost > 0 {
            whole.push_str(&lost_note(self.lost));
        }
        whole.push_str(text);
        let patience = if self.is_away { Some(Duration::ZERO) } else { patience };
        let taken = offer(pipe, whole.as_bytes(), patience);
        if taken == whole.len() {
            *self = Self::default();
        } else {
            *self = Self { is_away: true, is_cut: self.is_cut || taken > 0, lost: self.lost.saturating_add(1) };
        }
    }
}

/// In the place of messages that nobody read.
pub fn lost_note(lost: u64) -> String {
    format!("({lost} messages were lost here: nobody read them)\n")
}

/// Writes as long as the reader takes something within `patience`, and tells how many bytes it took. When there is no
/// reader at all, or nothing can be written, nobody misses them.
fn offer(pipe: BorrowedFd<'_>, bytes: &[u8], patience: Option<Duration>) -> usize {
    let mut rest = bytes;
    while !rest.is_empty() {
        match has_room(pipe, patience) {
            Ok(true) => {}
            Ok(false) => return bytes.len() - rest.len(),
            Err(_) => return bytes.len(),
        }
        let piece = rest.get(..PIECE_BYTES).unwrap_or(rest);
        match rustix::io::write(pipe, piece) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return bytes.len(),
        }
    }
    bytes.len()
}

/// Waits until a write would not have to.
fn has_room(pipe: BorrowedFd<'_>, patience: Option<Duration>) -> rustix::io::Result<bool> {
    let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Longer than a time can be is as long as it takes.
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::from_borrowed_fd(pipe, PollFlags::OUT)], left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::thread;

    use super::*;

    const PATIENCE: Option<Duration> = Some(Duration::from_millis(20));

    /// A pipe without room, as bytes in it.
    fn full() -> (io::PipeReader, io::PipeWriter, usize) {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(&[b'.'; 64 * 1024]).unwrap();
        (reader, writer, 64 * 1024)
    }

    #[test]
    fn re07_a_reader_that_is_away_is_waited_for_once_and_told_what_it_missed() {
        let (mut pipe, writer, held) = full();
        let mut reader = Reader::default();
        let begun = Instant::now();
        for _ in 0..1000 {
            reader.write(writer.as_fd(), "lost\n", PATIENCE);
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        pipe.read_exact(&mut vec![0; held]).unwrap();
        reader.write(writer.as_fd(), "one\n", PATIENCE);
        reader.write(writer.as_fd(), "two\n", PATIENCE);
        drop(writer);
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        assert_eq!(text, "(1000 messages were lost here: nobody read them)\none\ntwo\n");
    }

    #[test]
    fn re07_a_slow_reader_gets_everything_and_one_that_left_is_no_obstacle() {
        let (mut pipe, writer) = io::pipe().unwrap();
        let message = format!("{}\n", "x".repeat(300 * 1024));
        let expected = message.repeat(2);
        let slow = thread::spawn(move || {
            let (mut text, mut piece) = (Vec::new(), vec![0; 32 * 1024]);
            loop {
                thread::sleep(Duration::from_millis(1));
                match pipe.read(&mut piece).unwrap() {
                    0 => return text,
                    bytes => text.extend_from_slice(&piece[..bytes]),
                }
            }
        });
        let mut reader = Reader::default();
        for _ in 0..2 {
            reader.write(writer.as_fd(), &message, Some(Duration::from_secs(10)));
        }
        drop(writer);
        assert!(slow.join().unwrap() == expected.as_bytes());

        let (pipe, writer, _) = full();
        drop(pipe);
        let mut reader = Reader::default();
        reader.write(writer.as_fd(), "nobody\n", None);
        assert_eq!(reader.lost, 0);
    }

    #[test]
    fn re07_a_message_that_was_cut_ends_its_line() {
        let (mut pipe, writer) = io::pipe().unwrap();
        let mut reader = Reader::default();
        reader.write(writer.as_fd(), &format!("{}\n", "x".repeat(128 * 1024)), PATIENCE);
        pipe.read_exact(&mut [0; 64 * 1024]).unwrap();
        reader.write(writer.as_fd(), "next\n", PATIENCE);
        drop(writer);
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        assert_eq!(text, "\n(1 messages were lost here: nobody read them)\nnext\n");
    }
}
