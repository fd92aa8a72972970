//! The service `xmlrpc`: what its functions compute, and what becomes of those that cannot.

use std::io::Read;

use evmux::codec::xmlrpc::{Fault, Value, read_response, write_call};
use evmux::services::{Registry, xmlrpc};
use evmux::{CloseReason, Limits, Peer, PeerAddress, Service};
use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder};

use crate::talk::Talk;

fn call(name: &str, arguments: &[Value]) -> Result<Value, Fault> {
    Registry::standard().call(name, arguments)
}

#[track_caller]
fn fault(name: &str, arguments: &[Value]) -> String {
    let fault = call(name, arguments).unwrap_err();
    assert_eq!(fault.code, 1);
    fault.text
}

fn doubles(values: &[f64]) -> Value {
    Value::Array(values.iter().map(|value| Value::from(*value)).collect())
}

/// What the service says to these bytes, and how the connection ends.
fn heard(registry: Registry, limits: Limits, bytes: &[u8]) -> (String, CloseReason) {
    let handler = xmlrpc(registry).handler(&Peer::new(PeerAddress::Unix, 0));
    let mut talk = Talk::with(handler, limits, usize::MAX);
    talk.say(bytes);
    (String::from_utf8_lossy(talk.heard()).into_owned(), talk.reason())
}

fn post(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST /RPC2 HTTP/1.1\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn gzip(bytes: impl Read) -> Vec<u8> {
    let mut packed = Vec::new();
    GzEncoder::new(bytes, Compression::best()).read_to_end(&mut packed).unwrap();
    packed
}

/// The value or the fault in the body of a response.
#[track_caller]
fn answer(response: &str) -> Result<Value, Fault> {
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    read_response(body.as_bytes()).unwrap()
}

// ── functions ────────────────────────────────────────────────────────────────────────────────────

#[test]
fn integers_are_exact_up_to_64_bits_and_a_fault_beyond() {
    let (least, most): (Value, Value) = (i64::MIN.into(), i64::MAX.into());
    assert_eq!(call("add", &[most.clone(), least.clone()]), Ok((-1).into()));
    assert_eq!(call("multiply", &[most.clone(), (-1).into()]), Ok((-i64::MAX).into()));
    assert_eq!(call("divide", &[least.clone(), 1.into()]), Ok(least.clone()));
    let sum = [most.clone(), most.clone(), least.clone(), least.clone(), 2.into()];
    assert_eq!(call("addtogether", &sum), Ok(0.into()), "too large only on the way");
    let too_large = "<class 'OverflowError'>:int exceeds XML-RPC limits";
    assert_eq!(fault("add", &[most.clone(), 1.into()]), too_large);
    assert_eq!(fault("subtract", &[least.clone(), 1.into()]), too_large);
    assert_eq!(fault("multiply", &[most, least.clone()]), too_large);
    assert_eq!(fault("divide", &[least, (-1).into()]), too_large);
}

#[test]
fn division_rounds_towards_minus_infinity() {
    for (one, other, floor) in [(7, 2, 3), (-7, 2, -4), (7, -2, -4), (-7, -2, 3), (0, -5, 0)] {
        assert_eq!(call("divide", &[one.into(), other.into()]), Ok(floor.into()));
        let [one, other, floor] = [one, other, floor].map(f64::from);
        assert_eq!(call("divide", &[one.into(), other.into()]), Ok(floor.into()));
    }
    let zero = "<class 'ZeroDivisionError'>:integer division or modulo by zero";
    assert_eq!(fault("divide", &[1.into(), 0.into()]), zero);
    assert_eq!(fault("divide", &[1.into(), false.into()]), zero);
    let zero = "<class 'ZeroDivisionError'>:float floor division by zero";
    assert_eq!(fault("divide", &[1.into(), (-0.0).into()]), zero);
    // The nearest double to the quotient is 10.0, but the quotient is less.
    assert_eq!(call("divide", &[1.0.into(), 0.1.into()]), Ok(9.0.into()));
}

#[test]
fn quadratic_is_that_of_the_slides_and_roots_are_the_roots() {
    let three = |a: i32, b: i32, c: i32| [a.into(), b.into(), c.into()];
    assert_eq!(call("quadratic", &three(2, -4, 0)), Ok(doubles(&[0.0, 8.0])));
    assert_eq!(call("quadratic", &three(1, 2, 1)), Ok(doubles(&[-1.0])));
    assert_eq!(call("roots", &three(2, -4, 0)), Ok(doubles(&[0.0, 2.0])));
    assert_eq!(call("roots", &three(-1, 3, -2)), Ok(doubles(&[1.0, 2.0])));
    assert_eq!(call("roots", &three(1, 2, 1)), Ok(doubles(&[-1.0])));
    assert_eq!(call("roots", &three(1, 0, 0)), Ok(doubles(&[0.0])));
    assert_eq!(call("roots", &three(1, 100_000_000, 1)), Ok(doubles(&[-1e8, -1e-8])));
    let none = "<class 'ValueError'>:math domain error";
    assert_eq!(fault("roots", &three(1, 0, 1)), none);
    assert_eq!(fault("quadratic", &three(1, 0, 1)), none);
    let zero = "<class 'ZeroDivisionError'>:float division by zero";
    assert_eq!(fault("roots", &three(0, 1, 1)), zero);
}

#[test]
fn a_text_is_not_repeated_by_a_number() {
    let text = "<class 'TypeError'>:unsupported operand type(s) for *: 'str' and 'int'";
    assert_eq!(fault("multiply", &["a".into(), 2_000_000_000.into()]), text);
}

// ── the registry ─────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_fault_in_the_middle_of_a_multicall_harms_no_other() {
    let entry = |name: &str, arguments: Vec<Value>| {
        let name = ("methodName".to_owned(), name.into());
        Value::Struct(vec![name, ("params".to_owned(), arguments.into())])
    };
    let calls = vec![
        entry("add", vec![7.into(), 3.into()]),
        entry("divide", vec![7.into(), 0.into()]),
        entry("system.multicall", vec![vec![entry("nope", vec![])].into()]),
        entry("multiply", vec![7.into(), 3.into()]),
    ];
    let Ok(Value::Array(results)) = call("system.multicall", &[calls.into()]) else { panic!() };
    assert_eq!(results[0], vec![10.into()].into());
    let zero = "<class 'ZeroDivisionError'>:integer division or modulo by zero";
    assert_eq!(results[1].member("faultString"), Some(&zero.into()));
    assert_eq!(results[1].member("faultCode"), Some(&1.into()));
    assert!(matches!(&results[2], Value::Array(inner) if inner.len() == 1));
    assert_eq!(results[3], vec![21.into()].into());
    assert_eq!(results.len(), 4);
}

