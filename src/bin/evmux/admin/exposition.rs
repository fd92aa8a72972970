//! Metrics as Prometheus reads them: its text format, version 0.0.4.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>. A family of samples begins with
//! what it means and of which kind it is, and stands in one piece.

use std::fmt::{self, Write};

use evmux::Distribution;

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text, family by family.
#[derive(Default)]
pub(super) struct Exposition(String);

impl Exposition {
    /// A number that only grows, of which there is one.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl Into<Number>) {
        self.family("counter", name, help, [([], value.into())]);
    }

    /// A number that rises and falls, of which there is one.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Into<Number>) {
        self.family("gauge", name, help, [([], value.into())]);
    }

    /// One number for each value of a label.
    pub(super) fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'a str, u64)>,
    ) {
        let samples = values.into_iter().map(|(value, number)| ([(label, value)], number.into()));
        self.family("counter", name, help, samples);
    }

    /// A family of this kind: samples with their labels.
    pub(super) fn family<'a, const N: usize>(
        &mut self,
        kind: &str,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([(&'a str, &'a str); N], Number)>,
    ) {
        self.begin(kind, name, help);
        for (labels, value) in samples {
            self.sample(name, &labels, value);
        }
    }

    /// A distribution whose numbers are `unit`s of what the name says: 1e-6 for microseconds that
    /// are told in seconds.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        help: &str,
        distribution: &Distribution,
        unit: f64,
    ) {
        self.begin("histogram", name, help);
        let bucket = format!("{name}_bucket");
        // By division a bound of one microsecond is 0.000001, and by multiplication not quite.
        let per_unit = (1.0 / unit).round();
        for (bound, count) in distribution.up_to() {
            let bound = (bound as f64 / per_unit).to_string();
            self.sample(&bucket, &[("le", &bound)], count.into());
        }
        self.sample(&bucket, &[("le", "+Inf")], distribution.count().into());
        self.sample(&format!("{name}_sum"), &[], (distribution.sum() as f64 / per_unit).into());
        self.sample(&format!("{name}_count"), &[], distribution.count().into());
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }

    fn begin(&mut self, kind: &str, name: &str, help: &str) {
        debug_assert!(!help.contains(['\\', '\n']), "these would have to be escaped");
        // Writing to a text cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: Number) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{}\"", Escaped(text));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{after} {value}");
    }
}

/// Whole as long as it can be: a count past 2^53 is no `f64`.
#[derive(Clone, Copy)]
pub(super) enum Number {
    Whole(u64),
    Fraction(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Fraction(value)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => value.fmt(f),
            Self::Fraction(value) => value.fmt(f),
        }
    }
}

/// The value of a label.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '\\' => f.write_str(r"\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str(r"\n"),
            other => f.write_char(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_says_what_it_is_before_its_samples() {
        let mut text = Exposition::default();
        text.counter("a_total", "So many.", 3_u64);
        text.counters("b_total", "By reason.", "reason", [("one", 1), ("two", u64::MAX)]);
        text.gauge("c_seconds", "So long.", 0.25);
        assert_eq!(
            text.into_text(),
            "# HELP a_total So many.\n# TYPE a_total counter\na_total 3\n\
             # HELP b_total By reason.\n# TYPE b_total counter\n\
             b_total{reason=\"one\"} 1\nb_total{reason=\"two\"} 18446744073709551615\n\
             # HELP c_seconds So long.\n# TYPE c_seconds gauge\nc_seconds 0.25\n"
        );
    }

    #[test]
    fn a_label_may_hold_anything() {
        let mut text = Exposition::default();
        text.family("gauge", "a", "A.", [([("x", "\"\\\n"), ("y", "ß")], 1_u64.into())]);
        assert!(text.into_text().ends_with("a{x=\"\\\"\\\\\\n\",y=\"ß\"} 1\n"));
    }

    #[test]
    fn the_bounds_of_a_histogram_are_in_its_unit_and_end_with_infinity() {
        let mut text = Exposition::default();
        text.histogram("turn_seconds", "Turns.", &Distribution::default(), 1e-6);
        let text = text.into_text();
        let bounds: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("turn_seconds_bucket{le=\""))
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert_eq!(&bounds[..5], ["0.000001", "0.000002", "0.000005", "0.00001", "0.00002"]);
        assert_eq!(&bounds[bounds.len() - 2..], ["50", "+Inf"]);
        assert!(text.ends_with("turn_seconds_sum 0\nturn_seconds_count 0\n"), "{text}");
    }
}
