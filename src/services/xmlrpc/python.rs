//! Faults in the words of Python's server: code 1, and the exception that it would have told.
//!
//! Clients compare these texts; that is why they are Python's, class and all.

use std::fmt::{Display, Write};

use crate::codec::xmlrpc::{Fault, Problem, ReadError, Value};

/// The fault of an exception.
pub(super) fn exception(class: &str, text: impl Display) -> Fault {
    Fault::new(1, format!("<class '{class}'>:{text}"))
}

pub(super) fn type_error(text: impl Display) -> Fault {
    exception("TypeError", text)
}

/// A number that no `int` of XML-RPC holds. With Python that is one past 32 bits, here one past 64.
pub(super) fn too_large() -> Fault {
    exception("OverflowError", "int exceeds XML-RPC limits")
}

/// The fault for a call that could not be read.
pub(super) fn not_read(why: &ReadError) -> Fault {
    let ReadError { problem, line, column } = why;
    match problem {
        Problem::NotXml(what) => {
            let text = format!("{what}: line {line}, column {column}");
            exception("xml.parsers.expat.ExpatError", text)
        }
        Problem::BadValue { kind: "int", text } => {
            let text = format!("invalid literal for int() with base 10: {}", quoted(text));
            exception("ValueError", text)
        }
        Problem::BadValue { kind: "double", text } => {
            exception("ValueError", format!("could not convert string to float: {}", quoted(text)))
        }
        Problem::BadValue { kind: "boolean", .. } => type_error("bad boolean value"),
        Problem::BadValue { kind: "base64", .. } => {
            exception("binascii.Error", "Incorrect padding")
        }
        Problem::IntTooLarge => too_large(),
        Problem::TooDeep => exception("RecursionError", why),
        _ => exception("xmlrpc.client.ResponseError", why),
    }
}

/// What Python calls the type of a value that was read.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Nil => "NoneType",
        Value::Boolean(_) => "bool",
        Value::Int(_) => "int",
        Value::Double(_) => "float",
        Value::String(_) => "str",
        Value::DateTime(_) => "DateTime",
        Value::Base64(_) => "Binary",
        Value::Array(_) => "list",
        Value::Struct(_) => "dict",
    }
}

/// The arguments of a function with these parameters.
pub(super) fn positional<'v, const N: usize>(
    function: &str,
    parameters: [&str; N],
    arguments: &'v [Value],
) -> Result<&'v [Value; N], Fault> {
    if let Ok(arguments) = arguments.try_into() {
        return Ok(arguments);
    }
    let given = arguments.len();
    if given > N {
        let plural = if N == 1 { "" } else { "s" };
        let were = if given == 1 { "was" } else { "were" };
        return Err(type_error(format!(
            "{function}() takes {N} positional argument{plural} but {given} {were} given"
        )));
    }
    let missing: Vec<_> = parameters[given..].iter().map(|name| format!("'{name}'")).collect();
    let (plural, names) = match missing.as_slice() {
        [one] => ("", one.clone()),
        [one, two] => ("s", format!("{one} and {two}")),
        [most @ .., last] => ("s", format!("{}, and {last}", most.join(", "))),
        [] => ("s", String::new()),
    };
    let count = missing.len();
    Err(type_error(format!(
        "{function}() missing {count} required positional argument{plural}: {names}"
    )))
}

/// A text as Python's `repr()` shows it.
pub(super) fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut shown = String::from(quote);
    for character in text.chars() {
        // Writing into a String cannot fail.
        let _ = match character {
            '\n' => write!(shown, "\\n"),
            '\r' => write!(shown, "\\r"),
            '\t' => write!(shown, "\\t"),
            '\\' => write!(shown, "\\\\"),
            '\'' if quote == '\'' => write!(shown, "\\'"),
            '\0'..='\u{1f}' | '\u{7f}'..='\u{a0}' => {
                write!(shown, "\\x{:02x}", u32::from(character))
            }
            other => write!(shown, "{other}"),
        };
    }
    shown.push(quote);
    shown
}
