//! The servers of the slides that greet whoever connects: by address, or with one text for all.

use std::sync::Arc;

use super::Say;
use crate::{Peer, PeerAddress};

/// `Hello <IP address of the peer>`, or `Hello unix`, on a line.
pub fn hello(peer: &Peer) -> Say<String> {
    Say(match peer.address {
        PeerAddress::Inet(address) => format!("Hello {}\n", address.ip().to_canonical()),
        PeerAddress::Unix => "Hello unix\n".to_owned(),
    })
}

/// The same text for everyone, as it is.
pub fn greeting(text: impl Into<Arc<[u8]>>) -> impl Fn(&Peer) -> Say<Arc<[u8]>> + Clone {
    let text = text.into();
    move |_| Say(Arc::clone(&text))
}
