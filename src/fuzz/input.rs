//! Reads the bytes of a fuzzer as choices. After their end, each choice is zero or empty.

pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Input(bytes)
    }

    pub fn is_used_up(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub fn is(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `count`.
    pub fn one_of(&mut self, count: u8) -> u8 {
        self.byte() % count
    }

    /// A small number, one near a power of two, one near the maximum, or any other.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=199 => u64::from(small),
            at @ 200..=231 => u64::MAX >> (2 * (at - 200)),
            at @ 232..=250 => u64::MAX - u64::from(at - 232),
            _ => {
                let mut bytes = [0; 8];
                let given = self.take(8);
                bytes[..given.len()].copy_from_slice(given);
                u64::from_le_bytes(bytes)
            }
        }
    }

    /// Some bytes, at most a few hundred. The next byte determines how many.
    pub fn bytes(&mut self) -> &'a [u8] {
        let size = match self.byte() {
            long @ 240.. => 40 * (usize::from(long) - 233),
            short => usize::from(short),
        };
        self.take(size)
    }

    /// The remaining bytes.
    #[cfg(fuzzing)]
    pub fn rest(&mut self) -> &'a [u8] {
        self.take(usize::MAX)
    }

    fn take(&mut self, size: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(size.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// The lines of a text, with invalid UTF-8 replaced.
pub fn lines(input: &[u8]) -> impl Iterator<Item = String> {
    input.split(|byte| *byte == b'\n').map(|line| String::from_utf8_lossy(line).into_owned())
}
