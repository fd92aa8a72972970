//! Upper case of text that passes by, as [`str::to_uppercase`] has it: the full mapping of
//! Unicode, where `ß` becomes `SS`. No character's mapping depends on its neighbours, so a stream
//! cut anywhere gives what the whole text would.
//!
//! What is not UTF-8 passes unchanged, and so does a code point that is cut off where the text
//! ends. In a stream the cut may only be where a read ended; there it is left until the rest has
//! come.
//!
//! Most characters need as many bytes in upper case as before, so they are rewritten where they
//! stand, and the received bytes are the answer. A character that needs more or fewer is answered
//! with a copy; only from there on are bytes moved.

use crate::buffer::{Outgoing, Received};

/// Answers all that was received with its upper case, and leaves a code point that is not whole
/// yet.
///
/// One call answers at most three times what was received.
///
/// ```
/// use evmux::codec::upper;
/// use evmux::{Exchange, Flow, Handler};
///
/// struct Upper;
///
/// impl Handler for Upper {
///     fn receive(&mut self, exchange: &mut Exchange<'_>) -> Flow {
///         upper::answer(&mut exchange.received, &mut exchange.to_send);
///         Flow::Continue
///     }
/// }
/// ```
#[inline]
pub fn answer(received: &mut Received<'_>, to_send: &mut Outgoing<'_>) {
    let count = received.len();
    answer_first(received, to_send, count);
}

/// Answers the next `count` received bytes with their upper case. They are a text of their own: a
/// code point that is cut off at their end is answered as it is.
///
/// # Panics
/// When fewer than `count` bytes are left in `received`.
#[inline]
pub fn answer_whole(received: &mut Received<'_>, to_send: &mut Outgoing<'_>, count: usize) {
    let cut_off = answer_first(received, to_send, count);
    to_send.append_received(received, cut_off);
}

/// Upper-cases a whole text where it stands if its length allows that. Else the upper case is
/// returned, and `text` is left half done.
///
/// ```
/// use evmux::codec::upper;
///
/// let mut text = "straße".to_owned().into_bytes();
/// assert_eq!(upper::in_place(&mut text), None);
/// assert_eq!(text, b"STRASSE");
///
/// let mut text = "ﬁsh".to_owned().into_bytes();
/// assert_eq!(upper::in_place(&mut text), Some(b"FISH".to_vec()));
/// ```
pub fn in_place(text: &mut [u8]) -> Option<Vec<u8>> {
    if rewrite_ascii(text) {
        return None;
    }
    let mut letters = Letters::new();
    let mut upper: Option<Vec<u8>> = None;
    let mut rest = text;
    loop {
        let (done, stop) = rewrite(rest, &mut letters);
        let Stop::Resized { length, letter } = stop else {
            break;
        };
        let upper = upper.get_or_insert_with(|| Vec::with_capacity(rest.len()));
        upper.extend_from_slice(&rest[..done]);
        upper.extend_from_slice(letter.upper());
        rest = &mut rest[done + length..];
    }
    if let Some(upper) = &mut upper {
        upper.extend_from_slice(rest);
    }
    upper
}

/// Answers the next `count` received bytes, except a code point cut off at their end: how many
/// bytes it has is returned.
#[inline]
fn answer_first(received: &mut Received<'_>, to_send: &mut Outgoing<'_>, count: usize) -> usize {
    if rewrite_ascii(&mut received[..count]) {
        to_send.append_received(received, count);
        return 0;
    }
    answer_unicode(received, to_send, count)
}

fn answer_unicode(received: &mut Received<'_>, to_send: &mut Outgoing<'_>, count: usize) -> usize {
    let mut letters = Letters::new();
    let mut left = count;
    loop {
        let (done, stop) = rewrite(&mut received[..left], &mut letters);
        to_send.append_received(received, done);
        left -= done;
        let Stop::Resized { length, letter } = stop else {
            return left;
        };
        to_send.append(letter.upper());
        received.consume(length);
        left -= length;
    }
}

/// Rewrites what is ASCII, and says whether all of it was. Bytes of other characters are all
/// above, so they are not touched. One pass without a branch, so that the compiler may take many
/// bytes at once.
#[inline]
fn rewrite_ascii(text: &mut [u8]) -> bool {
    let mut seen = 0;
    for byte in text {
        seen |= *byte;
        byte.make_ascii_uppercase();
    }
    seen.is_ascii()
}

/// Why [`rewrite`] went no further.
enum Stop {
    /// The end, or a code point that is cut off there.
    End,
    /// The next character, of so many bytes, has another number of them in upper case.
    Resized { length: usize, letter: Letter },
}

/// Rewrites the characters that are not ASCII, as far as they keep their lengths: so many bytes
/// are done.
fn rewrite(text: &mut [u8], letters: &mut Letters) -> (usize, Stop) {
    let mut at = 0;
    loop {
        at += ascii_run(&text[at..]);
        match decode(&text[at..]) {
            Decoded::Character(character, length) if is_caseless(character) => at += length,
            Decoded::Character(character, length) => {
                let letter = letters.find(character);
                let upper = letter.upper();
                if upper.len() != length {
                    return (at, Stop::Resized { length, letter: *letter });
                }
                text[at..at + length].copy_from_slice(upper);
                at += length;
            }
            Decoded::Invalid => at += 1,
            Decoded::CutOff => return (at, Stop::End),
        }
    }
}

/// How many ASCII characters stand in front.
#[inline]
fn ascii_run(text: &[u8]) -> usize {
    text.iter().position(|byte| !byte.is_ascii()).unwrap_or(text.len())
}

