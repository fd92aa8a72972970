//! XML to values.
//!
//! What must follow what, and what is open, is kept here, in a list and not on the stack.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

use super::error::{Problem, ReadError};
use super::number::{self, NoInt};
use super::tokens::{Tag, Token, Tokens, decode, is_blank, short};
use super::{Call, Fault, Value};

/// Arrays and structs that a value may be in. What people send has three or four; what nests
/// without bound is an attack.
pub const MAX_DEPTH: usize = 64;

/// Reads a call: what a server gets.
///
/// ```
/// use evmux::codec::xmlrpc::{Value, read_call};
///
/// let call = read_call(b"<methodCall><methodName>upper</methodName>\
///     <params><param><value>no type</value></param></params></methodCall>").unwrap();
/// assert_eq!(call.arguments, [Value::from("no type")]);
/// ```
///
/// # Errors
/// The document is not XML, or not a call, or nests too deeply; or has a value that is not what its
/// type says.
pub fn read_call(document: &[u8]) -> Result<Call, ReadError> {
    let text = decode(document)?;
    let mut tokens = Tokens::of(&text)?;
    tokens.root(Tag::MethodCall)?;
    tokens.start(Tag::MethodName)?;
    let method = tokens.text()?;
    let mut arguments = Vec::new();
    match tokens.markup()? {
        Token::Start(Tag::Params) => {
            while tokens.start_or_end(Tag::Param)? {
                tokens.start(Tag::Value)?;
                arguments.push(tokens.value()?);
                tokens.end()?;
            }
            tokens.end()?;
        }
        Token::End => {}
        other => return Err(tokens.unexpected(&other, "<params> or </methodCall>")),
    }
    tokens.finish()?;
    Ok(Call { method, arguments })
}

/// Reads an answer: what a client gets. The outer result says whether it could be read, the inner
/// one is what it says.
///
/// ```
/// use evmux::codec::xmlrpc::{Fault, read_response, write_fault, write_response};
///
/// let answer = write_response(&3.into()).unwrap();
/// assert_eq!(read_response(answer.as_bytes()), Ok(Ok(3.into())));
/// let fault = Fault::new(1, "no such file");
/// assert_eq!(read_response(write_fault(&fault).as_bytes()), Ok(Err(fault)));
/// ```
///
/// # Errors
/// As those of [`read_call`].
pub fn read_response(document: &[u8]) -> Result<Result<Value, Fault>, ReadError> {
    let text = decode(document)?;
    let mut tokens = Tokens::of(&text)?;
    tokens.root(Tag::MethodResponse)?;
    let answer = match tokens.markup()? {
        Token::Start(Tag::Params) => {
            tokens.start(Tag::Param)?;
            tokens.start(Tag::Value)?;
            let value = tokens.value()?;
            tokens.end()?;
            Ok(value)
        }
        Token::Start(Tag::Fault) => {
            tokens.start(Tag::Value)?;
            Err(tokens.fault()?)
        }
        other => return Err(tokens.unexpected(&other, "<params> or <fault>")),
    };
    tokens.end()?;
    tokens.end()?;
    tokens.finish()?;
    Ok(answer)
}

/// An array or a struct that is not whole, with what it has.
enum Open {
    Array(Vec<Value>),
    /// The name is that of the member that is being read.
    Struct(Vec<(String, Value)>, String),
}

/// A whole value, or the beginning of one.
enum Begun {
    Whole(Value),
    Array,
    Struct,
}

