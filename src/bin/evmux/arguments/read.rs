//! What the texts of the command line mean: numbers, sizes, durations, switches.
//!
//! Each function returns the value, or why there is none, in words that fit behind the text
//! itself: `--threads '0': ` *must be at least 1*.

use std::num::IntErrorKind;
use std::time::Duration;

use bytesize::ByteSize;

/// A whole number from 1 to `most`.
pub(super) fn count(text: &str, most: usize) -> Result<usize, String> {
    let too_many = || format!("must be at most {most}");
    match text.parse::<usize>() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(count) if count > most => Err(too_many()),
        Ok(count) => Ok(count),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Err(too_many()),
        Err(_) => Err("must be a whole number, at least 1".into()),
    }
}

/// Bytes, at least one.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let size = text
        .parse::<ByteSize>()
        .map_err(|_| "must be a size, as 4096, 64KiB or 1MB".to_string())?;
    match usize::try_from(size.as_u64()) {
        Ok(0) => Err("must be at least 1 byte".into()),
        Ok(size) => Ok(size),
        Err(_) => Err("is more than this machine can address".into()),
    }
}

/// A time that may be zero.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|why| format!("must be a time, as 500ms, 30s or '1m 30s': {why}"))
}

/// A time to wait at most: with zero of it nothing could ever be done in time.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be more than zero".into()),
        timeout => Ok(timeout),
    }
}

/// What a switch's variable says; the flag itself reads as `true`.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("must be one of 1, true, yes, on, 0, false, no, off".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_a_whole_number_of_at_least_one() {
        assert_eq!(count("4", 10), Ok(4));
        for wrong in ["0", "-4", "", " ", "4.0", "four", "0x4", "11", "99999999999999999999"] {
            assert!(count(wrong, 10).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_decimal_or_binary_as_their_unit_says() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("64k"), Ok(64_000));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert_eq!(size("1.5 MB"), Ok(1_500_000));
        for wrong in ["0", "0KiB", "0.1", "-1", "", "KiB", "64X", "1e3"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_have_units_and_a_timeout_is_never_zero() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "30", "s", "-1s", "1 fortnight", "9999999999999999999999s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0s", "0ms", "0m 0s"] {
            assert!(timeout(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_switch_is_not_guessed() {
        assert_eq!(switch("TRUE"), Ok(true));
        assert_eq!(switch("0"), Ok(false));
        assert!(switch("maybe").is_err());
    }
}
