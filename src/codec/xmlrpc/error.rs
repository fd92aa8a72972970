//! Why a document is refused, and where.

use std::error::Error;
use std::fmt;

use super::MAX_DEPTH;

/// Why a document could not be read, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// What is wrong.
    pub problem: Problem,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in bytes, counted from 0.
    pub column: usize,
}

/// What is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// It is not XML; the text says in what.
    NotXml(&'static str),
    /// It is XML, but not what was to be read; the text says what stands there instead.
    NotXmlRpc(String),
    /// The text, of at most 200 characters, is not of the type that is named.
    BadValue {
        /// `int`, `double`, `boolean`, `base64`.
        kind: &'static str,
        /// The text.
        text: String,
    },
    /// An integer that 64 bits do not hold.
    IntTooLarge,
    /// More than [`MAX_DEPTH`] arrays and structs in each other.
    TooDeep,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotXml(what) => f.write_str(what),
            Self::NotXmlRpc(what) => f.write_str(what),
            Self::BadValue { kind, text } => write!(f, "{text:?} is no {kind}"),
            Self::IntTooLarge => f.write_str("an integer that 64 bits do not hold"),
            Self::TooDeep => write!(f, "more than {MAX_DEPTH} arrays and structs in each other"),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: line {}, column {}", self.problem, self.line, self.column)
    }
}

impl Error for ReadError {}
