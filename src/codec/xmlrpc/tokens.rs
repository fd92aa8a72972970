//! A document as a flat run of tokens.
//!
//! quick-xml finds them and sees to it that each end is that of the innermost element. What it
//! leaves to its caller is done here: which characters there may be, what a reference stands for,
//! what is no part of a document of ours.

use std::borrow::Cow;
use std::str::Utf8Error;

use memchr::memmem;
use quick_xml::Reader;
use quick_xml::errors::IllFormedError;
use quick_xml::events::Event;

use super::error::{Problem, ReadError};
use super::write::is_in_xml;

/// A document, read from its front.
pub(super) struct Tokens<'a> {
    document: &'a str,
    reader: Reader<&'a [u8]>,
    /// Where the last token began.
    at: usize,
}

/// What is in a document for us. Comments and processing instructions are nothing.
#[derive(Debug, PartialEq)]
pub(super) enum Token {
    /// The beginning of an element.
    Start(Tag),
    /// The end of the innermost one: the reader has seen to it that it is that one's.
    End,
    /// Text, or a part of it.
    Text(String),
}

/// The elements of XML-RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    MethodCall,
    MethodResponse,
    MethodName,
    Params,
    Param,
    Fault,
    Value,
    Nil,
    Boolean,
    Int,
    Double,
    String,
    DateTime,
    Base64,
    Array,
    Data,
    Struct,
    Member,
    Name,
}

impl Tag {
    /// The element of this name. A prefix is passed over, as by Python: Apache's `ex:nil`.
    fn named(name: &str) -> Option<Self> {
        Some(match name.rsplit_once(':').map_or(name, |(_, name)| name) {
            "methodCall" => Self::MethodCall,
            "methodResponse" => Self::MethodResponse,
            "methodName" => Self::MethodName,
            "params" => Self::Params,
            "param" => Self::Param,
            "fault" => Self::Fault,
            "value" => Self::Value,
            "nil" => Self::Nil,
            "boolean" => Self::Boolean,
            "int" | "i1" | "i2" | "i4" | "i8" | "biginteger" => Self::Int,
            "double" | "float" => Self::Double,
            "string" => Self::String,
            "dateTime.iso8601" => Self::DateTime,
            "base64" => Self::Base64,
            "array" => Self::Array,
            "data" => Self::Data,
            "struct" => Self::Struct,
            "member" => Self::Member,
            "name" => Self::Name,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::MethodCall => "methodCall",
            Self::MethodResponse => "methodResponse",
            Self::MethodName => "methodName",
            Self::Params => "params",
            Self::Param => "param",
            Self::Fault => "fault",
            Self::Value => "value",
            Self::Nil => "nil",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Double => "double",
            Self::String => "string",
            Self::DateTime => "dateTime.iso8601",
            Self::Base64 => "base64",
            Self::Array => "array",
            Self::Data => "data",
            Self::Struct => "struct",
            Self::Member => "member",
            Self::Name => "name",
        }
    }
}

impl<'a> Tokens<'a> {
    pub(super) fn of(document: &'a str) -> Result<Self, ReadError> {
        let mut reader = Reader::from_str(document);
        reader.config_mut().expand_empty_elements = true;
        let tokens = Self { document, reader, at: 0 };
        match document.char_indices().find(|(_, character)| !is_in_xml(*character)) {
            Some((at, _)) => Err(error_at(document.as_bytes(), at, Problem::NotXml(INVALID))),
            None => Ok(tokens),
        }
    }

    /// The text up to the end of the element whose beginning was read.
    pub(super) fn text(&mut self) -> Result<String, ReadError> {
        let mut text = String::new();
        loop {
            match self.next()? {
                Token::Text(piece) => text.push_str(&piece),
                Token::End => return Ok(text),
                other => return Err(self.unexpected(&other, "text")),
            }
        }
    }

    /// The element in which everything else stands.
    pub(super) fn root(&mut self, tag: Tag) -> Result<(), ReadError> {
        match self.markup()? {
            Token::Start(found) if found == tag => Ok(()),
            Token::Text(_) => Err(self.error(Problem::NotXml("syntax error"))),
            other => Err(self.unexpected(&other, &in_brackets(tag))),
        }
    }

    pub(super) fn start(&mut self, tag: Tag) -> Result<(), ReadError> {
        match self.markup()? {
            Token::Start(found) if found == tag => Ok(()),
            other => Err(self.unexpected(&other, &in_brackets(tag))),
        }
    }

    /// Whether one more of `tag` begins, and not what is around it ends.
    pub(super) fn start_or_end(&mut self, tag: Tag) -> Result<bool, ReadError> {
        match self.markup()? {
            Token::Start(found) if found == tag => Ok(true),
            Token::End => Ok(false),
            other => Err(self.unexpected(&other, &in_brackets(tag))),
        }
    }

    pub(super) fn end(&mut self) -> Result<(), ReadError> {
        match self.markup()? {
            Token::End => Ok(()),
            other => Err(self.unexpected(&other, "an end")),
        }
    }

    /// The next beginning or end, with nothing but blanks before it.
    pub(super) fn markup(&mut self) -> Result<Token, ReadError> {
        loop {
            match self.next()? {
                Token::Text(text) if is_blank(&text) => {}
                other => return Ok(other),
            }
        }
    }

    /// Nothing may stand behind the document's one element.
    pub(super) fn finish(&mut self) -> Result<(), ReadError> {
        loop {
            match self.event()? {
                Event::Eof => return Ok(()),
                Event::Comment(_) | Event::PI(_) => {}
                Event::Text(text) if is_blank(&text) => {}
                _ => return Err(self.error(Problem::NotXml("junk after document element"))),
            }
        }
    }

