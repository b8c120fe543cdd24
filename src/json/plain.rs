//! The fast path of the JSON check: recognizes JSON as programs usually write it, in one pass. Each
//! event's metadata is checked when it is pushed and again when it is pulled.

/// The nesting depth that the bits of a `u64` can track.
const MAX_DEPTH: u32 = 64;
/// The number of digits that can't exceed a double, without an exponent.
const MAX_DIGITS: usize = 300;

/// Whether this is JSON that each reader accepts. If not, the text may still be JSON: exponents,
/// `\u` escapes, very long numbers and very deep nesting are left to the full check.
pub fn is_plain(text: &str) -> bool {
    Scanner { text: text.as_bytes(), at: 0 }.document().is_some()
}

/// Each function advances past what it recognizes, or returns `None`. The functions are inlined
/// into one, so that `at` stays in a register.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn document(mut self) -> Option<()> {
        // One bit per level, the innermost last: 1 is an object, 0 an array.
        let (mut depth, mut kinds) = (0, 0u64);
        let mut token = self.next_token()?;
        loop {
            match token {
                opening @ (b'{' | b'[') if depth < MAX_DEPTH => {
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

    /// Reads a key, from its first token. Returns the first token of its value.
    #[inline(always)]
    fn key(&mut self, token: u8) -> Option<u8> {
        if token != b'"' {
            return None;
        }
        self.string()?;
        if self.next_token()? == b':' { self.next_token() } else { None }
    }

    /// Reads a string, from the byte after the opening quote.
    #[inline(always)]
    fn string(&mut self) -> Option<()> {
        loop {
            self.skip(string_stops, |byte| !matches!(byte, 0..0x20 | b'"' | b'\\'));
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

    /// Reads a number, from the byte after its first digit.
    #[inline(always)]
    fn number(&mut self, first: u8) -> Option<()> {
        let start = self.at;
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
        (ends && self.at - start < MAX_DIGITS).then_some(())
    }

    #[inline(always)]
    fn skip_digits(&mut self) {
        self.skip(non_digits, |byte| byte.is_ascii_digit());
    }

    /// Advances to the first stop byte. Reads eight bytes at a time as one number, in which `stops`
    /// sets the high bit of the first stop byte, and perhaps of later bytes. A call of memchr for
    /// each string would cost more than it saves, since most strings are short.
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

/// A 1 in each of eight bytes, and the high bit of each byte.
const ONES: u64 = u64::MAX / 0xff;
const HIGH_BITS: u64 = ONES * 0x80;

/// The stop bytes in a string: control characters, quotes and backslashes. The subtraction sets the
/// high bit of such a byte; a borrow from it may set the high bits of the bytes after it.
fn string_stops(eight: u64) -> u64 {
    let control = eight.wrapping_sub(ONES * 0x20);
    let quote = (eight ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let backslash = (eight ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    (control | quote | backslash) & !eight & HIGH_BITS
}

/// The bytes that are not digits. XOR turns digits into numbers below 10; the addition then sets
/// the high bit of all other bytes.
fn non_digits(eight: u64) -> u64 {
    let left = eight ^ (ONES * b'0' as u64);
    (left.wrapping_add(ONES * (0x80 - 10)) | left) & HIGH_BITS
}

/// The closing bracket, which ASCII has two after the opening one.
fn closing(opening: u8) -> u8 {
    opening + 2
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::check_fully;

    #[test]
    fn json_of_usual_writers_is_plain() {
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
    fn json_with_rare_features_is_not_plain() {
        for text in ["1e5", r#""\u00e4""#, &"9".repeat(301)] {
            assert!(!is_plain(text) && check_fully(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn plain_text_is_json() {
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
                check_fully(&text).unwrap_or_else(|error| panic!("{text:?} is plain, but not JSON: {error}"));
            }
        }
        assert!(plain > 1_000, "{plain} of them");
    }

    #[test]
    fn skip_stops_at_the_first_stop_byte() {
        let is_string_stop = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
        let is_no_digit = |byte: &u8| !byte.is_ascii_digit();
        for length in 0..20 {
            for at in 0..length {
                for (byte, after) in
                    (0..=255).flat_map(|byte| [0, 0x1f, b'/', b'9', b':', 0xb0, 0xff].map(|after| (byte, after)))
                {
                    let check_stop = |before: u8, stops: fn(u64) -> u64, is_stop: &dyn Fn(&u8) -> bool| {
                        let mut text = vec![before; length];
                        text[at] = byte;
                        text[at + 1..].fill(after);
                        let mut scanner = Scanner { text: &text, at: 0 };
                        scanner.skip(stops, |byte| !is_stop(byte));
                        assert_eq!(scanner.at, text.iter().position(is_stop).unwrap_or(length), "{text:x?}");
                    };
                    check_stop(0x80, string_stops, &is_string_stop);
                    check_stop(b'7', non_digits, &is_no_digit);
                }
            }
        }
    }

    #[test]
    fn truncated_or_changed_json_is_plain_only_if_valid() {
        let whole = r#" {"a": [1, -2.5, {"b": "x\n", "c": null}, []], "d": true, "e": {}, "f": 100} "#;
        assert!(is_plain(whole));
        for at in 0..whole.len() {
            for byte in 0..=0x7f {
                let mut changed = whole.as_bytes().to_vec();
                changed[at] = byte;
                for text in [&changed[..], &changed[..at]].map(|bytes| std::str::from_utf8(bytes).unwrap()) {
                    assert!(!is_plain(text) || check_fully(text).is_ok(), "{text:?}");
                }
            }
        }
    }
}
