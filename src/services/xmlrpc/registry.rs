//! Functions by their names, and those that every server has: `system.listMethods` and the others.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::python::{exception, positional, quoted, type_error, type_name};
use crate::codec::xmlrpc::{Fault, Value};

/// The functions that clients may call, by name.
///
/// ```
/// use evmux::codec::xmlrpc::{Fault, Value};
/// use evmux::services::Registry;
///
/// let mut registry = Registry::new();
/// registry.register("double", "Twice a number.", |arguments| match arguments {
///     [Value::Int(number)] => Ok(Value::from(number * 2)),
///     _ => Err(Fault::new(1, "a number, please")),
/// });
/// assert_eq!(registry.call("double", &[21.into()]), Ok(42.into()));
/// assert_eq!(registry.call("half", &[]).unwrap_err().text,
///     "<class 'Exception'>:method \"half\" is not supported");
/// ```
///
/// A function is called by every thread that serves, and holds up all connections of that thread
/// while it runs. One that panics is a fault for its caller and for nobody else.
#[derive(Default)]
pub struct Registry {
    functions: BTreeMap<String, Function>,
}

struct Function {
    help: String,
    body: Box<Body>,
}

type Body = dyn Fn(&[Value]) -> Result<Value, Fault> + Send + Sync;

/// The functions that every registry has, with their help.
const SYSTEM: [(&str, &str); 4] = [
    ("system.listMethods", "The names of all functions, sorted."),
    (
        "system.methodHelp",
        "What a function is for, by its name; nothing for one that is not there.",
    ),
    ("system.methodSignature", "Types are not known to this server, and this is what it says."),
    (
        "system.multicall",
        "Several calls at once, each a struct of methodName and params. Each result is an array of \
         one value, or a struct of faultCode and faultString.",
    ),
];

impl Registry {
    /// Only the functions of `system`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Publishes `function` as `name`, instead of one that had it. `help` is what
    /// `system.methodHelp` tells.
    ///
    /// # Panics
    /// When the name is one of the four of `system`.
    pub fn register(
        &mut self,
        name: impl Into<String>,
        help: impl Into<String>,
        function: impl Fn(&[Value]) -> Result<Value, Fault> + Send + Sync + 'static,
    ) -> &mut Self {
        let (name, help) = (name.into(), help.into());
        assert!(system_help(&name).is_none(), "{name} is every server's own");
        self.functions.insert(name, Function { help, body: Box::new(function) });
        self
    }

    /// Calls the function `name`.
    ///
    /// # Errors
    /// What the function says, in its own words. Code 1 and a text as of Python's server when there
    /// is no such function, or when it panics.
    pub fn call(&self, name: &str, arguments: &[Value]) -> Result<Value, Fault> {
        match name {
            "system.listMethods" => {
                positional(name, [], arguments)?;
                Ok(Value::Array(self.names().map(Value::from).collect()))
            }
            "system.methodHelp" => {
                let [function] = positional(name, ["method_name"], arguments)?;
                Ok(self.help(function).into())
            }
            "system.methodSignature" => {
                positional(name, ["method_name"], arguments)?;
                Ok("signatures not supported".into())
            }
            "system.multicall" => {
                let [calls] = positional(name, ["call_list"], arguments)?;
                self.call_each(calls)
            }
            _ => {
                let Some(function) = self.functions.get(name) else {
                    return Err(not_supported(name));
                };
                // What a function leaves broken is its own, and a lock says so itself.
                catch_unwind(AssertUnwindSafe(|| (function.body)(arguments)))
                    .unwrap_or_else(|_| Err(exception("RuntimeError", "the function panicked")))
            }
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let mut names: Vec<&str> = self.functions.keys().map(String::as_str).collect();
        names.extend(SYSTEM.map(|(name, _)| name));
        names.sort_unstable();
        names.into_iter()
    }

    fn help(&self, name: &Value) -> &str {
        let Value::String(name) = name else { return "" };
        let own = self.functions.get(name).map(|function| function.help.as_str());
        own.or_else(|| system_help(name)).unwrap_or("")
    }

    /// A fault of one call is its result, and harms no other. A list that is none is a fault of the
    /// whole.
    ///
    /// Calls in calls end where values in values do, at
    /// [`MAX_DEPTH`](crate::codec::xmlrpc::MAX_DEPTH).
    fn call_each(&self, calls: &Value) -> Result<Value, Fault> {
        let Value::Array(calls) = calls else {
            return Err(type_error(format!("'{}' object is not iterable", type_name(calls))));
        };
        let result = |call| self.call_one(call).map(|result| result.unwrap_or_else(in_struct));
        calls.iter().map(result).collect::<Result<_, _>>().map(Value::Array)
    }

    /// The inner result is that of the call, the outer one says whether it was one.
    fn call_one(&self, call: &Value) -> Result<Result<Value, Fault>, Fault> {
        let Value::Struct(_) = call else {
            let text = format!("'{}' object is not subscriptable", type_name(call));
            return Err(type_error(text));
        };
        let member = |name| call.member(name).ok_or_else(|| exception("KeyError", quoted(name)));
        let (name, arguments) = (member("methodName")?, member("params")?);
        Ok(match (name, arguments) {
            (Value::String(name), Value::Array(arguments)) => {
                self.call(name, arguments).map(|value| Value::Array(vec![value]))
            }
            (Value::String(name), other) => Err(type_error(format!(
                "{name}() argument after * must be an iterable, not {}",
                type_name(other)
            ))),
            (Value::Int(number), _) => Err(not_supported(&number.to_string())),
            (other, _) => Err(not_supported(type_name(other))),
        })
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.functions.keys()).finish()
    }
}

fn system_help(name: &str) -> Option<&'static str> {
    SYSTEM.iter().find(|(own, _)| *own == name).map(|(_, help)| *help)
}

fn not_supported(name: &str) -> Fault {
    exception("Exception", format!("method \"{name}\" is not supported"))
}

fn in_struct(fault: Fault) -> Value {
    Value::Struct(vec![
        ("faultCode".to_owned(), Value::Int(fault.code)),
        ("faultString".to_owned(), Value::String(fault.text)),
    ])
}
