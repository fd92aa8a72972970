//! What time it is, for whoever connects. The clock is a function, since reading one is not the
//! business of a service: a test gives a clock that stands still.

use super::Say;
use crate::Peer;

/// What `clock` says when a connection comes, as it is: the line's end is for `clock` to add.
///
/// ```
/// use evmux::services::time;
///
/// let service = time(|| "Thu Jun 17 19:49:58 2010\n");
/// ```
pub fn time<C, T>(clock: C) -> impl Fn(&Peer) -> Say<T>
where
    C: Fn() -> T,
    T: AsRef<[u8]>,
{
    move |_| Say(clock())
}
