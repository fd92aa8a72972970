//! What the service `json` promises: the same value, and only its strings changed.

use evmux::services::json;
use evmux::{CloseReason, Limits, Peer, PeerAddress, Violation};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

use crate::talk::Talk;

/// The oracle: a value in upper case, by way of a tree.
fn upper_of(value: Value) -> Value {
    match value {
        Value::String(text) => text.to_uppercase().into(),
        Value::Array(values) => values.into_iter().map(upper_of).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (name, upper_of(value))).collect()
        }
        other => other,
    }
}

/// Values whose strings look like JSON.
fn values() -> impl Strategy<Value = Value> {
    let telling = select("aß\"\\:,[]{}\n\t é🦀\u{0}".chars().collect::<Vec<_>>());
    let text = vec(telling, 0..8).prop_map(|letters| letters.into_iter().collect::<String>());
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    scalar.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map(text.clone(), inner, 0..5)
                .prop_map(|members| members.into_iter().collect::<Value>()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn any_value_comes_back_as_a_tree_of_it_would(value in values()) {
        let heard: Value = serde_json::from_str(&answer_line(&value.to_string())).unwrap();
        prop_assert_eq!(heard, upper_of(value));
    }
}

/// What comes back for these bytes and the end behind them.
fn answer(bytes: &[u8]) -> String {
    let mut talk = Talk::new(json(&Peer::new(PeerAddress::Unix, 0)));
    assert_eq!(talk.say(bytes).reason(), CloseReason::Finished);
    String::from_utf8(talk.heard().to_vec()).expect("an answer is text")
}

fn answer_line(line: &str) -> String {
    let answer = answer(format!("{line}\n").as_bytes());
    answer.strip_suffix('\n').expect("a line").to_owned()
}

#[test]
fn strings_come_back_in_upper_case_by_the_full_mapping() {
    let text = r#""straße ŉ ﬁ ΐ ქართული ǆ 漢字 🦀""#;
    assert_eq!(answer_line(text), text.to_uppercase());
    let nested = r#"["a", ["b", {"k": "c"}], true, null]"#;
    assert_eq!(answer_line(nested), r#"["A", ["B", {"k": "C"}], true, null]"#);
}

#[test]
fn an_escape_is_a_character_and_not_letters() {
    assert_eq!(answer_line(r#""a\nb\tc\\d\"e\/f""#), r#""A\nB\tC\\D\"E/F""#);
    assert_eq!(answer_line(r#""\u00e9\u00DF\ud83e\udd80\u0001""#), r#""ÉSS🦀\u0001""#);
    assert_eq!(answer_line(r#"["\\", "\\\"", "a"]"#), r#"["\\", "\\\"", "A"]"#);
}

#[test]
fn a_number_comes_back_as_it_was_written() {
    for number in [
        "0",
        "-0",
        "1.0",
        "1.10",
        "1e400",
        "1E+2",
        "-0.0e-0",
        "12345678901234567890",
        "0.1000000000000000055511151231257827",
        "123456789012345678901234567890.5",
    ] {
        assert_eq!(answer_line(number), number);
        assert_eq!(answer_line(&format!("[{number}, \"x\"]")), format!("[{number}, \"X\"]"));
    }
}

#[test]
fn names_keep_their_letters_their_order_and_their_doubles() {
    let line = r#"{"z": "v", "a":"v" , "z" : 1,"\u0061":{"é\"": "v:"}, "": "\":"}"#;
    let answer = r#"{"z": "V", "a":"V" , "z" : 1,"\u0061":{"é\"": "V:"}, "": "\":"}"#;
    assert_eq!(answer_line(line), answer);
    // A string before a colon in the text of another string is no name.
    assert_eq!(answer_line(r#"["a", ": b", {"c": ":"}]"#), r#"["A", ": B", {"c": ":"}]"#);
}

#[test]
fn what_is_not_json_is_answered_with_an_error_and_the_next_line_is_read() {
    for line in [
        &b""[..],
        b"nope",
        b"hello world",
        b"[1,]",
        b"[1",
        b"{\"a\":1",
        b"{\"a\" 1}",
        b"{a: 1}",
        b"'a'",
        b"1 2",
        b"01",
        b"1.",
        b".5",
        b"+1",
        b"NaN",
        b"\"a\tb\"",
        b"\"\\x\"",
        b"\"open",
        b"\"\\ud800\"",
        b"\"\\udc00\\ud800\"",
        b"{\"\\ud800\": 1}",
        b"\"\xff\"",
        b"\xef\xbb\xbf1",
        b"]",
        b"\0",
    ] {
        let heard = answer(&[line, b"\r\n\"next\"\r\n"].concat());
        let lines: Vec<_> = heard.split("\r\n").collect();
        let [error, "\"NEXT\"", ""] = lines[..] else { panic!("{heard}") };
        assert!(error.starts_with("{\"error\": \""), "{error}");
        let error: Value = serde_json::from_str(error).expect("an error is JSON");
        assert!(!error["error"].as_str().expect("a text").is_empty(), "{error}");
    }
}

#[test]
fn an_error_says_what_is_wrong_and_where() {
    let error = r#"{"error": "not JSON: expected value at line 1 column 2"}"#;
    assert_eq!(answer_line("[?]"), error);
    assert!(answer_line("\"\\ud800\"").contains("half a surrogate pair"));
    assert!(answer(b"\"\xff\"\n").contains("not UTF-8"));
}

#[test]
fn nesting_is_limited_and_brackets_in_strings_do_not_nest() {
    let nested = |depth| format!("{}\"a\"{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(answer_line(&nested(128)), nested(128).to_uppercase());
    let error = r#"{"error": "nested deeper than 128"}"#;
    assert_eq!(answer_line(&nested(129)), error);
    assert_eq!(answer_line(&nested(20_000)), error);
    assert_eq!(answer_line(&"[".repeat(20_000)).matches("error").count(), 1);
    let side_by_side = format!("[{}1]", "{\"a\": [\"[[[\"]}, ".repeat(1000));
    assert_eq!(answer_line(&side_by_side), side_by_side);
}

#[test]
fn an_answer_ends_as_its_line_did_and_the_last_one_with_a_line_feed() {
    assert_eq!(answer(b" \"a\" \r\n\"b\"\n\"c\""), "\"A\"\r\n\"B\"\n\"C\"\n");
    assert_eq!(answer(b""), "");
    assert!(answer(b"nope").ends_with("}\n"));
}

#[test]
fn a_value_that_is_too_long_is_refused_behind_the_answers_before_it() {
    let limits = Limits::default().max_frame(5);
    let mut talk = Talk::with(json(&Peer::new(PeerAddress::Unix, 0)), limits, 3);
    let refused = Some(Violation::TooLong { length: 6, limit: 5 });
    assert_eq!(talk.say(b"\"abc\"\n\"abcd\"\n").violation(), refused);
    assert_eq!(talk.heard(), b"\"ABC\"\n");
}

#[test]
fn a_begun_value_is_waited_for_no_longer_than_a_frame_may_take() {
    let mut talk = Talk::new(json(&Peer::new(PeerAddress::Unix, 0)));
    assert_eq!(talk.say(b"1\n").deadline(), None);
    assert!(talk.say(b"[").deadline().is_some());
    assert_eq!(talk.say(b"]\n").deadline(), None);
}

#[test]
fn errors_that_are_longer_than_their_lines_do_not_pile_up() {
    let limits = Limits::default().send_buffer(100);
    let mut talk = Talk::with(json(&Peer::new(PeerAddress::Unix, 0)), limits, 1);
    talk.say(&b"\n".repeat(4096));
    assert_eq!(talk.heard().iter().filter(|byte| **byte == b'\n').count(), 4096);
    assert!(talk.most_waiting() < 200, "{}", talk.most_waiting());
}
