//! Numbers as text, as Python reads and writes them.

use std::num::IntErrorKind;

/// Why a text is no number of 64 bits.
pub(super) enum NoInt {
    /// It is one that is larger.
    TooLarge,
    /// It is none.
    Malformed,
}

/// Reads what Python's `int()` does, without its underscores.
pub(super) fn int(text: &str) -> Result<i64, NoInt> {
    text.trim().parse().map_err(|why: std::num::ParseIntError| match why.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => NoInt::TooLarge,
        _ => NoInt::Malformed,
    })
}

/// Reads what Python's `float()` does, without its underscores.
pub(super) fn double(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}

/// Writes what Python's `repr()` does: the shortest digits that give the same number, with an
/// exponent below 0.0001 and from 1e16 on.
pub(super) fn double_as_text(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse().unwrap_or(0) {
        -4..16 => {
            let plain = value.to_string();
            if plain.contains('.') { plain } else { plain + ".0" }
        }
        exponent @ 16.. => format!("{digits}e+{exponent:02}"),
        exponent => format!("{digits}e-{:02}", -exponent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_written_as_python_does() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (3.0, "3.0"),
            (-1.5, "-1.5"),
            (0.1 + 0.2, "0.30000000000000004"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (1e15, "1000000000000000.0"),
            (9007199254740993.0, "9007199254740992.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(double_as_text(value), text);
        }
    }
}
