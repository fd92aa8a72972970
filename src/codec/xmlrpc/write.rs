//! Values to XML, in the very bytes of Python's `dumps`.

use std::error::Error;
use std::fmt::{self, Write};
use std::slice;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::number::double_as_text;
use super::{Fault, Value};

/// A character that XML 1.0 cannot carry, not even by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotInXml(
    /// The character.
    pub char,
);

impl fmt::Display for NotInXml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XML cannot carry the character {:?}", self.0)
    }
}

impl Error for NotInXml {}

/// A call, for the body of a request.
///
/// ```
/// use evmux::codec::xmlrpc::{read_call, write_call};
///
/// let call = write_call("add", &[1.into(), 2.into()])?;
/// assert_eq!(read_call(call.as_bytes()).unwrap().method, "add");
/// # Ok::<(), evmux::codec::xmlrpc::NotInXml>(())
/// ```
///
/// # Errors
/// The name or an argument has a character that XML cannot carry.
pub fn write_call(method: &str, arguments: &[Value]) -> Result<String, NotInXml> {
    let mut out = String::from(HEADER);
    out.push_str("<methodCall>\n<methodName>");
    text(&mut out, method)?;
    out.push_str("</methodName>\n<params>\n");
    for argument in arguments {
        out.push_str("<param>\n");
        value(&mut out, argument)?;
        out.push_str("</param>\n");
    }
    out.push_str("</params>\n</methodCall>\n");
    Ok(out)
}

/// The answer with a value, for the body of a response.
///
/// # Errors
/// A text in it has a character that XML cannot carry.
pub fn write_response(answer: &Value) -> Result<String, NotInXml> {
    let mut out = String::from(HEADER);
    out.push_str("<methodResponse>\n<params>\n<param>\n");
    value(&mut out, answer)?;
    out.push_str("</param>\n</params>\n</methodResponse>\n");
    Ok(out)
}

/// The answer with a fault. A character of its text that XML cannot carry becomes U+FFFD: a fault
/// is told in any case.
pub fn write_fault(fault: &Fault) -> String {
    let told = fault.text.replace(|character| !is_in_xml(character), "\u{FFFD}");
    let told = Value::Struct(vec![
        ("faultCode".to_owned(), Value::Int(fault.code)),
        ("faultString".to_owned(), Value::String(told)),
    ]);
    let mut out = String::from(HEADER);
    out.push_str("<methodResponse>\n<fault>\n");
    let written = value(&mut out, &told);
    debug_assert_eq!(written, Ok(()), "replaced above");
    out.push_str("</fault>\n</methodResponse>\n");
    out
}

const HEADER: &str = "<?xml version='1.0'?>\n";

/// The containers around what is written next, each with what is left of it. Not our stack: a
/// program may build a value as deep as it likes.
enum Open<'v> {
    Array(slice::Iter<'v, Value>),
    Struct(slice::Iter<'v, (String, Value)>),
}

fn value<'v>(out: &mut String, first: &'v Value) -> Result<(), NotInXml> {
    let mut open: Vec<Open<'v>> = Vec::new();
    let mut next = Some(first);
    loop {
        if let Some(value) = next.take() {
            match value {
                Value::Array(items) => {
                    out.push_str("<value><array><data>\n");
                    open.push(Open::Array(items.iter()));
                }
                Value::Struct(members) => {
                    out.push_str("<value><struct>\n");
                    open.push(Open::Struct(members.iter()));
                }
                scalar => write_scalar(out, scalar)?,
            }
            if let (Some(Open::Struct(_)), false) = (open.last(), is_container(value)) {
                out.push_str("</member>\n");
            }
        }
        match open.last_mut() {
            None => return Ok(()),
            Some(Open::Array(items)) => match items.next() {
                Some(item) => next = Some(item),
                None => close(out, &mut open, "</data></array></value>\n"),
            },
            Some(Open::Struct(members)) => match members.next() {
                Some((name, member)) => {
                    out.push_str("<member>\n<name>");
                    text(out, name)?;
                    out.push_str("</name>\n");
                    next = Some(member);
                }
                None => close(out, &mut open, "</struct></value>\n"),
            },
        }
    }
}

fn is_container(value: &Value) -> bool {
    matches!(value, Value::Array(_) | Value::Struct(_))
}

/// Ends the innermost container, which may be a member of the one around it.
fn close(out: &mut String, open: &mut Vec<Open<'_>>, end: &str) {
    out.push_str(end);
    open.pop();
    if let Some(Open::Struct(_)) = open.last() {
        out.push_str("</member>\n");
    }
}

fn write_scalar(out: &mut String, value: &Value) -> Result<(), NotInXml> {
    let (begin, end) = match value {
        Value::Nil => ("<value><nil/></value>", ""),
        Value::Boolean(_) => ("<value><boolean>", "</boolean></value>\n"),
        Value::Int(number) if i32::try_from(*number).is_ok() => {
            ("<value><int>", "</int></value>\n")
        }
        Value::Int(_) => ("<value><i8>", "</i8></value>\n"),
        Value::Double(_) => ("<value><double>", "</double></value>\n"),
        Value::String(_) => ("<value><string>", "</string></value>\n"),
        Value::DateTime(_) => ("<value><dateTime.iso8601>", "</dateTime.iso8601></value>\n"),
        Value::Base64(_) => ("<value><base64>\n", "</base64></value>\n"),
        Value::Array(_) | Value::Struct(_) => return Ok(()),
    };
    out.push_str(begin);
    match value {
        Value::Boolean(value) => out.push(if *value { '1' } else { '0' }),
        Value::Int(number) => {
            // Writing into a String cannot fail.
            let _ = write!(out, "{number}");
        }
        Value::Double(number) => out.push_str(&double_as_text(*number)),
        Value::String(value) | Value::DateTime(value) => text(out, value)?,
        Value::Base64(bytes) => {
            for line in bytes.chunks(LINE) {
                STANDARD.encode_string(line, out);
                out.push('\n');
            }
        }
        Value::Nil | Value::Array(_) | Value::Struct(_) => {}
    }
    out.push_str(end);
    Ok(())
}

/// Bytes on a line of base64: 76 letters of it, as MIME says and Python writes.
const LINE: usize = 57;

fn text(out: &mut String, text: &str) -> Result<(), NotInXml> {
    if let Some(character) = text.chars().find(|character| !is_in_xml(*character)) {
        return Err(NotInXml(character));
    }
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>', '\r']) {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        out.push_str(match special.as_bytes()[0] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            _ => "&#13;",
        });
        rest = &special[1..];
    }
    out.push_str(rest);
    Ok(())
}

/// The characters of XML 1.0, section 2.2.
pub(super) fn is_in_xml(character: char) -> bool {
    !matches!(character, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{FFFE}' | '\u{FFFF}')
}