impl Tokens<'_> {
    /// The value whose beginning was read, up to its end.
    fn value(&mut self) -> Result<Value, ReadError> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            let begun = self.begin_value()?;
            if open.len() == MAX_DEPTH && !matches!(begun, Begun::Whole(_)) {
                return Err(self.error(Problem::TooDeep));
            }
            let mut whole = match begun {
                Begun::Whole(value) => Some(value),
                Begun::Array => {
                    self.start(Tag::Data)?;
                    open.push(Open::Array(Vec::new()));
                    None
                }
                Begun::Struct => {
                    open.push(Open::Struct(Vec::new(), String::new()));
                    None
                }
            };
            // A whole value goes into what is around it, which may be whole by it, and so on.
            while let Some(around) = open.pop() {
                match self.go_on(around, whole.take())? {
                    Ok(value) => whole = Some(value),
                    Err(more_to_come) => {
                        open.push(more_to_come);
                        break;
                    }
                }
            }
            if let Some(value) = whole {
                return Ok(value);
            }
        }
    }

    /// Puts a value into what is around it. If that is whole now, it is a value itself; else the
    /// beginning of the next value was read.
    fn go_on(
        &mut self,
        around: Open,
        value: Option<Value>,
    ) -> Result<Result<Value, Open>, ReadError> {
        match around {
            Open::Array(mut items) => {
                items.extend(value);
                if self.start_or_end(Tag::Value)? {
                    return Ok(Err(Open::Array(items)));
                }
                // The ends of <array> and <value>, too.
                self.end()?;
                self.end()?;
                Ok(Ok(Value::Array(items)))
            }
            Open::Struct(mut members, name) => {
                if let Some(value) = value {
                    members.push((name, value));
                    self.end()?;
                }
                if self.start_or_end(Tag::Member)? {
                    self.start(Tag::Name)?;
                    let name = self.text()?;
                    self.start(Tag::Value)?;
                    return Ok(Err(Open::Struct(members, name)));
                }
                self.end()?;
                Ok(Ok(Value::Struct(without_duplicates(members))))
            }
        }
    }

    /// Reads what stands in a value: all of it, unless other values stand in it.
    fn begin_value(&mut self) -> Result<Begun, ReadError> {
        let mut text = String::new();
        let tag = loop {
            match self.next()? {
                Token::Text(piece) => text.push_str(&piece),
                // Without a type it is a string, of every blank that is in it.
                Token::End => return Ok(Begun::Whole(Value::String(text))),
                Token::Start(tag) => break tag,
            }
        };
        if !is_blank(&text) {
            return Err(self.error(not_xml_rpc("text beside the value's type")));
        }
        let value = match tag {
            Tag::Array => return Ok(Begun::Array),
            Tag::Struct => return Ok(Begun::Struct),
            Tag::Nil => {
                self.end()?;
                Value::Nil
            }
            Tag::String => Value::String(self.text()?),
            Tag::DateTime => Value::DateTime(self.text()?.trim().to_owned()),
            Tag::Int | Tag::Double | Tag::Boolean | Tag::Base64 => {
                let text = self.text()?;
                scalar(tag, &text).map_err(|problem| self.error(problem))?
            }
            _ => return Err(self.unexpected(&Token::Start(tag), "a value")),
        };
        self.end()?;
        Ok(Begun::Whole(value))
    }

    /// The value of a fault, whose beginning was read.
    fn fault(&mut self) -> Result<Fault, ReadError> {
        let value = self.value()?;
        match (value.member("faultCode"), value.member("faultString")) {
            (Some(&Value::Int(code)), Some(Value::String(text))) => Ok(Fault::new(code, text)),
            _ => Err(self.error(not_xml_rpc("a fault without its code and its text"))),
        }
    }
}

fn scalar(tag: Tag, text: &str) -> Result<Value, Problem> {
    let value = match tag {
        Tag::Int => match number::int(text) {
            Ok(number) => Some(Value::Int(number)),
            Err(NoInt::TooLarge) => return Err(Problem::IntTooLarge),
            Err(NoInt::Malformed) => None,
        },
        Tag::Double => number::double(text).map(Value::Double),
        Tag::Boolean => match text.trim() {
            "0" => Some(Value::Boolean(false)),
            "1" => Some(Value::Boolean(true)),
            _ => None,
        },
        _ => {
            // It comes with line breaks; and what is no letter of it is passed over, says RFC 2045.
            let is_letter = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
            let letters: String = text.chars().filter(is_letter).collect();
            LENIENT.decode(letters).ok().map(Value::Base64)
        }
    };
    value.ok_or_else(|| Problem::BadValue { kind: tag.name(), text: short(text).to_owned() })
}

/// As Python reads it: bits behind the last whole byte may be set.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// A name that comes again has its last value in its first place, as in a Python dict.
fn without_duplicates(members: Vec<(String, Value)>) -> Vec<(String, Value)> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|one, other| members[*one].0.cmp(&members[*other].0));
    let unique = order.windows(2).all(|pair| members[pair[0]].0 != members[pair[1]].0);
    if unique {
        return members;
    }
    let mut places = BTreeMap::new();
    let mut kept: Vec<(String, Value)> = Vec::new();
    for (name, value) in members {
        match places.entry(name.clone()) {
            Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push((name, value));
            }
            Entry::Occupied(place) => kept[*place.get()].1 = value,
        }
    }
    kept
}

fn not_xml_rpc(what: &str) -> Problem {
    Problem::NotXmlRpc(what.to_owned())
}
