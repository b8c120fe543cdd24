//! The messages of Kafka's protocol in a stream of bytes: requests and responses, each preceded by
//! its length (4 bytes, big-endian).

/// Finds the ends of messages in a stream.
#[derive(Default)]
pub struct Boundaries {
    /// The bytes of the current message's length that have passed; none between messages.
    length: Vec<u8>,
    /// How many bytes follow until the current message ends, once its length is known.
    rest: usize,
}

impl Boundaries {
    /// Passes bytes up to the end of the current message, or all if it doesn't end in them, and
    /// returns how many.
    pub fn pass(&mut self, bytes: &[u8]) -> usize {
        let of_length = (4 - self.length.len()).min(bytes.len());
        self.length.extend(&bytes[..of_length]);
        let Ok(length) = <[u8; 4]>::try_from(&self.length[..]) else { return of_length };
        if of_length > 0 {
            self.rest = u32::from_be_bytes(length) as usize;
        }
        let of_body = self.rest.min(bytes.len() - of_length);
        self.rest -= of_body;
        if self.rest == 0 {
            self.length.clear();
        }
        of_length + of_body
    }

    /// How many bytes must pass before the current message ends, or before its length is known;
    /// zero between messages.
    pub fn missing(&self) -> usize {
        match self.length.len() {
            0 => 0,
            4 => self.rest,
            passed => 4 - passed,
        }
    }
}

/// The header of a request.
pub struct RequestHeader<'a> {
    pub api_key: i16,
    pub correlation_id: i32,
    pub client_id: &'a [u8],
}

impl<'a> RequestHeader<'a> {
    /// Reads the header of a whole request: after the length, the API key (2 bytes), the API
    /// version (2), the correlation id (4), the length of the client id (2), and the client id.
    pub fn read(request: &'a [u8]) -> Option<Self> {
        let length = i16::from_be_bytes(array(request, 12)?);
        Some(RequestHeader {
            api_key: i16::from_be_bytes(array(request, 4)?),
            correlation_id: i32::from_be_bytes(array(request, 8)?),
            client_id: request.get(14..14 + usize::try_from(length).ok()?)?,
        })
    }
}

/// The correlation id of a whole response, which follows its length.
pub fn correlation_id_of(response: &[u8]) -> Option<i32> {
    array(response, 4).map(i32::from_be_bytes)
}

fn array<const SIZE: usize>(bytes: &[u8], at: usize) -> Option<[u8; SIZE]> {
    bytes.get(at..at + SIZE)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_are_found_in_any_split_of_a_stream() {
        let stream = [&[0, 0, 0, 3, 1, 2, 3][..], &[0, 0, 0, 0], &[0, 0, 0, 1, 9]].concat();
        for size in 1..=stream.len() {
            let (mut boundaries, mut ends, mut passed) = (Boundaries::default(), Vec::new(), 0);
            for mut chunk in stream.chunks(size) {
                while !chunk.is_empty() {
                    let count = boundaries.pass(chunk);
                    (passed, chunk) = (passed + count, &chunk[count..]);
                    if boundaries.missing() == 0 {
                        ends.push(passed);
                    }
                }
            }
            assert_eq!(ends, [7, 11, 16], "chunks of {size}");
        }
    }

    #[test]
    fn missing_bytes_of_a_message_are_counted() {
        let mut boundaries = Boundaries::default();
        for (bytes, missing) in [(&[0, 0][..], 2), (&[0, 5], 5), (&[1, 2], 3), (&[3, 4, 5], 0)] {
            boundaries.pass(bytes);
            assert_eq!(boundaries.missing(), missing);
        }
    }
}
