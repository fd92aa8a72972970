//! What goes over the wire, without a wire: the codecs and the services, driven through a
//! connection by calls.

mod codecs;
mod services;
mod talk;
