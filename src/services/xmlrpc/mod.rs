//! Functions that other programs call, by XML-RPC over HTTP: what Python's `SimpleXMLRPCServer`
//! does, for any number of clients.
//!
//! POST to `/` or `/RPC2` carries a call; the answer is a value, or a fault with status 200. Bodies
//! may be packed with gzip both ways, as Python does it. Any other method is 501, any other path
//! 404.
//!
//! Clients see the bytes that Python would send, its faults included, but here:
//! - A number of more than 32 bits is sent as `i8`, and no value as `nil`; Python's server refuses
//!   the one always and the other unless told.
//! - What is no call in the grammar of XML-RPC is a fault. Python's reader takes a good deal more:
//!   a wrong root, two values in a `param`. A document type, and more than 64 arrays and structs in
//!   each other, are faults, too.
//! - A POST without a length is 411, and one that is too long 413; Python says 500, or reads on.
//! - HTTP/1.1 keeps its connection, takes chunks and answers `Expect: 100-continue`.

mod arithmetic;
mod python;
mod registry;
mod standard;

use std::io::Read;
use std::sync::Arc;

use flate2::Compression;
use flate2::read::{GzEncoder, MultiGzDecoder};

use super::{Application, Http, Response};
use crate::Peer;
use crate::codec::TooLong;
use crate::codec::http1::Request;
use crate::codec::xmlrpc::{Fault, Value, read_call, write_fault, write_response};

pub use registry::Registry;

/// Answers the calls of XML-RPC clients with the functions of a registry. All connections share
/// it.
///
/// ```
/// use evmux::Server;
/// use evmux::services::{Registry, xmlrpc};
///
/// let mut registry = Registry::standard();
/// registry.register("greet", "A greeting.", |_| Ok("hello".into()));
/// let server = Server::builder(xmlrpc(registry)).listen("127.0.0.1:0").build()?;
/// # Ok::<(), evmux::Error>(())
/// ```
pub fn xmlrpc(registry: impl Into<Arc<Registry>>) -> impl Fn(&Peer) -> Http<XmlRpc> + Clone {
    let registry = registry.into();
    move |_| Http::new(XmlRpc { registry: Arc::clone(&registry) })
}

/// XML-RPC on one connection of HTTP.
#[derive(Debug)]
pub struct XmlRpc {
    registry: Arc<Registry>,
}

impl Application for XmlRpc {
    fn answer(&mut self, request: &Request<'_>) -> Response {
        if request.method != "POST" {
            return Response::text(format!("unsupported method {}\n", request.method)).status(501);
        }
        if !matches!(request.path(), "/" | "/RPC2") {
            return Response::text("No such page").status(404);
        }
        if !request.has_length() {
            return Response::error(411);
        }
        let answer = match unpacked(request) {
            Ok(None) => self.registry.answer(request.body),
            Ok(Some(document)) => self.registry.answer(&document),
            Err(response) => return response,
        };
        respond(request, answer)
    }
}

impl Registry {
    /// Reads a call, makes it, and writes what came of it.
    fn answer(&self, document: &[u8]) -> String {
        let answer = read_call(document)
            .map_err(|why| python::not_read(&why))
            .and_then(|call| self.call(&call.method, &call.arguments));
        match answer.and_then(|value| written(&value)) {
            Ok(document) => document,
            Err(fault) => write_fault(&fault),
        }
    }
}

fn written(answer: &Value) -> Result<String, Fault> {
    write_response(answer).map_err(|why| python::exception("ValueError", why))
}

/// The body as it was before it was packed, if it was: never more than a body may have.
fn unpacked(request: &Request<'_>) -> Result<Option<Vec<u8>>, Response> {
    let encoding = request.header("content-encoding").unwrap_or("identity");
    if encoding.eq_ignore_ascii_case("identity") {
        return Ok(None);
    }
    if !encoding.eq_ignore_ascii_case("gzip") {
        return Err(Response::text(format!("encoding {encoding:?} not supported\n")).status(501));
    }
    let limit = request.max_body;
    let mut document = Vec::new();
    let most = (limit as u64).saturating_add(1);
    match MultiGzDecoder::new(request.body).take(most).read_to_end(&mut document) {
        Ok(length) if length <= limit => Ok(Some(document)),
        Ok(length) => {
            let numbers = TooLong { length: length as u64, limit: limit as u64 };
            Err(Response::text(format!("body: at least {numbers}\n")).status(413))
        }
        Err(_) => Err(Response::text("error decoding gzip content\n").status(400)),
    }
}

/// What fits into a packet is not worth packing.
const WORTH_PACKING: usize = 1400;

fn respond(request: &Request<'_>, document: String) -> Response {
    const TYPE: &str = "text/xml";
    if document.len() > WORTH_PACKING && takes_gzip(request) {
        let mut packed = Vec::new();
        let mut packer = GzEncoder::new(document.as_bytes(), Compression::fast());
        // Reading from memory does not fail; if it did, the document itself is as good.
        if packer.read_to_end(&mut packed).is_ok() {
            return Response::new(TYPE, packed).header("Content-Encoding", "gzip");
        }
    }
    Response::new(TYPE, document)
}

/// Whether the client named gzip among what it takes, and not only to say that it does not.
fn takes_gzip(request: &Request<'_>) -> bool {
    request.header("accept-encoding").unwrap_or_default().split(',').any(|item| {
        let (name, parameter) = item.split_once(';').unwrap_or((item, ""));
        let quality = parameter.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f64>);
        name.trim().eq_ignore_ascii_case("gzip") && quality.is_ok_and(|quality| quality > 0.0)
    })
}
