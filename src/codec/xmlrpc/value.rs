//! What a call carries: values, and faults instead of them.

use std::error::Error;
use std::fmt;

/// A value of XML-RPC.
///
/// ```
/// use evmux::codec::xmlrpc::Value;
///
/// let point = Value::Struct(vec![("x".to_owned(), 7.into()), ("y".to_owned(), 1.5.into())]);
/// assert_eq!(point.member("y"), Some(&Value::Double(1.5)));
/// ```
///
/// Values nest, and so does the program's stack when a value is dropped, cloned or compared. What
/// was read nests at most [`MAX_DEPTH`](super::MAX_DEPTH) deep.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value: the extension `nil`.
    Nil,
    /// `boolean`.
    Boolean(bool),
    /// `int`, and `i8` where 32 bits do not hold it: one kind of number in two notations.
    Int(i64),
    /// `double`. What is not a number or is infinite is written as Python does, `nan` and `inf`.
    Double(f64),
    /// `string`.
    String(String),
    /// `dateTime.iso8601`: the text as it was sent, `20160118T13:41:45` or `2016-01-18T13:41:45`.
    /// The zone is not in it; the peers must know it.
    DateTime(String),
    /// `base64`: the bytes themselves.
    Base64(Vec<u8>),
    /// `array`.
    Array(Vec<Value>),
    /// `struct`: members in the order in which they are sent, no name twice.
    Struct(Vec<(String, Value)>),
}

impl Value {
    /// The member of a struct with this name.
    pub fn member(&self, name: &str) -> Option<&Self> {
        let Self::Struct(members) = self else { return None };
        members.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl From<Vec<Value>> for Value {
    fn from(values: Vec<Value>) -> Self {
        Self::Array(values)
    }
}

/// What a function answers that cannot answer a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `faultCode`. What it means is between the peers; Python's server always says 1.
    pub code: i64,
    /// `faultString`.
    pub text: String,
}

impl Fault {
    /// A fault with this code and this text.
    pub fn new(code: i64, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fault {}: {}", self.code, self.text)
    }
}

impl Error for Fault {}
