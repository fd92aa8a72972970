//! A server that speaks first, and only once.

use crate::{Exchange, Flow, Handler};

/// Says its text as it is, then closes. What the client says is not listened to.
#[derive(Clone, Debug)]
pub struct Say<T>(pub T);

impl<T: AsRef<[u8]>> Handler for Say<T> {
    fn open(&mut self, exchange: &mut Exchange<'_>) -> Flow {
        exchange.to_send.append(self.0.as_ref());
        Flow::Close
    }

    fn receive(&mut self, _: &mut Exchange<'_>) -> Flow {
        Flow::Close
    }
}
