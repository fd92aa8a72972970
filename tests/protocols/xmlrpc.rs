//! What XML-RPC's documents say, and which are refused.

use evmux::codec::xmlrpc::{
    Call, Fault, MAX_DEPTH, Problem, Value, read_call, read_response, write_call, write_fault,
    write_response,
};
use proptest::prelude::*;

/// A call with this in its one <param>.
fn with(value: &str) -> String {
    format!(
        "<?xml version='1.0'?><methodCall><methodName>f</methodName><params><param>{value}</param>\
         </params></methodCall>"
    )
}

#[track_caller]
fn read(value: &str) -> Value {
    let mut call = read_call(with(value).as_bytes()).unwrap_or_else(|why| panic!("{value}: {why}"));
    assert_eq!((call.method.as_str(), call.arguments.len()), ("f", 1));
    call.arguments.remove(0)
}

#[track_caller]
fn refused(document: &[u8]) -> Problem {
    match read_call(document) {
        Ok(call) => panic!("{:?} is {call:?}", String::from_utf8_lossy(document)),
        Err(why) => why.problem,
    }
}

// ── what is read ─────────────────────────────────────────────────────────────────────────────────

#[test]
fn each_type_is_read() {
    for (text, value) in [
        ("<value>no type</value>", "no type".into()),
        ("<value> a\n </value>", " a\n ".into()),
        ("<value/>", "".into()),
        ("<value><string/></value>", "".into()),
        ("<value>\n <string> a </string>\n</value>", " a ".into()),
        ("<value><int> -7 </int></value>", (-7).into()),
        ("<value><i4>+5</i4></value>", 5.into()),
        ("<value><i8>-9223372036854775808</i8></value>", i64::MIN.into()),
        ("<value><ex:i8>5000000000</ex:i8></value>", 5_000_000_000_i64.into()),
        ("<value><boolean>1</boolean></value>", true.into()),
        ("<value><boolean>0</boolean></value>", false.into()),
        ("<value><double>3</double></value>", 3.0.into()),
        ("<value><double>5e-324</double></value>", 5e-324.into()),
        ("<value><double> 1E400 </double></value>", f64::INFINITY.into()),
        ("<value><nil/></value>", Value::Nil),
        ("<value><base64>\nYWJj\r\nZA=\n=\n</base64></value>", Value::Base64(b"abcd".to_vec())),
        ("<value><base64/></value>", Value::Base64(Vec::new())),
        (
            "<value><dateTime.iso8601> 20160118T13:41:45</dateTime.iso8601></value>",
            Value::DateTime("20160118T13:41:45".to_owned()),
        ),
        (
            "<value><dateTime.iso8601>2016-01-18T13:41:45Z</dateTime.iso8601></value>",
            Value::DateTime("2016-01-18T13:41:45Z".to_owned()),
        ),
        ("<value><array><data/></array></value>", Vec::new().into()),
        (
            "<value><array> <data> <value>a</value> <value><array><data><value>b</value></data>\
             </array></value> </data> </array></value>",
            vec!["a".into(), vec!["b".into()].into()].into(),
        ),
        ("<value><struct/></value>", Value::Struct(Vec::new())),
        (
            "<value><struct><member><name>z</name><value>1</value></member>\
             <member><name>a</name><value>2</value></member></struct></value>",
            Value::Struct(vec![("z".to_owned(), "1".into()), ("a".to_owned(), "2".into())]),
        ),
    ] {
        assert_eq!(read(text), value, "{text}");
    }
}

#[test]
fn negative_zero_keeps_its_sign() {
    let Value::Double(zero) = read("<value><double>-0.0</double></value>") else { panic!() };
    assert!(zero == 0.0 && zero.is_sign_negative());
}

#[test]
fn text_is_put_together_from_all_that_xml_has() {
    let text = "<value>&lt;a&amp;b&gt;&quot;&apos; &#65;&#x42;&#x1F600;\
                <![CDATA[<c>&amp;]]><!-- none --> d<?nor this?>e</value>";
    assert_eq!(read(text), "<a&b>\"' AB😀<c>&amp; de".into());
}

#[test]
fn a_line_end_is_a_line_feed_and_a_carriage_return_by_number_stays() {
    assert_eq!(read("<value>a\r\nb\rc&#13;d</value>"), "a\nb\nc\rd".into());
}

