//! Messages of other threads in a simulated world: they wake handlers, close connections and send
//! bytes that no handler made, to those that live and to those that are long gone.
//!
//! When a message arrives between two answers is the loop's business, so the script cannot say where
//! its bytes stand. They are marks, bytes that no answer has; where one is sent it becomes a part of
//! what the client must get, and everything behind it moves.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::mailbox::{Message, Queue};

use super::Draw;
use super::kernel::SimStream;
use super::wire::Wire;
use super::world::{Action, World};

/// The byte of a message.
const MARK: u8 = 0;
/// Bytes of the longest one.
pub(super) const LONGEST: usize = 5;

pub(super) struct Messages {
    pub(super) queue: Arc<Queue<SimStream>>,
    /// Its own, so that a world with messages is otherwise that of its seed.
    draw: Draw,
}

impl Messages {
    pub(super) fn new(draw: Draw) -> io::Result<Self> {
        let capacity = *draw.clone().branch().pick(&[1, 3, 64]);
        // The loop's mailbox is shared by threads; that of a world is not.
        #[allow(clippy::arc_with_non_send_sync)]
        let queue = Arc::new(Queue::new(capacity)?);
        Ok(Self { queue, draw })
    }
}

impl World {
    pub(super) fn plan_messages(&mut self) {
        let Some(mut messages) = self.messages.take() else { return };
        for _ in 0..messages.draw.between(1..=20) {
            let client = messages.draw.between(0..=self.wires.len().max(1) - 1);
            let most = *messages.draw.pick(&[5_000, 50_000, 1_000_000, 100_000_000]);
            let after = Duration::from_micros(messages.draw.between(0..=most) as u64);
            if client < self.wires.len() {
                self.plan(after, Action::Post(client));
            }
        }
        self.messages = Some(messages);
    }

    /// Whether a message would end a wait, or the program itself does.
    pub(super) fn is_asked(&self) -> bool {
        let messages = self.messages.as_ref();
        messages.is_some_and(|messages| !messages.queue.is_empty()) || !self.to_call.is_empty()
    }

    /// Another thread speaks to the connection of `client`, or to what it was.
    pub(super) fn post(&mut self, client: usize) {
        let Some(mut messages) = self.messages.take() else { return };
        let wire = &mut self.wires[client];
        let is_sendable = !wire.client.script.answered()[wire.answered..].contains(&MARK);
        if let Some(id) = wire.id {
            let message = match messages.draw.between(0..=9) {
                0 => {
                    wire.spoil("it was dismissed");
                    Message::Close(id)
                }
                1..=4 if is_sendable => {
                    let length = messages.draw.between(1..=LONGEST);
                    wire.marks_due += length;
                    wire.was_sent_to = true;
                    Message::Send(id, vec![MARK; length].into())
                }
                _ => Message::Wake(id),
            };
            self.note(|| format!("a thread tells client {client}: {message:?}"));
            // A full mailbox drops it.
            let _ = messages.queue.post(message, |message| message);
        }
        self.messages = Some(messages);
    }
}

impl Wire {
    /// Of what is sent now, marks that are due become a part of what the client must get.
    pub(super) fn take_in_marks(&mut self, sent: &[u8]) {
        if self.marks_due == 0 {
            return;
        }
        for (offset, byte) in sent.iter().enumerate() {
            let at = self.answered + offset;
            let script = &mut self.client.script;
            if *byte == MARK && self.marks_due > 0 && script.answered().get(at) != Some(&MARK) {
                self.marks_due -= 1;
                script.insert(at, MARK);
                self.promised = self.promised.map(|end| end + usize::from(end > at));
            }
        }
    }
}