/// Whether this is of the scripts of East Asia, which have no case but very many characters: from
/// the Han radicals to Vai, and Hangul.
#[inline]
fn is_caseless(character: char) -> bool {
    matches!(character, '\u{2e80}'..='\u{a63f}' | '\u{ac00}'..='\u{d7a3}')
}

/// Remembers the letters met last, since a text uses few and each costs a search in the tables of
/// Unicode. Neighbours in the code, as the letters of a script are, do not drive each other out.
struct Letters([Letter; 64]);

impl Letters {
    fn new() -> Self {
        // ASCII letters never come here, so this one is never found.
        Self([Letter { character: '\0', length: 0, bytes: [0; 11] }; 64])
    }

    #[inline]
    fn find(&mut self, character: char) -> &Letter {
        let letter = &mut self.0[character as usize % 64];
        if letter.character != character {
            *letter = Letter::new(character);
        }
        letter
    }
}

/// A character and its upper case, encoded.
#[derive(Clone, Copy)]
struct Letter {
    character: char,
    length: u8,
    bytes: [u8; 11],
}

impl Letter {
    fn new(character: char) -> Self {
        let mut bytes = [0; 11];
        let mut length = 0;
        for character in character.to_uppercase() {
            length += character.encode_utf8(&mut bytes[length..]).len();
        }
        Self { character, length: length as u8, bytes }
    }

    #[inline]
    fn upper(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

enum Decoded {
    /// A character, and how many bytes it has.
    Character(char, usize),
    /// The first byte begins no character.
    Invalid,
    /// Nothing, or the beginning of a character.
    CutOff,
}

/// The character in front, which is not ASCII.
#[inline]
fn decode(text: &[u8]) -> Decoded {
    let (length, bits, least) = match text.first() {
        Some(lead @ 0xc2..=0xdf) => (2, lead & 0x1f, 0x80),
        Some(lead @ 0xe0..=0xef) => (3, lead & 0x0f, 0x800),
        Some(lead @ 0xf0..=0xf4) => (4, lead & 0x07, 0x1_0000),
        Some(_) => return Decoded::Invalid,
        None => return Decoded::CutOff,
    };
    let Some(character) = text.get(1..length) else {
        return begun(text);
    };
    let mut code = u32::from(bits);
    for byte in character {
        if byte & 0xc0 != 0x80 {
            return Decoded::Invalid;
        }
        code = code << 6 | u32::from(byte & 0x3f);
    }
    // Surrogates and what is past the last code point are no `char`.
    match char::from_u32(code) {
        Some(character) if code >= least => Decoded::Character(character, length),
        _ => Decoded::Invalid,
    }
}

/// Whether more bytes could make a character of these.
#[cold]
fn begun(text: &[u8]) -> Decoded {
    match str::from_utf8(text) {
        Err(error) if error.error_len().is_none() => Decoded::CutOff,
        _ => Decoded::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upper(text: &[u8]) -> Vec<u8> {
        let mut text = text.to_vec();
        in_place(&mut text).unwrap_or(text)
    }

    #[test]
    #[cfg_attr(miri, ignore = "an interpreter takes an hour for a million of anything")]
    fn every_character_is_mapped_as_the_standard_library_maps_it() {
        for character in '\0'..=char::MAX {
            let text = character.to_string();
            let mapped = upper(text.as_bytes());
            assert_eq!(mapped, text.to_uppercase().as_bytes(), "{character:?}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "an interpreter takes an hour for a million of anything")]
    fn no_character_is_caught_among_the_letters_in_place_of_another() {
        let all: String = ('\0'..=char::MAX).collect();
        assert_eq!(upper(all.as_bytes()), all.to_uppercase().as_bytes());
        let backwards: String = ('\0'..=char::MAX).rev().collect();
        assert_eq!(upper(backwards.as_bytes()), backwards.to_uppercase().as_bytes());
    }

    #[test]
    fn what_is_no_text_passes_unchanged() {
        // A lone continuation, an overlong slash, a surrogate, what is past the last code point.
        for bytes in
            [&b"\x80"[..], b"\xc0\xaf", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"]
        {
            assert_eq!(upper(bytes), bytes);
            let between_letters = [b"a", bytes, b"b"].concat();
            assert_eq!(upper(&between_letters), [b"A", bytes, b"B"].concat());
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "an interpreter takes an hour for a million of anything")]
    fn decoding_agrees_with_the_standard_library_on_every_short_input() {
        // One byte of each kind that the tables of UTF-8 tell apart, and the borders between them.
        let kinds = [
            0x61, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed,
            0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff,
        ];
        for number in 0..kinds.len().pow(4) {
            let bytes =
                [0, 1, 2, 3].map(|place| kinds[number / kinds.len().pow(place) % kinds.len()]);
            for bytes in (1..=4).map(|length| &bytes[..length]) {
                let first = bytes.utf8_chunks().next();
                let is_whole = first.is_some_and(|chunk| !chunk.valid().is_empty());
                let is_cut_off = !is_whole
                    && str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none());
                match decode(bytes) {
                    Decoded::Character(character, length) => {
                        assert!(is_whole, "{bytes:x?}");
                        assert_eq!(str::from_utf8(&bytes[..length]), Ok(&*character.to_string()));
                    }
                    Decoded::CutOff => assert!(is_cut_off, "{bytes:x?}"),
                    Decoded::Invalid => {
                        // ASCII is never decoded, and counts as that.
                        assert!(bytes[0].is_ascii() || !is_whole && !is_cut_off, "{bytes:x?}");
                    }
                }
            }
        }
    }
}