#[test]
fn of_a_name_that_comes_twice_the_last_value_stands_in_the_first_place() {
    let member =
        |name, value| format!("<member><name>{name}</name><value>{value}</value></member>");
    let text = member("a", 1) + &member("b", 2) + &member("a", 3);
    let value = read(&format!("<value><struct>{text}</struct></value>"));
    let members = vec![("a".to_owned(), "3".into()), ("b".to_owned(), "2".into())];
    assert_eq!(value, Value::Struct(members));
}

#[test]
fn a_call_may_do_without_params_declaration_and_blanks() {
    let call = Call { method: "f".to_owned(), arguments: Vec::new() };
    for document in [
        "<methodCall><methodName>f</methodName></methodCall>",
        "\u{FEFF}<?xml version='1.0'?>\n<methodCall>\n<methodName>f</methodName>\n\
         <params>\n</params>\n</methodCall>\n<!-- end -->\n",
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><methodCall><methodName>f</methodName>\
         <params/></methodCall>",
    ] {
        assert_eq!(read_call(document.as_bytes()), Ok(call.clone()), "{document}");
    }
}

#[test]
fn latin_letters_are_read_when_the_declaration_says_so() {
    let document = b"<?xml version='1.0' encoding='ISO-8859-1'?><methodCall><methodName>\xe9\
                     </methodName></methodCall>";
    assert_eq!(read_call(document).unwrap().method, "é");
}

// ── what is refused ──────────────────────────────────────────────────────────────────────────────

#[test]
fn what_is_not_xml_is_refused_in_the_words_of_expat() {
    for (document, what) in [
        (&b""[..], "no element found"),
        (b"hello", "syntax error"),
        (b"<methodCall>", "no element found"),
        (b"<methodCall><methodName>f</methodCall>", "mismatched tag"),
        (b"</methodCall>", "mismatched tag"),
        (b"<methodCall", "unclosed token"),
        (b"\xff\xfe<\0", "not well-formed (invalid token)"),
        (b"<methodCall><methodName>\xff", "not well-formed (invalid token)"),
        (b"<methodCall><methodName>f</methodName></methodCall>x", "junk after document element"),
        (b"<methodCall><methodName>f</methodName></methodCall><x/>", "junk after document element"),
        (b"<?xml version='1.0' encoding='EBCDIC'?><methodCall/>", "unknown encoding"),
    ] {
        let text = String::from_utf8_lossy(document);
        assert_eq!(refused(document), Problem::NotXml(what), "{text}");
    }
    for (value, what) in [
        ("<value>a\u{1}b</value>", "not well-formed (invalid token)"),
        ("<value>]]></value>", "not well-formed (invalid token)"),
        ("<value>&#0;</value>", "reference to invalid character number"),
        ("<value>&#x1f;</value>", "reference to invalid character number"),
        ("<value>&#xD800;</value>", "reference to invalid character number"),
        ("<value>&#99999999999;</value>", "reference to invalid character number"),
        ("<value>&bomb;</value>", "undefined entity"),
    ] {
        assert_eq!(refused(with(value).as_bytes()), Problem::NotXml(what), "{value}");
    }
}

#[test]
fn a_document_type_is_refused_before_any_entity_of_it_grows() {
    let bomb = format!(
        "<?xml version='1.0'?><!DOCTYPE b [<!ENTITY a \"{}\"><!ENTITY b \"{}\">]>\
         <methodCall><methodName>&b;</methodName></methodCall>",
        "a".repeat(1000),
        "&a;".repeat(1000)
    );
    assert_eq!(refused(bomb.as_bytes()), Problem::NotXml("a document type is not allowed"));
}

#[test]
fn a_value_that_is_not_of_its_type_is_refused() {
    let bad = |kind, text: &str| Problem::BadValue { kind, text: text.to_owned() };
    for (value, problem) in [
        ("<value><int>x</int></value>", bad("int", "x")),
        ("<value><int/></value>", bad("int", "")),
        ("<value><int>1.0</int></value>", bad("int", "1.0")),
        ("<value><i8>9223372036854775808</i8></value>", Problem::IntTooLarge),
        ("<value><i8>-99999999999999999999999</i8></value>", Problem::IntTooLarge),
        ("<value><double>x</double></value>", bad("double", "x")),
        ("<value><boolean>2</boolean></value>", bad("boolean", "2")),
        ("<value><base64>YWI</base64></value>", bad("base64", "YWI")),
    ] {
        assert_eq!(refused(with(value).as_bytes()), problem, "{value}");
    }
}

