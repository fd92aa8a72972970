//! What goes over the wire, without a wire: the codecs and the services, driven through a
//! connection by calls.

mod codecs;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
mod http1;
mod services;
mod split;
mod talk;
#[cfg(feature = "zlib")]
mod zlib;
#[cfg(feature = "xmlrpc")]
mod xmlrpc;