#[test]
fn a_function_that_panics_is_a_fault_and_the_connection_goes_on() {
    let mut registry = Registry::standard();
    registry.register("fail", "", |arguments| panic!("{} arguments", arguments.len()));
    let requests = [
        post("", write_call("fail", &[]).unwrap().as_bytes()),
        post("", write_call("add", &[1.into(), 2.into()]).unwrap().as_bytes()),
    ];
    let (heard, reason) = heard(registry, Limits::default(), &requests.concat());
    assert_eq!(reason, CloseReason::Finished);
    let second = heard.rfind("HTTP/1.1").unwrap();
    let fault = answer(&heard[..second]).unwrap_err();
    assert_eq!(fault.text, "<class 'RuntimeError'>:the function panicked");
    assert_eq!(answer(&heard[second..]), Ok(3.into()));
}

#[test]
fn what_xml_cannot_carry_is_a_fault() {
    let mut registry = Registry::new();
    registry.register("bell", "", |_| Ok("\u{7}".into()));
    let request = post("", write_call("bell", &[]).unwrap().as_bytes());
    let (heard, _) = heard(registry, Limits::default(), &request);
    let text = "<class 'ValueError'>:XML cannot carry the character '\\u{7}'";
    assert_eq!(answer(&heard).unwrap_err().text, text);
}

#[test]
fn a_function_may_say_a_fault_of_its_own_and_replace_another() {
    let mut registry = Registry::standard();
    registry.register("add", "Not today.", |_| Err(Fault::new(-5, "not today")));
    assert_eq!(registry.call("add", &[]), Err(Fault::new(-5, "not today")));
    assert_eq!(registry.call("system.methodHelp", &["add".into()]), Ok("Not today.".into()));
    let Ok(Value::Array(names)) = Registry::new().call("system.listMethods", &[]) else { panic!() };
    assert_eq!(names.len(), 4);
}

#[test]
#[should_panic = "is every server's own"]
fn a_function_of_the_system_is_not_replaced() {
    Registry::new().register("system.multicall", "", |_| Ok(Value::Nil));
}

// ── the service ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn what_is_packed_is_unpacked_to_the_limit_and_no_further() {
    let text = "x".repeat(900);
    let document = write_call("addtogether", &[text.as_str().into()]).unwrap();
    let limits = Limits::default().max_frame(document.len());
    let packed = post("Content-Encoding: gzip\r\n", &gzip(document.as_bytes()));
    let (heard, _) = self::heard(Registry::standard(), limits.clone(), &packed);
    assert_eq!(answer(&heard), Ok(text.into()));

    for bytes in [document.len() as u64 + 1, 100_000] {
        let packed = post("Content-Encoding: gzip\r\n", &gzip(std::io::repeat(b' ').take(bytes)));
        let (heard, reason) = self::heard(Registry::standard(), limits.clone(), &packed);
        assert!(heard.starts_with("HTTP/1.1 413 Content Too Large\r\n"), "{heard}");
        assert_eq!(reason, CloseReason::Finished, "the next request may be better");
    }
}

#[test]
fn a_long_answer_is_packed_for_who_takes_it() {
    let text = "x".repeat(2000);
    let document = write_call("upper", &[text.as_str().into()]).unwrap();
    let request = post("accept-encoding: deflate, GZIP ; q=0.5\r\n", document.as_bytes());
    let handler = xmlrpc(Registry::standard()).handler(&Peer::new(PeerAddress::Unix, 0));
    let mut talk = Talk::new(handler);
    talk.say(&request);
    let body = talk.heard().windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8_lossy(&talk.heard()[..body]).into_owned();
    assert!(head.contains("\r\nContent-Encoding: gzip\r\n"), "{head}");
    let mut document = String::new();
    GzDecoder::new(&talk.heard()[body..]).read_to_string(&mut document).unwrap();
    assert_eq!(read_response(document.as_bytes()), Ok(Ok(text.to_uppercase().into())));
    for header in ["", "Accept-Encoding: gzip;q=0\r\n", "Accept-Encoding: xgzip\r\n"] {
        let document = write_call("upper", &[text.as_str().into()]).unwrap();
        let request = post(header, document.as_bytes());
        let (heard, _) = heard(Registry::standard(), Limits::default(), &request);
        assert_eq!(answer(&heard), Ok(text.to_uppercase().into()), "{header}");
    }
}
