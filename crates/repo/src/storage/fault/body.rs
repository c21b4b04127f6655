//! Bodies that break, end, stall, crawl or lie.

use std::collections::VecDeque;
use std::future;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use tokio::time;

use crate::storage::{ByteStream, ErrorClass, Operation, StorageError, StoragePath};

use super::plan::Fault;

/// What becomes of a body, and where.
struct Spoiled {
    inner: ByteStream,
    path: StoragePath,
    given: u64,
    ready: VecDeque<Bytes>,
    flips: Vec<(u64, u8)>,
    slow: Option<(usize, Duration)>,
    stop: Option<(u64, Stop)>,
}

#[derive(Clone, Copy)]
enum Stop {
    Error,
    End,
    Stall,
}

/// `inner` with the faults that concern a body; `roll` gives a place below a bound.
pub(super) fn spoil(
    inner: ByteStream,
    path: &StoragePath,
    length: u64,
    faults: &[Fault],
    mut roll: impl FnMut(u64) -> u64,
) -> ByteStream {
    let mut spoiled = Spoiled {
        inner,
        path: path.clone(),
        given: 0,
        ready: VecDeque::new(),
        flips: Vec::new(),
        slow: None,
        stop: None,
    };
    for fault in faults {
        match fault {
            Fault::CutBody { after_bytes } => {
                spoiled.stop = Some((after_bytes.unwrap_or_else(|| roll(length)), Stop::Error));
            }
            Fault::EndBody { after_bytes } => spoiled.stop = Some((*after_bytes, Stop::End)),
            Fault::StallBody { after_bytes } => spoiled.stop = Some((*after_bytes, Stop::Stall)),
            Fault::SlowBody { piece_bytes, every } => spoiled.slow = Some(((*piece_bytes).max(1), *every)),
            Fault::FlipBit { byte, bit } => spoiled.flips.push((*byte, bit & 7)),
            _ => {}
        }
    }
    // A body that ends before its fault is whole.
    spoiled.stop = spoiled.stop.filter(|(at, _)| *at < length);
    Box::pin(stream::try_unfold(spoiled, |mut body| async move {
        let piece = body.next_piece().await?;
        Ok(piece.map(|piece| (piece, body)))
    }))
}

impl Spoiled {
    async fn next_piece(&mut self) -> Result<Option<Bytes>, StorageError> {
        if let Some((at, stop)) = self.stop.filter(|(at, _)| self.given >= *at) {
            match stop {
                Stop::End => return Ok(None),
                Stop::Stall => future::pending().await,
                Stop::Error => {
                    let what = format!("the connection was closed after {at} bytes of the body (injected)");
                    return Err(StorageError::new(ErrorClass::Transient, Operation::Read, &self.path, what));
                }
            }
        }
        let Some(mut piece) = self.pull().await? else { return Ok(None) };
        if let Some((_, every)) = self.slow {
            time::sleep(every).await;
        }
        let mut most = self.slow.map_or(usize::MAX, |(piece_bytes, _)| piece_bytes);
        if let Some((at, _)) = self.stop {
            most = most.min(usize::try_from(at - self.given).unwrap_or(usize::MAX));
        }
        if piece.len() > most {
            self.ready.push_front(piece.split_off(most));
        }
        let piece = self.flip(piece);
        self.given += piece.len() as u64;
        Ok(Some(piece))
    }

    async fn pull(&mut self) -> Result<Option<Bytes>, StorageError> {
        match self.ready.pop_front() {
            Some(piece) => Ok(Some(piece)),
            None => self.inner.next().await.transpose(),
        }
    }

    fn flip(&self, piece: Bytes) -> Bytes {
        let mut spoiled: Option<BytesMut> = None;
        for (byte, bit) in &self.flips {
            let Some(within) = byte.checked_sub(self.given).and_then(|within| usize::try_from(within).ok()) else {
                continue;
            };
            if within < piece.len() {
                let copy = spoiled.get_or_insert_with(|| BytesMut::from(&*piece));
                if let Some(found) = copy.get_mut(within) {
                    *found ^= 1 << bit;
                }
            }
        }
        spoiled.map_or(piece, BytesMut::freeze)
    }
}
