//! A line of the file, for who writes it and who reads it back.
//!
//! The format is the JSON object form of
//! [Trace Event Format](https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU),
//! which Perfetto imports: times in microseconds, `X` a slice, `i` an instant, `C` a count, `M` a
//! name, and `b`, `n`, `e` the beginning of something, an instant in it and its end, over tracks.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The category of the lives of connections, whose events go together by their `id`.
pub(crate) const CONNECTIONS: &str = "connection";
pub(crate) const OPEN_CONNECTIONS: &str = "open connections";
pub(crate) const WAITING_BYTES: &str = "waiting bytes";
pub(crate) const THREAD_NAME: &str = "thread_name";
/// The name of the end of a life.
pub(crate) const CLOSED: &str = "closed";

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Line<'a> {
    pub(crate) ph: Cow<'a, str>,
    pub(crate) name: Cow<'a, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) cat: Cow<'a, str>,
    /// Microseconds.
    pub(crate) ts: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dur: Option<f64>,
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<Cow<'a, str>>,
    /// How far an instant reaches: `t`, its track.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) s: Cow<'a, str>,
    #[serde(skip_serializing_if = "Args::is_empty")]
    pub(crate) args: Args<'a>,
}

/// What else there is to say; each kind of event has a few of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Args<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connection: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<Cow<'a, str>>,
    /// Microseconds before the timeline begins, of what it found begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) earlier: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) received: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) events: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) clients: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) datagrams: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connections: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    /// Why a life ended; without it the timeline ended before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Cow<'a, str>>,
}

impl Args<'_> {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