    pub(super) fn next(&mut self) -> Result<Token, ReadError> {
        loop {
            return match self.event()? {
                Event::Start(start) | Event::Empty(start) => {
                    let name = start.name().0;
                    Tag::named(name).map(Token::Start).ok_or_else(|| {
                        self.error(Problem::NotXmlRpc(format!("unknown tag {:?}", short(name))))
                    })
                }
                Event::End(_) => Ok(Token::End),
                Event::Text(text) => match memmem::find(text.as_bytes(), b"]]>") {
                    None => Ok(Token::Text(text.xml10_content().into_owned())),
                    Some(place) => {
                        // The last of the three is what is wrong.
                        self.at += place + 2;
                        Err(self.error(Problem::NotXml(INVALID)))
                    }
                },
                Event::CData(text) => Ok(Token::Text(text.xml10_content().into_owned())),
                Event::GeneralRef(name) => self.reference(&name).map(Token::Text),
                Event::Comment(_) | Event::PI(_) => continue,
                Event::Decl(_) if self.at == 0 => continue,
                Event::Decl(_) => {
                    Err(self
                        .error(Problem::NotXml("XML or text declaration not at start of entity")))
                }
                Event::DocType(_) => {
                    Err(self.error(Problem::NotXml("a document type is not allowed")))
                }
                Event::Eof => Err(self.error(Problem::NotXml("no element found"))),
            };
        }
    }

    /// What an entity stands for: one of XML's five, or a character by its number. There are no
    /// others without a document type.
    fn reference(&self, name: &str) -> Result<String, ReadError> {
        let character = match name {
            "lt" => Some('<'),
            "gt" => Some('>'),
            "amp" => Some('&'),
            "apos" => Some('\''),
            "quot" => Some('"'),
            _ => {
                let Some(number) = name.strip_prefix('#') else {
                    return Err(self.error(Problem::NotXml("undefined entity")));
                };
                let code = match number.strip_prefix('x') {
                    Some(digits) => u32::from_str_radix(digits, 16),
                    None => number.parse(),
                };
                code.ok().and_then(char::from_u32).filter(|character| is_in_xml(*character))
            }
        };
        character
            .map(String::from)
            .ok_or_else(|| self.error(Problem::NotXml("reference to invalid character number")))
    }

    fn event(&mut self) -> Result<Event<'a>, ReadError> {
        self.at = self.reader.buffer_position() as usize;
        self.reader.read_event().map_err(|why| {
            self.at = self.reader.error_position() as usize;
            let what = match why {
                quick_xml::Error::IllFormed(
                    IllFormedError::MismatchedEndTag { .. } | IllFormedError::UnmatchedEndTag(_),
                ) => {
                    // The name is what is wrong, behind the two characters.
                    self.at += "</".len();
                    "mismatched tag"
                }
                quick_xml::Error::Syntax(_) => "unclosed token",
                _ => INVALID,
            };
            self.error(Problem::NotXml(what))
        })
    }

    pub(super) fn unexpected(&self, found: &Token, expected: &str) -> ReadError {
        let found = match found {
            Token::Start(tag) => in_brackets(*tag),
            Token::End => "an end".to_owned(),
            Token::Text(text) => format!("{:?}", short(text.trim())),
        };
        self.error(Problem::NotXmlRpc(format!("{found} instead of {expected}")))
    }

    pub(super) fn error(&self, problem: Problem) -> ReadError {
        error_at(self.document.as_bytes(), self.at, problem)
    }
}

const INVALID: &str = "not well-formed (invalid token)";

fn error_at(document: &[u8], at: usize, problem: Problem) -> ReadError {
    let before = &document[..at.min(document.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count();
    ReadError { problem, line, column }
}

/// The document as text: UTF-8, or the encoding that Latin letters had before it.
pub(super) fn decode(document: &[u8]) -> Result<Cow<'_, str>, ReadError> {
    let document = document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document);
    match encoding(document) {
        None => {}
        Some(name) if name.eq_ignore_ascii_case(b"utf-8") => {}
        Some(name) if name.eq_ignore_ascii_case(b"us-ascii") => {}
        Some(name) if name.eq_ignore_ascii_case(b"iso-8859-1") => {
            return Ok(document.iter().map(|byte| char::from(*byte)).collect());
        }
        Some(_) => return Err(error_at(document, 0, Problem::NotXml("unknown encoding"))),
    }
    let invalid = |why: Utf8Error| error_at(document, why.valid_up_to(), Problem::NotXml(INVALID));
    str::from_utf8(document).map(Cow::Borrowed).map_err(invalid)
}

/// What the XML declaration says of the encoding.
fn encoding(document: &[u8]) -> Option<&[u8]> {
    let declaration = document.strip_prefix(b"<?xml")?;
    let declaration = &declaration[..memmem::find(declaration, b"?>")?];
    let behind = &declaration[memmem::find(declaration, b"encoding")? + "encoding".len()..];
    let value = behind.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let (quote, value) = value.split_first()?;
    value.split(|byte| byte == quote).next()
}

pub(super) fn is_blank(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
}

fn in_brackets(tag: Tag) -> String {
    format!("<{}>", tag.name())
}

/// Enough of a text to know it by.
pub(super) fn short(text: &str) -> &str {
    text.char_indices().nth(200).map_or(text, |(end, _)| &text[..end])
}
