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

/// Each step stands behind what it has read, or gives up.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn document(mut self) -> Option<()> {
        // Innermost last: 1 is an object, 0 an array.
        let (mut depth, mut kinds) = (0, 0u64);
        loop {
            match self.next_token()? {
                opening @ (b'{' | b'[') if depth < DEEPEST => {
                    (depth, kinds) = (depth + 1, kinds << 1 | u64::from(opening == b'{'));
                    if !self.closes(kinds)? {
                        if kinds & 1 == 1 {
                            self.key()?;
                        }
                        continue;
                    }
                    (depth, kinds) = (depth - 1, kinds >> 1);
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
            while depth > 0 {
                match (self.next_token()?, kinds & 1) {
                    (b',', 1) => {
                        self.key()?;
                        break;
                    }
                    (b',', _) => break,
                    (b'}', 1) | (b']', 0) => (depth, kinds) = (depth - 1, kinds >> 1),
                    _ => return None,
                }
            }
            if depth == 0 && self.text[self.at.min(self.text.len())..].iter().all(|byte| is_space(*byte)) {
                return Some(());
            } else if depth == 0 {
                return None;
            }
        }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn next_token(&mut self) -> Option<u8> {
        loop {
            let byte = self.next()?;
            if !is_space(byte) {
                return Some(byte);
            }
        }
    }

    /// Whether what was just opened is empty; then its end is read.
    fn closes(&mut self, kinds: u64) -> Option<bool> {
        let before = self.at;
        let closing = if kinds & 1 == 1 { b'}' } else { b']' };
        if self.next_token()? == closing {
            return Some(true);
        }
        self.at = before;
        Some(false)
    }

    fn key(&mut self) -> Option<()> {
        if self.next_token()? != b'"' {
            return None;
        }
        self.string()?;
        (self.next_token()? == b':').then_some(())
    }

    /// Behind the opening quote.
    fn string(&mut self) -> Option<()> {
        loop {
            self.at += unremarkable(self.text.get(self.at..)?);
            match (self.next()?, self.text.get(self.at)) {
                (b'"', _) => return Some(()),
                (b'\\', Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')) => self.at += 1,
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

    fn skip_digits(&mut self) {
        self.at += self.text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    }
}

/// How many bytes mean nothing but themselves within a string. Eight are looked at as one number: a search that is called for
/// each string costs more than it saves, since most are short.
fn unremarkable(text: &[u8]) -> usize {
    const EACH: u64 = u64::MAX / 0xff;
    // The lowest bit that is set tells of the first such byte; those above it may tell of what isn't there.
    let below = |word: u64, limit: u8| word.wrapping_sub(EACH * u64::from(limit)) & !word & (EACH * 0x80);
    let equal = |word: u64, byte: u8| below(word ^ (EACH * u64::from(byte)), 1);
    let (words, rest) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = below(word, 0x20) | equal(word, b'"') | equal(word, b'\\');
        if found != 0 {
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let in_rest = rest.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\'));
    words.len() * 8 + in_rest.unwrap_or(rest.len())
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
    fn each_byte_that_means_something_in_a_string_is_found_wherever_it_stands() {
        let meaning = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
        for length in 0..20 {
            for at in 0..length {
                for (byte, behind) in (0..=255).flat_map(|byte| [(byte, b'a'), (byte, 0x1f), (byte, 0xff)]) {
                    let mut text = vec![0x80; length];
                    text[at] = byte;
                    text[at + 1..].fill(behind);
                    let expected = text.iter().position(|byte| meaning(*byte)).unwrap_or(length);
                    assert_eq!(unremarkable(&text), expected, "{text:x?}");
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