#[test]
fn what_is_xml_but_no_call_is_refused() {
    for document in [
        "<a/>",
        "<methodResponse><params/></methodResponse>",
        "<methodCall/>",
        "<methodCall><params/></methodCall>",
        "<methodName><methodName>f</methodName></methodName>",
        "<methodCall><methodName><value/></methodName></methodCall>",
        "<methodCall>f<methodName>f</methodName></methodCall>",
        "<methodCall><methodName>f</methodName><methodName>f</methodName></methodCall>",
    ] {
        let problem = refused(document.as_bytes());
        assert!(matches!(problem, Problem::NotXmlRpc(_)), "{document}: {problem}");
    }
    for value in [
        "",
        "<int>1</int>",
        "<value><foo>1</foo></value>",
        "<value><param/></value>",
        "<value>a<string>b</string></value>",
        "<value><string>b</string>a</value>",
        "<value><string>a</string><string>b</string></value>",
        "<value><string><b/></string></value>",
        "<value><nil>x</nil></value>",
        "<value>a</value><value>b</value>",
        "<value><array><value>a</value></array></value>",
        "<value><array><data>a</data></array></value>",
        "<value><struct><member><name>a</name></member></struct></value>",
        "<value><struct><member><value>a</value><name>a</name></member></struct></value>",
        "<value><struct><name>a</name><value>a</value></struct></value>",
    ] {
        let problem = refused(with(value).as_bytes());
        assert!(matches!(problem, Problem::NotXmlRpc(_)), "{value}: {problem}");
    }
}

#[test]
fn a_value_nests_so_deep_and_no_deeper() {
    let nested = |depth: usize| {
        "<value><array><data>".repeat(depth) + "<value/>" + &"</data></array></value>".repeat(depth)
    };
    let mut value = &read(&nested(MAX_DEPTH));
    for _ in 0..MAX_DEPTH {
        let Value::Array(items) = value else { panic!("{value:?}") };
        value = &items[0];
    }
    assert_eq!(*value, "".into());
    assert_eq!(refused(with(&nested(MAX_DEPTH + 1)).as_bytes()), Problem::TooDeep);
    assert_eq!(refused(with(&nested(20_000)).as_bytes()), Problem::TooDeep);
    let structs = "<value><struct><member><name/>".repeat(20_000);
    assert_eq!(refused(with(&structs).as_bytes()), Problem::TooDeep);
}

#[test]
fn a_refusal_says_where() {
    let why = read_call(b"<methodCall>\n <methodName>f</methodName>\n <params><foo/>").unwrap_err();
    assert_eq!(why.to_string(), "unknown tag \"foo\": line 3, column 9");
}

#[test]
fn an_answer_that_is_none_is_refused() {
    for document in [
        "<methodResponse/>",
        "<methodResponse><params/></methodResponse>",
        "<methodResponse><params><param><value/></param><param><value/></param></params>\
         </methodResponse>",
        "<methodResponse><fault><value>1</value></fault></methodResponse>",
        "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>1</int>\
         </value></member></struct></value></fault></methodResponse>",
    ] {
        let why = read_response(document.as_bytes()).unwrap_err();
        assert!(matches!(why.problem, Problem::NotXmlRpc(_)), "{document}: {why}");
    }
}

// ── what is written ──────────────────────────────────────────────────────────────────────────────

#[test]
fn the_captured_exchange_is_written_byte_for_byte() {
    let call = write_call("addtogether", &["x".into(), "y".into(), "z".into()]).unwrap();
    assert_eq!(call.len(), 258);
    let numbers: Vec<Value> = (1..=5).map(Value::from).collect();
    assert_eq!(write_call("addtogether", &numbers).unwrap().len(), 330);
    assert_eq!(
        write_response(&"xyz".into()).unwrap(),
        "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n\
         <value><string>xyz</string></value>\n</param>\n</params>\n</methodResponse>\n"
    );
    assert_eq!(write_response(&"xyz".into()).unwrap().len(), 129);
    assert_eq!(write_response(&15.into()).unwrap().len(), 122);
}

