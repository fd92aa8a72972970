//! What goes over the wire, without a wire: the codecs and the services, driven through a
//! connection by calls.

mod codecs;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
mod http1;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "xmlrpc")]
mod registry;
mod services;
mod split;
mod talk;
#[cfg(feature = "xmlrpc")]
mod xmlrpc;
#[cfg(feature = "zlib")]
mod zlib;
