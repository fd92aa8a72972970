//! `evmux client http`: a page to stdout or to a file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use ureq::http::Response;
use ureq::{Agent, Body, Error};

use crate::failure::Failure;
use crate::names;
use crate::output::Output;

pub(super) fn run(url: &str, output: Option<&Path>) -> Result<(), Failure> {
    let page = get(url)?;
    // Only now, so that a page which is not there costs no file.
    match output {
        Some(path) => {
            let cannot = |why| Failure::new(format_args!("cannot write {}", path.display()), why);
            let mut file = File::create(path).map_err(cannot)?;
            copy(url, page, |bytes| file.write_all(bytes).map(|()| true).map_err(cannot))
        }
        None => {
            let mut stdout = Output::new()?;
            copy(url, page, |bytes| Ok(stdout.write(bytes)?.is_continue()))
        }
    }
}

fn get(url: &str) -> Result<Response<Body>, Failure> {
    let page = agent(MOST_REDIRECTS).get(url).call().map_err(|error| failure(url, &error))?;
    let status = page.status();
    if status.is_success() {
        return Ok(page);
    }
    Err(Failure::Run(format!("{url}: the server says {status}")))
}

/// A page is rarely further away, and a circle is noticed.
const MOST_REDIRECTS: u32 = 10;

/// How both HTTP clients behave: no proxy, which could come between unseen; a status is judged by
/// its caller, and so is a redirect after so many.
pub(super) fn agent(redirects: u32) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(redirects)
        .max_redirects_will_error(redirects > 0)
        .proxy(None)
        .user_agent(concat!("evmux/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// Hands the page on to `write` until it ends, or until that has enough.
fn copy(
    url: &str,
    page: Response<Body>,
    mut write: impl FnMut(&[u8]) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut body = page.into_body().into_reader();
    let mut bytes = vec![0; 64 * 1024];
    loop {
        match body.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                if !write(bytes.get(..count).unwrap_or_default())? {
                    return Ok(());
                }
            }
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => {
                return Err(Failure::new(format_args!("{url}: the page was cut off"), why));
            }
        }
    }
}

/// Why nothing came from `url`.
pub(super) fn failure(url: &str, error: &Error) -> Failure {
    let Error::Io(why) = error else { return Failure::new(url, error) };
    let text = why.to_string();
    let authority = url.split('/').nth(2).unwrap_or(url);
    match text.strip_prefix(names::NO_NEWS) {
        Some(why) => names::nonexistent(authority, why),
        None if why.kind() == io::ErrorKind::ConnectionRefused => {
            Failure::Run(format!("{url}: {text}; does a server listen there?"))
        }
        None => Failure::new(url, text),
    }
}
