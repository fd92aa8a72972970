//! What a response carries, whoever owns it: a page that never changes need not be copied for each
//! client, nor one that was made for this one.

use std::sync::Arc;

/// The bytes of a response.
///
/// It is made from `&'static str`, `&'static [u8]`, `String`, `Vec<u8>` and `Arc<[u8]>`.
#[derive(Clone, Debug)]
pub struct Body(Owner);

#[derive(Clone, Debug)]
enum Owner {
    Program(&'static [u8]),
    Response(Vec<u8>),
    Many(Arc<[u8]>),
}

impl Default for Body {
    fn default() -> Self {
        Self(Owner::Program(&[]))
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        match &self.0 {
            Owner::Program(bytes) => bytes,
            Owner::Response(bytes) => bytes,
            Owner::Many(bytes) => bytes,
        }
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self(Owner::Program(text.as_bytes()))
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Owner::Program(bytes))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self(Owner::Response(text.into_bytes()))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Owner::Response(bytes))
    }
}

impl From<Arc<[u8]>> for Body {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self(Owner::Many(bytes))
    }
}
