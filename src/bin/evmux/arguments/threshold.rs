//! `--threshold EXPR`: what must hold for the figures of a run.
//!
//! ```text
//!   p99 <20ms     a percentile, mean or max of the latency, and a DURATION
//!   errors <0.1%  a share of all that was tried, or without % a number
//!   rate >10000   replies a second
//! ```

use std::fmt;
use std::time::Duration;

use evmux::load::Outcome;

use super::read::duration;

/// A figure, and what it must be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Threshold {
    /// As it was written.
    text: String,
    figure: Figure,
    order: Order,
    /// In the unit of the figure.
    limit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Figure {
    /// In nanoseconds.
    Percentile(f64),
    Mean,
    Max,
    /// From 0 to 1.
    ErrorShare,
    Errors,
    Rate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Less,
    AtMost,
    More,
    AtLeast,
}

impl Threshold {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let place = text.find(['<', '>']).ok_or_else(|| expected("has no < or >"))?;
        let (name, rest) = text.split_at(place);
        let (order, limit) = match rest.as_bytes() {
            [b'<', b'=', ..] => (Order::AtMost, &rest[2..]),
            [b'>', b'=', ..] => (Order::AtLeast, &rest[2..]),
            [b'<', ..] => (Order::Less, &rest[1..]),
            _ => (Order::More, &rest[1..]),
        };
        let (figure, limit) = figure(name.trim(), limit.trim())?;
        Ok(Self { text: text.into(), figure, order, limit })
    }

    /// What the figure is, if it is not as it must be.
    pub(crate) fn crossed(&self, outcome: &Outcome) -> Option<Crossed<'_>> {
        let found = self.figure.of(outcome);
        let holds = match self.order {
            Order::Less => found < self.limit,
            Order::AtMost => found <= self.limit,
            Order::More => found > self.limit,
            Order::AtLeast => found >= self.limit,
        };
        (!holds).then_some(Crossed { threshold: self, found })
    }
}

fn figure(name: &str, limit: &str) -> Result<(Figure, f64), String> {
    let number = |text: &str| match text.trim().parse::<f64>() {
        Ok(number) if number >= 0.0 && number.is_finite() => Ok(number),
        _ => Err(format!("'{text}' is no number")),
    };
    let time = |text: &str| match duration(text) {
        Ok(time) => Ok(time.as_nanos() as f64),
        Err(why) => Err(format!("'{text}' {why}")),
    };
    match name {
        "mean" => Ok((Figure::Mean, time(limit)?)),
        "max" => Ok((Figure::Max, time(limit)?)),
        "rate" => Ok((Figure::Rate, number(limit)?)),
        "errors" => match limit.strip_suffix('%') {
            Some(share) => Ok((Figure::ErrorShare, number(share)? / 100.0)),
            None => Ok((Figure::Errors, number(limit)?)),
        },
        _ => match name.strip_prefix('p').map(str::parse::<f64>) {
            Some(Ok(percentile)) if percentile > 0.0 && percentile <= 100.0 => {
                Ok((Figure::Percentile(percentile), time(limit)?))
            }
            _ => Err(expected("names no figure")),
        },
    }
}

fn expected(why: &str) -> String {
    format!("{why}; expected as p99<20ms, mean<5ms, max<1s, errors<0.1%, errors<10 or rate>10000")
}

impl Figure {
    fn of(self, outcome: &Outcome) -> f64 {
        let felt = outcome.times.felt();
        let unanswered = outcome.unanswered();
        let known = felt.len() as f64 / (felt.len() + unanswered).max(1) as f64;
        match self {
            // What was not measured cannot be said to be fast.
            Self::Percentile(_) | Self::Mean | Self::Max if felt.is_empty() => f64::INFINITY,
            // Who got no answer would have waited for longer than anybody who did.
            Self::Mean | Self::Max if unanswered > 0 => f64::INFINITY,
            Self::Percentile(percentile) if known * 100.0 < percentile => f64::INFINITY,
            Self::Percentile(percentile) => felt.value_at_quantile(percentile / 100.0) as f64,
            Self::Mean => felt.mean(),
            Self::Max => felt.max() as f64,
            Self::ErrorShare => outcome.error_share(),
            Self::Errors => outcome.errors.total() as f64,
            Self::Rate => outcome.rate(),
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A threshold that was crossed. Shown in one line.
pub(crate) struct Crossed<'a> {
    threshold: &'a Threshold,
    found: f64,
}

impl fmt::Display for Crossed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { threshold, found } = self;
        write!(f, "{threshold}: it is ")?;
        match threshold.figure {
            Figure::Percentile(_) | Figure::Mean | Figure::Max if found.is_infinite() => {
                f.write_str("unknown, since too few requests were answered")
            }
            Figure::Percentile(_) | Figure::Mean | Figure::Max => {
                write!(f, "{:.3?}", Duration::from_nanos(*found as u64))
            }
            Figure::ErrorShare => write!(f, "{:.3} %", found * 100.0),
            Figure::Errors => write!(f, "{found}"),
            Figure::Rate => write!(f, "{found:.1}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Figure, Order, f64) {
        let threshold = Threshold::parse(text).unwrap();
        assert_eq!(threshold.to_string(), text);
        (threshold.figure, threshold.order, threshold.limit)
    }

    #[test]
    fn figures_have_their_units() {
        assert_eq!(parsed("p99<20ms"), (Figure::Percentile(99.0), Order::Less, 2e7));
        assert_eq!(parsed("p99.9 <= 1s"), (Figure::Percentile(99.9), Order::AtMost, 1e9));
        assert_eq!(parsed("mean<500us"), (Figure::Mean, Order::Less, 5e5));
        assert_eq!(parsed("max>1ns"), (Figure::Max, Order::More, 1.0));
        assert_eq!(parsed("errors<0.1%"), (Figure::ErrorShare, Order::Less, 0.001));
        assert_eq!(parsed("errors<=0"), (Figure::Errors, Order::AtMost, 0.0));
        assert_eq!(parsed("rate>=10000"), (Figure::Rate, Order::AtLeast, 1e4));
    }

    #[test]
    fn what_is_no_threshold_is_refused() {
        for text in [
            "",
            "p99",
            "p99=20ms",
            "p99<",
            "p99<20",
            "p0<1s",
            "p101<1s",
            "px<1s",
            "<1s",
            "rate>fast",
            "rate>-1",
            "rate>1s",
            "errors<0.1 percent",
            "latency<1s",
            "p99<<1s",
            "rate>nan",
        ] {
            assert!(Threshold::parse(text).is_err(), "{text}");
        }
    }
}
