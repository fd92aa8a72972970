//! `evmux client xmlrpc`: a function is called, and what it returns is printed.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use evmux::client::receive_to_end;
use evmux::codec::xmlrpc::{Value, read_response, write_call};
use flate2::read::MultiGzDecoder;
use ureq::http::StatusCode;

use super::http::{agent, failure};
use crate::arguments::XmlRpcOptions;
use crate::failure::Failure;
use crate::output::Output;

/// The longest answer, before and after it is inflated: what Python's client allows.
const LONGEST_ANSWER: usize = 20 << 20;

pub(super) fn run(options: &XmlRpcOptions) -> Result<(), Failure> {
    let url = &options.url;
    let call = write_call(&options.method, &options.arguments)
        .map_err(|why| Failure::new("cannot write the call", why))?;
    let answer = post(url, &call)?;
    let answer = read_response(&answer)
        .map_err(|why| Failure::new(format_args!("{url} does not answer in XML-RPC"), why))?;
    let value = answer.map_err(|fault| Failure::Run(fault.to_string()))?;
    let mut text = String::new();
    match &value {
        Value::String(plain) => text.push_str(plain),
        Value::DateTime(time) => text.push_str(time),
        Value::Base64(bytes) => text.push_str(&STANDARD.encode(bytes)),
        other => write_json(&mut text, other),
    }
    Output::new()?.write_line(text.as_bytes()).map(drop)
}

/// The body of the answer to `call`.
fn post(url: &str, call: &str) -> Result<Vec<u8>, Failure> {
    // A redirected call would arrive as another request, without its body.
    const NO_REDIRECTS: u32 = 0;
    let answer = agent(NO_REDIRECTS)
        .post(url)
        .header("Content-Type", "text/xml")
        .header("Accept-Encoding", "gzip")
        .send(call)
        .map_err(|error| failure(url, &error))?;
    if answer.status() != StatusCode::OK {
        return Err(Failure::Run(format!("{url}: the server says {}", answer.status())));
    }
    let zipped = answer
        .headers()
        .get("Content-Encoding")
        .is_some_and(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"gzip"));
    let body = answer.into_body().into_reader().take(LONGEST_ANSWER as u64 + 1);
    let received = if zipped {
        receive_to_end(&mut MultiGzDecoder::new(body), LONGEST_ANSWER)
    } else {
        receive_to_end(&mut { body }, LONGEST_ANSWER)
    };
    received.map_err(|why| Failure::new(format_args!("{url}: the answer"), why))
}

/// As Python's `json.dumps` writes it. A value that was read nests at most 64 deep.
fn write_json(text: &mut String, value: &Value) {
    match value {
        Value::Nil => text.push_str("null"),
        Value::Boolean(is) => text.push_str(if *is { "true" } else { "false" }),
        Value::Int(number) => text.push_str(&number.to_string()),
        Value::Double(number) => text.push_str(&double(*number)),
        Value::String(plain) | Value::DateTime(plain) => write_quoted(text, plain),
        Value::Base64(bytes) => write_quoted(text, &STANDARD.encode(bytes)),
        Value::Array(values) => {
            text.push('[');
            for (index, value) in values.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { ", " });
                write_json(text, value);
            }
            text.push(']');
        }
        Value::Struct(members) => {
            text.push('{');
            for (index, (name, value)) in members.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { ", " });
                write_quoted(text, name);
                text.push_str(": ");
                write_json(text, value);
            }
            text.push('}');
        }
    }
}

fn write_quoted(text: &mut String, plain: &str) {
    text.push_str(&serde_json::Value::from(plain).to_string());
}

/// The shortest text that is read as the same number, and as no integer; the three that JSON does
/// not have are written as Python and JavaScript do.
fn double(number: f64) -> String {
    if number.is_nan() {
        "NaN".into()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else {
        format!("{number:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_printed_as_python_writes_json() {
        let value = Value::Struct(vec![
            ("roots".into(), vec![Value::Double(0.0), 8.0.into(), (-0.0).into()].into()),
            ("\"".into(), Value::Nil),
            ("text".into(), "a\nß".into()),
            ("time".into(), Value::DateTime("20160118T13:41:45".into())),
            ("bytes".into(), Value::Base64(vec![0, 255])),
            ("whole".into(), vec![Value::Int(i64::MIN), true.into(), false.into()].into()),
            ("none".into(), vec![Value::Array(vec![]), Value::Struct(vec![])].into()),
        ]);
        let mut text = String::new();
        write_json(&mut text, &value);
        assert_eq!(
            text,
            r#"{"roots": [0.0, 8.0, -0.0], "\"": null, "text": "a\nß", "#.to_owned()
                + r#""time": "20160118T13:41:45", "bytes": "AP8=", "#
                + r#""whole": [-9223372036854775808, true, false], "none": [[], {}]}"#
        );
    }

    #[test]
    fn a_double_keeps_every_digit() {
        for (number, text) in [
            (0.1 + 0.2, "0.30000000000000004"),
            (5e-324, "5e-324"),
            (1e16, "1e16"),
            (-3.0, "-3.0"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(double(number), text);
        }
    }
}
