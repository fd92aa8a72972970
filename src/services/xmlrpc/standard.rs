//! The functions of the slides.

use super::Registry;
use super::arithmetic::{Number, difference, product, quotient, sum};
use super::python::{exception, positional, type_error, type_name};
use crate::codec::xmlrpc::{Fault, Value};

impl Registry {
    /// `add`, `subtract`, `multiply`, `divide`, `addtogether`, `quadratic`, `roots` and `upper`, as
    /// Python would compute them.
    ///
    /// - Integers are exact. A result past 64 bits is a fault, as one past 32 bits is with Python.
    /// - `divide` is Python's `//`: it rounds towards minus infinity.
    /// - `multiply` is for numbers; it does not repeat texts.
    /// - `quadratic` multiplies by `a` where it should divide, as the slides do; `roots` is right.
    pub fn standard() -> Self {
        let mut registry = Self::new();
        registry
            .register("add", "add(x, y): x + y.", |arguments| {
                let [x, y] = positional("add", ["x", "y"], arguments)?;
                sum(x, std::slice::from_ref(y))
            })
            .register("subtract", "subtract(x, y): x - y.", |arguments| {
                let [x, y] = positional("subtract", ["x", "y"], arguments)?;
                difference(x, y)
            })
            .register("multiply", "multiply(x, y): x * y, of numbers.", |arguments| {
                let [x, y] = positional("multiply", ["x", "y"], arguments)?;
                product(x, y)?.into_value()
            })
            .register("divide", "divide(x, y): x // y, rounded down.", |arguments| {
                let [x, y] = positional("divide", ["x", "y"], arguments)?;
                quotient(x, y)
            })
            .register(
                "addtogether",
                "addtogether(x, ...): the sum of numbers, or texts or arrays put together.",
                |arguments| match arguments {
                    [first, others @ ..] => sum(first, others),
                    [] => Err(type_error("reduce() of empty iterable with no initial value")),
                },
            )
            .register(
                "quadratic",
                "quadratic(a, b, c): each of (-b - r) / 2.0 * a and (-b + r) / 2.0 * a once, where \
                 r * r is b * b - 4.0 * a * c. The roots of a quadratic equation only for a = 1: \
                 see roots.",
                |arguments| {
                    let [a, b, c] = positional("quadratic", ["a", "b", "c"], arguments)?;
                    let Equation { a, minus_b, root, .. } = Equation::of(a, b, c)?;
                    Ok(once((minus_b - root) / 2.0 * a, (minus_b + root) / 2.0 * a))
                },
            )
            .register(
                "roots",
                "roots(a, b, c): the real x for which a*x*x + b*x + c = 0, each once, the smaller \
                 one first.",
                |arguments| {
                    let [a, b, c] = positional("roots", ["a", "b", "c"], arguments)?;
                    Equation::of(a, b, c)?.roots()
                },
            )
            .register(
                "upper",
                "upper(text): the text in upper case.",
                |arguments| match positional("upper", ["text"], arguments)? {
                    [Value::String(text)] => Ok(text.to_uppercase().into()),
                    [other] => Err(exception(
                        "AttributeError",
                        format!("'{}' object has no attribute 'upper'", type_name(other)),
                    )),
                },
            );
        registry
    }
}

/// a*x*x + b*x + c = 0, and the square root of its discriminant.
struct Equation {
    a: f64,
    /// An integer has no negative zero, so it is negated before it is a double.
    minus_b: f64,
    c: f64,
    root: f64,
}

impl Equation {
    fn of(a: &Value, b: &Value, c: &Value) -> Result<Self, Fault> {
        // In the order in which Python meets them, for the fault is the first one's.
        let square = product(b, b)?.as_double();
        let four_a = product(&Value::Double(4.0), a)?.as_double();
        let four_a_c = product(&Value::Double(four_a), c)?.as_double();
        let discriminant = square - four_a_c;
        if discriminant < 0.0 {
            return Err(exception("ValueError", "math domain error"));
        }
        // They were judged above to be numbers.
        let number = |value| Number::of(value).unwrap_or(Number::Double(f64::NAN));
        Ok(Self {
            a: number(a).as_double(),
            minus_b: number(b).negated().as_double(),
            c: number(c).as_double(),
            root: discriminant.sqrt(),
        })
    }

    /// The one of larger magnitude is computed, and the other by it: their difference, of which
    /// nothing may be left, is not needed.
    fn roots(&self) -> Result<Value, Fault> {
        if self.a == 0.0 {
            return Err(exception("ZeroDivisionError", "float division by zero"));
        }
        let half = (self.minus_b + self.root.copysign(self.minus_b)) / 2.0;
        // Plus zero: there is no need for a negative one.
        let large = half / self.a + 0.0;
        let small = if half == 0.0 { large } else { self.c / half + 0.0 };
        Ok(once(large.min(small), large.max(small)))
    }
}

fn once(one: f64, other: f64) -> Value {
    let mut values = vec![Value::Double(one)];
    if one != other {
        values.push(Value::Double(other));
    }
    Value::Array(values)
}
