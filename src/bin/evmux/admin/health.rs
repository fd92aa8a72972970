//! Whether the server is well, for a supervisor, and whether it wants new clients, for a load
//! balancer. The two differ: one that drains is well and wants none.

use std::time::Duration;

use evmux::Phase;
use evmux::services::Response;

use super::Subject;

/// Whoever waits for one client's answer for so long fails all others.
pub(super) const LONGEST_TURN: Duration = Duration::from_secs(5);

pub(super) fn healthz(subject: &Subject) -> Response {
    let turn = subject.shown.get().map(|shown| shown.watch.longest_turn()).unwrap_or_default();
    verdict(illness(turn))
}

/// Only a readiness loop falls ill: a thread that serves one client alone holds up nobody else.
pub(super) fn illness(longest_turn: Duration) -> Option<String> {
    (longest_turn > LONGEST_TURN).then(|| {
        format!(
            "a serving loop left its wait {:.1} s ago and has not gone back: a handler computes or \
             blocks, and nobody else of its connections is served",
            longest_turn.as_secs_f64()
        )
    })
}

pub(super) fn readyz(subject: &Subject) -> Response {
    verdict(unreadiness(subject).map(str::to_owned))
}

pub(super) fn unreadiness(subject: &Subject) -> Option<&'static str> {
    let Some(shown) = subject.shown.get() else { return Some("not all listeners are bound yet") };
    let draining = shown.is_ending() || shown.watch.phase() != Phase::Serving;
    draining.then_some("the server is about to end, and wants no new clients")
}

fn verdict(why_not: Option<String>) -> Response {
    match why_not {
        None => Response::text("ok\n"),
        Some(why) => Response::text(format!("{why}\n")).status(503),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_an_illness_after_five_seconds() {
        assert_eq!(illness(Duration::ZERO), None);
        assert_eq!(illness(LONGEST_TURN), None);
        let why = illness(Duration::from_millis(7230)).expect("an illness");
        assert!(why.starts_with("a serving loop left its wait 7.2 s ago"), "{why}");
    }

    #[test]
    fn before_the_listeners_are_bound_the_server_is_well_but_not_ready() {
        let subject = Subject::unbound();
        assert!(unreadiness(&subject).is_some_and(|why| why.contains("bound")));
        let text = format!("{:?}", healthz(&subject));
        assert!(text.contains("200"), "{text}");
    }
}
