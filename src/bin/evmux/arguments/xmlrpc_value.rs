//! The arguments of a function as people type them, turned into the types of XML-RPC.
//!
//! ```text
//!   7  -4             int            [1, "two"]       array, as JSON
//!   2.5  1e9          double         {"x": 1}         struct, as JSON
//!   true  false       boolean        anything else    string
//!   string:7          string
//! ```

use evmux::codec::xmlrpc::Value;
use serde_json::Value as Json;

/// The value that `text` stands for, or why it cannot be told.
pub(super) fn read(text: &str) -> Result<Value, String> {
    if let Some(text) = text.strip_prefix("string:") {
        return Ok(Value::from(text));
    }
    match text {
        "true" => return Ok(Value::Boolean(true)),
        "false" => return Ok(Value::Boolean(false)),
        _ => {}
    }
    if text.starts_with(['[', '{']) {
        let json: Json = serde_json::from_str(text)
            .map_err(|why| format!("is not JSON: {why}; string: in front makes it a string"))?;
        return from_json(json);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        // Never through a double, which would change its last digits.
        return text.parse().map(Value::Int).map_err(|_| TOO_LARGE.into());
    }
    // `inf` and `nan` are numbers to Rust, and words to everybody else.
    if !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return Ok(Value::from(text));
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Value::Double(number)),
        Ok(_) => Err("is more than a double holds; string: in front makes it a string".into()),
        Err(_) => Ok(Value::from(text)),
    }
}

const TOO_LARGE: &str =
    "does not fit 64 bits; as 1e20 it would be a double, and as string:1 a string";

fn from_json(json: Json) -> Result<Value, String> {
    Ok(match json {
        Json::Null => Value::Nil,
        Json::Bool(is) => Value::Boolean(is),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Value::Int(number),
            (None, _) if number.is_u64() => return Err(format!("{number} {TOO_LARGE}")),
            (None, Some(number)) => Value::Double(number),
            (None, None) => return Err(format!("{number} is no double")),
        },
        Json::String(text) => Value::String(text),
        Json::Array(values) => {
            Value::Array(values.into_iter().map(from_json).collect::<Result<_, _>>()?)
        }
        Json::Object(members) => {
            let members = members.into_iter().map(|(name, value)| Ok((name, from_json(value)?)));
            Value::Struct(members.collect::<Result<_, String>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_written_as_one_would() {
        for (text, value) in [
            ("7", Value::Int(7)),
            ("-4", Value::Int(-4)),
            ("9223372036854775807", Value::Int(i64::MAX)),
            ("2.5", Value::Double(2.5)),
            ("-1e3", Value::Double(-1000.0)),
            ("3.0", Value::Double(3.0)),
            ("5e-324", Value::Double(5e-324)),
            ("true", Value::Boolean(true)),
            ("false", Value::Boolean(false)),
            ("True", Value::from("True")),
            ("string:7", Value::from("7")),
            ("string:", Value::from("")),
            ("string:string:", Value::from("string:")),
            ("", Value::from("")),
            ("-", Value::from("-")),
            ("nan", Value::from("nan")),
            ("-inf", Value::from("-inf")),
            ("Infinity", Value::from("Infinity")),
            ("1.2.3", Value::from("1.2.3")),
            ("0x10", Value::from("0x10")),
            (" 7", Value::from(" 7")),
            ("[]", Value::Array(vec![])),
            ("[1, 2.0, null]", Value::Array(vec![1.into(), 2.0.into(), Value::Nil])),
            ("{\"a\": [true]}", Value::Struct(vec![("a".into(), vec![true.into()].into())])),
        ] {
            assert_eq!(read(text), Ok(value), "{text}");
        }
        assert!(matches!(read("-0.0"), Ok(Value::Double(zero)) if zero.is_sign_negative()));
    }

    #[test]
    fn what_would_not_arrive_as_it_was_typed_is_refused() {
        for text in [
            "9223372036854775808",
            "-99999999999999999999",
            "1e999",
            "[1",
            "{x}",
            "[1e999]",
            "[9223372036854775808]",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
