//! The matrix: each kind of handler under each model over each transport in each situation, and each
//! service in four of them. Every cell is a test of its own, named after its place:
//! `stream::epoll::tcp::half_close`. `make conformance` makes docs/conformance.md of the names and
//! results; the cells that cannot be have their reasons in `page.py`.
//!
//! What each claim means in depth is tried in `tests/sockets`; here it is that no combination was
//! left out.
#![cfg(all(feature = "json", feature = "xmlrpc", feature = "zlib"))]

// Of what the tests on sockets share, a part is used here.
#[allow(dead_code, unused_imports, unused_macros)]
#[path = "../support/mod.rs"]
#[macro_use]
mod support;

mod harness;
mod services;
mod situations;

/// A module for each model and transport, and in it a test for each situation.
macro_rules! matrix {
    ($kind:ident: $($model:ident)+: tcp $tcp:tt unix $unix:tt) => {
        $(pub(crate) mod $model {
            mod tcp {
                cells! { $kind $model tcp $tcp }
            }
            mod unix {
                cells! { $kind $model unix $unix }
            }
        })+
    };
}

macro_rules! cells {
    ($kind:ident $model:ident $transport:ident { $($situation:ident)+ }) => {
        $(#[test]
        fn $situation() {
            use crate::{harness::{Cell, Kind, Transport}, situations};
            let model = stringify!($model).parse().unwrap();
            let cell = Cell { kind: Kind::$kind, model, transport: Transport::$transport };
            situations::$situation(cell);
        })+
    };
}

mod stream {
    matrix! { Stream: threads pool poll epoll:
        tcp { fragmented half_close slow_reader reset idle drain exhaustion }
        unix { fragmented half_close slow_reader reset idle drain }
    }
    matrix! { Stream: sequential:
        tcp { fragmented half_close slow_reader reset idle drain }
        unix { fragmented half_close slow_reader reset idle drain }
    }
}

mod framed {
    matrix! { Framed: threads pool poll epoll:
        tcp { fragmented half_close slow_reader reset over_long idle drain exhaustion }
        unix { fragmented half_close slow_reader reset over_long idle drain }
    }
    matrix! { Framed: sequential:
        tcp { fragmented half_close slow_reader reset over_long idle drain }
        unix { fragmented half_close slow_reader reset over_long idle drain }
    }
}

mod closing {
    matrix! { Closing: threads pool poll epoll:
        tcp { fragmented half_close slow_reader reset over_long idle drain exhaustion }
        unix { fragmented half_close slow_reader reset over_long idle drain }
    }
    matrix! { Closing: sequential:
        tcp { fragmented half_close slow_reader reset over_long idle drain }
        unix { fragmented half_close slow_reader reset over_long idle drain }
    }
}
