//! JSON as programs write it, told in one pass: each event's metadata is looked at when it is pushed, and again when it is pulled.

/// Nesting is kept in the bits of a number.
const DEEPEST: u32 = 64;
/// Within a double's range whatever they are, as long as there is no exponent.
const MOST_DIGITS: usize = 300;

/// Whether this is JSON that no reader stumbles over. What is not may be JSON all the same: an exponent, a `\u`, very long numbers
/// and very deep nesting are left to those who look closer.
pub fn is_plain(text: &str) -> bool {
    Scan { text: text.as_bytes(), at: 0 }.document().is_some()
}

/// Each step stands behind what it has read, or gives up. All are compiled into one function, where that place needs no memory.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn document(mut self) -> Option<()> {
        // Innermost last: 1 is an object, 0 an array.
        let (mut depth, mut kinds) = (0, 0u64);
        let mut token = self.next_token()?;
        loop {
            match token {
                opening @ (b'{' | b'[') if depth < DEEPEST => {
                    let is_object = opening == b'{';
                    token = self.next_token()?;
                    if token != closing(opening) {
                        (depth, kinds) = (depth + 1, kinds << 1 | u64::from(is_object));
                        if is_object {
                            token = self.key(token)?;
                        }
                        continue;
                    }
                }
                b'"' => self.string()?,
                b't' => self.word(b"rue")?,
                b'f' => self.word(b"alse")?,
                b'n' => self.word(b"ull")?,
                b'-' => {
                    let first = self.next()?;
                    self.number(first)?;
                }
                first => self.number(first)?,
            }
            loop {
                if depth == 0 {
                    return self.text[self.at..].iter().all(|byte| is_space(*byte)).then_some(());
                }
                match (self.next_token()?, kinds & 1) {
                    (b',', is_object) => {
                        token = self.next_token()?;
                        if is_object == 1 {
                            token = self.key(token)?;
                        }
                        break;
                    }
                    (b'}', 1) | (b']', 0) => (depth, kinds) = (depth - 1, kinds >> 1),
                    _ => return None,
                }
            }
        }
    }

    #[inline(always)]
    fn next(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    #[inline(always)]
    fn next_token(&mut self) -> Option<u8> {
        loop {
            let byte = self.next()?;
            if !is_space(byte) {
                return Some(byte);
            }
        }
    }

    /// From a key's first token to its value's.
    #[inline(always)]
    fn key(&mut self, token: u8) -> Option<u8> {
        if token != b'"' {
            return None;
        }
        self.string()?;
        if self.next_token()? == b':' { self.next_token() } else { None }
    }

    /// Behind the opening quote.
    #[inline(always)]
    fn string(&mut self) -> Option<()> {
        loop {
            self.skip(remarkable, |byte| !matches!(byte, 0..0x20 | b'"' | b'\\'));
            match self.next()? {
                b'"' => return Some(()),
                b'\\' if matches!(self.next()?, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                _ => return None,
            }
        }
    }

    fn word(&mut self, rest: &[u8]) -> Option<()> {
        let found = self.text.get(self.at..)?.starts_with(rest);
        self.at += rest.len();
        found.then_some(())
    }

    /// Behind its first digit.
    #[inline(always)]
    fn number(&mut self, first: u8) -> Option<()> {
        let begin = self.at;
        match first {
            b'0' => {}
            b'1'..=b'9' => self.skip_digits(),
            _ => return None,
        }
        if self.text.get(self.at) == Some(&b'.') {
            let point = self.at;
            self.at += 1;
            self.skip_digits();
            if self.at == point + 1 {
                return None;
            }
        }
        let ends = !matches!(self.text.get(self.at), Some(b'e' | b'E' | b'0'..=b'9'));
        (ends && self.at - begin < MOST_DIGITS).then_some(())
    }

    #[inline(always)]
    fn skip_digits(&mut self) {
        self.skip(no_digits, |byte| byte.is_ascii_digit());
    }

    /// Goes on to the first byte that can't be skipped. Eight are looked at as one number, in which `stops` sets the highest bit of
    /// such a byte, and perhaps of those behind it: a search that is called for each string costs more than it saves, since most are
    /// short.
    #[inline(always)]
    fn skip(&mut self, stops: impl Fn(u64) -> u64, can_be_skipped: impl Fn(&u8) -> bool) {
        while let Some(eight) = self.text.get(self.at..).and_then(|rest| rest.first_chunk()) {
            let stops = stops(u64::from_le_bytes(*eight));
            if stops != 0 {
                self.at += stops.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        while self.text.get(self.at).is_some_and(&can_be_skipped) {
            self.at += 1;
        }
    }
}

/// One in each of eight bytes, and the highest bit of each.
const ONES: u64 = u64::MAX / 0xff;
const HIGHEST: u64 = ONES * 0x80;

/// Bytes that mean something within a string. A byte goes below zero by what is subtracted, or by a borrow from one that did.
fn remarkable(eight: u64) -> u64 {
    let control = eight.wrapping_sub(ONES * 0x20);
    let quote = (eight ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let backslash = (eight ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    (control | quote | backslash) & !eight & HIGHEST
}

/// Bytes that are no digits: what is left of a digit is below ten, and added to, below 128.
fn no_digits(eight: u64) -> u64 {
    let left = eight ^ (ONES * b'0' as u64);
    (left.wrapping_add(ONES * (0x80 - 10)) | left) & HIGHEST
}

/// In ASCII it is the second behind its opening.
fn closing(opening: u8) -> u8 {
    opening + 2
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::check_closely;

    #[test]
    fn what_programs_write_is_plain() {
        for text in [
            "{}",
            "[]",
            "[[], {}]",
            "\"\"",
            "null",
            "true",
            "false",
            "0",
            "-0.5",
            "12345678901234567890",
            r#"{"detector":7,"frame":123456789}"#,
            " { \"a\" : [ 1 , 2.25 , \"x\\n\\\"ü\" ] , \"b\" : { \"c\" : null } }\n",
        ] {
            assert!(is_plain(text), "{text}");
        }
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(is_plain(&deep(64)) && !is_plain(&deep(65)));
    }

    #[test]
    fn what_needs_a_closer_look_is_not_called_plain() {
        for text in ["1e5", r#""\u00e4""#, &"9".repeat(301)] {
            assert!(!is_plain(text) && check_closely(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn whatever_is_called_plain_is_json() {
        let alphabet = [
            "{", "}", "[", "]", ",", ":", "\"", "\\", "n", "u", "0", "1", "9", "-", ".", "e", "+", " ", "\n", "\t",
            "a", "null", "true", "false", "\"k\":", "\"v\"", "12.5", "\u{1}", "ü", "{}", "[]",
        ];
        let mut random = 20_261_125u64;
        let mut chance = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % below
        };
        let mut plain = 0;
        for _ in 0..400_000 {
            let length = 1 + chance(9);
            let text: String = (0..length).map(|_| alphabet[chance(alphabet.len())]).collect();
            if is_plain(&text) {
                plain += 1;
                check_closely(&text).unwrap_or_else(|why| panic!("{text:?} was called plain: {why}"));
            }
        }
        assert!(plain > 1_000, "{plain} of them");
    }

    #[test]
    fn each_byte_that_can_not_be_skipped_is_found_wherever_it_stands() {
        let meaning = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
        let no_digit = |byte: &u8| !byte.is_ascii_digit();
        for length in 0..20 {
            for at in 0..length {
                for (byte, behind) in
                    (0..=255).flat_map(|byte| [0, 0x1f, b'/', b'9', b':', 0xb0, 0xff].map(|behind| (byte, behind)))
                {
                    let end = |before: u8, stops: fn(u64) -> u64, is_stop: &dyn Fn(&u8) -> bool| {
                        let mut text = vec![before; length];
                        text[at] = byte;
                        text[at + 1..].fill(behind);
                        let mut scan = Scan { text: &text, at: 0 };
                        scan.skip(stops, |byte| !is_stop(byte));
                        assert_eq!(scan.at, text.iter().position(is_stop).unwrap_or(length), "{text:x?}");
                    };
                    end(0x80, remarkable, &meaning);
                    end(b'7', no_digits, &no_digit);
                }
            }
        }
    }

    #[test]
    fn json_cut_short_or_with_one_byte_changed_is_plain_only_if_it_is_json() {
        let whole = r#" {"a": [1, -2.5, {"b": "x\n", "c": null}, []], "d": true, "e": {}, "f": 100} "#;
        assert!(is_plain(whole));
        for at in 0..whole.len() {
            for byte in 0..=0x7f {
                let mut changed = whole.as_bytes().to_vec();
                changed[at] = byte;
                for text in [&changed[..], &changed[..at]].map(|bytes| std::str::from_utf8(bytes).unwrap()) {
                    assert!(!is_plain(text) || check_closely(text).is_ok(), "{text:?}");
                }
            }
        }
    }
}