#[test]
fn values_are_written_as_python_does() {
    let value = Value::Struct(vec![
        ("a<b".to_owned(), vec![true.into(), Value::Nil, 1.0.into()].into()),
        ("c".to_owned(), Value::Struct(Vec::new())),
        ("d".to_owned(), Value::Base64(vec![0; 58])),
        ("e".to_owned(), vec![Value::Array(Vec::new())].into()),
        ("f".to_owned(), 5_000_000_000_i64.into()),
        ("g".to_owned(), Value::DateTime("20160118T13:41:45".to_owned())),
    ]);
    let zeros = "A".repeat(76);
    assert_eq!(
        write_response(&value).unwrap(),
        format!(
            "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n\
             <value><struct>\n\
             <member>\n<name>a&lt;b</name>\n<value><array><data>\n\
             <value><boolean>1</boolean></value>\n<value><nil/></value>\
             <value><double>1.0</double></value>\n</data></array></value>\n</member>\n\
             <member>\n<name>c</name>\n<value><struct>\n</struct></value>\n</member>\n\
             <member>\n<name>d</name>\n<value><base64>\n{zeros}\nAA==\n</base64></value>\n</member>\n\
             <member>\n<name>e</name>\n<value><array><data>\n<value><array><data>\n\
             </data></array></value>\n</data></array></value>\n</member>\n\
             <member>\n<name>f</name>\n<value><i8>5000000000</i8></value>\n</member>\n\
             <member>\n<name>g</name>\n\
             <value><dateTime.iso8601>20160118T13:41:45</dateTime.iso8601></value>\n</member>\n\
             </struct></value>\n</param>\n</params>\n</methodResponse>\n"
        )
    );
}

#[test]
fn a_character_that_xml_cannot_carry_is_an_error_in_a_value_and_a_mark_in_a_fault() {
    let why = write_response(&"a\u{1}".into()).unwrap_err();
    assert_eq!(why.0, '\u{1}');
    let fault = write_fault(&Fault::new(1, "no \0 here"));
    let told = read_response(fault.as_bytes()).unwrap().unwrap_err();
    assert_eq!(told, Fault::new(1, "no \u{FFFD} here"));
}

// ── round trips ──────────────────────────────────────────────────────────────────────────────────

fn text() -> impl Strategy<Value = String> {
    let character = any::<char>().prop_filter("not in XML", |c| {
        !matches!(c, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{FFFE}' | '\u{FFFF}')
    });
    let character = prop_oneof![4 => character, 1 => proptest::sample::select(&['\r', '\n', ' ', '&', '<', '>', ']'][..])];
    proptest::collection::vec(character, 0..20).prop_map(|letters| letters.into_iter().collect())
}

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        // One that is no number is not equal to itself.
        any::<f64>().prop_filter("equal", |number| !number.is_nan()).prop_map(Value::from),
        text().prop_map(Value::from),
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(Value::Base64),
        Just(Value::DateTime("20160118T13:41:45".to_owned())),
    ];
    scalar.prop_recursive(6, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            proptest::collection::btree_map(text(), inner, 0..6)
                .prop_map(|members| Value::Struct(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_call_is_read_as_it_was_written(
        method in text(),
        arguments in proptest::collection::vec(value(), 0..4),
    ) {
        let document = write_call(&method, &arguments).unwrap();
        prop_assert_eq!(read_call(document.as_bytes()), Ok(Call { method, arguments }));
    }

    #[test]
    fn an_answer_is_read_as_it_was_written(value in value(), code: i64, text in text()) {
        let document = write_response(&value).unwrap();
        prop_assert_eq!(read_response(document.as_bytes()), Ok(Ok(value)));
        let fault = Fault::new(code, text);
        prop_assert_eq!(read_response(write_fault(&fault).as_bytes()), Ok(Err(fault)));
    }

    #[test]
    fn no_document_is_too_strange_to_be_judged(
        pieces in proptest::collection::vec(proptest::sample::select(&[
            "<methodCall>", "</methodCall>", "<methodName>", "</methodName>", "<params>",
            "</params>", "<param>", "</param>", "<value>", "</value>", "<value/>", "<int>",
            "</int>", "<array>", "</array>", "<data>", "</data>", "<struct>", "</struct>",
            "<member>", "</member>", "<name>", "</name>", "1", " ", "&amp;", "&", "<", ">", "<!--",
            "-->", "<![CDATA[", "]]>", "<!DOCTYPE", "<?", "?>", "\u{FEFF}", "é", "\0", "'",
        ][..]), 0..40),
        from_a_call: bool,
    ) {
        let mut document = pieces.concat();
        if from_a_call {
            document = with(&document);
        }
        let _ = read_call(document.as_bytes());
        let _ = read_response(document.as_bytes());
    }
}
