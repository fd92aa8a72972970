//! XML-RPC: calls of functions by name, with values of nine kinds, as XML.
//!
//! ```text
//!   <methodCall>                        <methodResponse>
//!     <methodName>add</methodName>        <params><param>
//!     <params>                              <value><int>3</int></value>
//!       <param><value>...               </param></params>
//!     </params>                         </methodResponse>      or <fault> instead of <params>
//!   </methodCall>
//! ```
//!
//! What is written is what Python's `xmlrpc.client.dumps` writes, byte for byte. What is read is
//! what its peers write, and more: values without a type, character references, CDATA, comments,
//! `i8`, `nil`. The format is that of <http://xmlrpc.com/spec.md>; `nil` and `i8` are the usual
//! extensions.
//!
//! A document comes from a stranger. Nothing in it nests on our stack, and a document type, which
//! is where an entity bomb would be, is refused. So is a value in more than [`MAX_DEPTH`] others.
//!
//! Where we do not write what Python does:
//! - A number past 32 bits is written as `i8`; Python refuses to send it.
//! - A carriage return is written as `&#13;`: Python writes it as it is, and then every XML reader
//!   turns it into a line feed.
//! - A character that XML cannot carry is an error; Python writes it, and its peer cannot read it.
//! - The name of a method and the text of a time are escaped.

mod error;
mod number;
mod read;
mod tokens;
mod value;
mod write;

pub use error::{Problem, ReadError};
pub use read::{MAX_DEPTH, read_call, read_response};
pub use value::{Fault, Value};
pub use write::{NotInXml, write_call, write_fault, write_response};

/// A function is called: what a client sends.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The name of the function.
    pub method: String,
    /// Its arguments.
    pub arguments: Vec<Value>,
}
