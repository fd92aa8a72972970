//! Arithmetic as Python's: integers are exact, booleans are integers, a double makes the other
//! number one, and division rounds towards minus infinity.

use super::python::{exception, too_large, type_error, type_name};
use crate::codec::xmlrpc::{Fault, Value};

/// A number on the way. 128 bits hold every product of two of 64, and every sum of as many as a
/// call can have.
#[derive(Clone, Copy)]
pub(super) enum Number {
    Int(i128),
    Double(f64),
}

impl Number {
    pub(super) fn of(value: &Value) -> Option<Self> {
        match *value {
            Value::Boolean(value) => Some(Self::Int(value.into())),
            Value::Int(value) => Some(Self::Int(value.into())),
            Value::Double(value) => Some(Self::Double(value)),
            _ => None,
        }
    }

    pub(super) fn as_double(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::Double(value) => value,
        }
    }

    pub(super) fn into_value(self) -> Result<Value, Fault> {
        match self {
            Self::Int(value) => i64::try_from(value).map(Value::Int).map_err(|_| too_large()),
            Self::Double(value) => Ok(Value::Double(value)),
        }
    }

    pub(super) fn negated(self) -> Self {
        match self {
            Self::Int(value) => Self::Int(-value),
            Self::Double(value) => Self::Double(-value),
        }
    }

    fn combine(
        self,
        other: Self,
        of_ints: impl Fn(i128, i128) -> i128,
        of_doubles: impl Fn(f64, f64) -> f64,
    ) -> Self {
        match (self, other) {
            (Self::Int(one), Self::Int(other)) => Self::Int(of_ints(one, other)),
            _ => Self::Double(of_doubles(self.as_double(), other.as_double())),
        }
    }
}

/// A sum that may go on: a long text or list grows in place.
enum Sum {
    Number(Number),
    Value(Value),
}

/// Adds up what Python's `+` does: numbers, texts, lists.
pub(super) fn sum(first: &Value, others: &[Value]) -> Result<Value, Fault> {
    let mut sum = Sum::Value(first.clone());
    for other in others {
        sum = sum.plus(other)?;
    }
    match sum {
        Sum::Number(number) => number.into_value(),
        Sum::Value(value) => Ok(value),
    }
}

impl Sum {
    fn plus(self, other: &Value) -> Result<Self, Fault> {
        let number = match &self {
            Self::Number(number) => Some(*number),
            Self::Value(value) => Number::of(value),
        };
        let own_type = match (&self, number) {
            (Self::Value(value), _) => type_name(value),
            (_, Some(Number::Double(_))) => "float",
            (Self::Number(_), _) => "int",
        };
        if let (Some(one), Some(two)) = (number, Number::of(other)) {
            return Ok(Self::Number(one.combine(two, |a, b| a + b, |a, b| a + b)));
        }
        let other_type = type_name(other);
        match (self, other) {
            (Self::Value(Value::String(mut text)), Value::String(other)) => {
                text.push_str(other);
                Ok(Self::Value(Value::String(text)))
            }
            (Self::Value(Value::Array(mut items)), Value::Array(others)) => {
                items.extend_from_slice(others);
                Ok(Self::Value(Value::Array(items)))
            }
            (Self::Value(Value::String(_) | Value::Array(_)), _) => Err(type_error(format!(
                "can only concatenate {own_type} (not \"{other_type}\") to {own_type}"
            ))),
            _ => Err(unsupported("+", own_type, other_type)),
        }
    }
}

pub(super) fn difference(one: &Value, other: &Value) -> Result<Value, Fault> {
    let (one, other) = numbers("-", one, other)?;
    one.combine(other, |a, b| a - b, |a, b| a - b).into_value()
}

/// A text or a list is not repeated, as Python would: a request of a hundred bytes could ask for
/// gigabytes.
pub(super) fn product(one: &Value, other: &Value) -> Result<Number, Fault> {
    for (sequence, times) in [(one, other), (other, one)] {
        let is_sequence = matches!(sequence, Value::String(_) | Value::Array(_));
        if is_sequence && !matches!(times, Value::Int(_) | Value::Boolean(_)) {
            let times = type_name(times);
            let text = format!("can't multiply sequence by non-int of type '{times}'");
            return Err(type_error(text));
        }
    }
    let (one, other) = numbers("*", one, other)?;
    Ok(one.combine(other, |a, b| a * b, |a, b| a * b))
}

pub(super) fn quotient(one: &Value, other: &Value) -> Result<Value, Fault> {
    let (one, other) = numbers("//", one, other)?;
    match (one, other) {
        (_, Number::Int(0)) if matches!(one, Number::Int(_)) => {
            Err(exception("ZeroDivisionError", "integer division or modulo by zero"))
        }
        (Number::Int(one), Number::Int(other)) => Number::Int(floor(one, other)).into_value(),
        _ if other.as_double() == 0.0 => {
            Err(exception("ZeroDivisionError", "float floor division by zero"))
        }
        _ => Ok(Value::Double(floor_of_doubles(one.as_double(), other.as_double()))),
    }
}

fn floor(one: i128, other: i128) -> i128 {
    let truncated = one / other;
    let rounded_up = one % other != 0 && (one < 0) != (other < 0);
    if rounded_up { truncated - 1 } else { truncated }
}

/// The floor of the exact quotient: `(one / other).floor()` would round twice.
fn floor_of_doubles(one: f64, other: f64) -> f64 {
    let remainder = one % other;
    let mut quotient = (one - remainder) / other;
    if remainder != 0.0 && (other < 0.0) != (remainder < 0.0) {
        quotient -= 1.0;
    }
    if quotient == 0.0 {
        return 0.0_f64.copysign(one / other);
    }
    let floor = quotient.floor();
    if quotient - floor > 0.5 { floor + 1.0 } else { floor }
}

fn numbers(operator: &str, one: &Value, other: &Value) -> Result<(Number, Number), Fault> {
    match (Number::of(one), Number::of(other)) {
        (Some(one), Some(other)) => Ok((one, other)),
        _ => Err(unsupported(operator, type_name(one), type_name(other))),
    }
}

fn unsupported(operator: &str, one: &str, other: &str) -> Fault {
    type_error(format!("unsupported operand type(s) for {operator}: '{one}' and '{other}'"))
}
