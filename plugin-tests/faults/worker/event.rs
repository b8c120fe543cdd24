//! The content of an event: the producer's number, the event's number, and data with a checksum.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::run::{Failure, Result};

/// Which event this is. The metadata contains it, and the data contains it too, followed by padding
/// and a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Content {
    pub producer: u32,
    pub number: u64,
}

const HEAD: usize = 12;
const SUM: usize = 8;

impl Content {
    pub fn metadata(self) -> String {
        format!(r#"{{"producer":{},"number":{}}}"#, self.producer, self.number)
    }

    /// The data with `padding` bytes of padding.
    pub fn data(self, padding: usize) -> Vec<u8> {
        let mut data = Vec::with_capacity(HEAD + padding + SUM);
        data.extend(self.producer.to_le_bytes());
        data.extend(self.number.to_le_bytes());
        data.extend((0..padding).map(|place| (self.number as usize + place) as u8));
        data.extend(sum(&data).to_le_bytes());
        data
    }

    /// Parses the metadata and the data; fails if they differ or the checksum is wrong.
    pub fn read(metadata: &[u8], data: &[u8]) -> Result<Self> {
        let corrupted = |what: &str| Failure(format!("{what} ({} bytes of data)", data.len()));
        let head =
            data.split_first_chunk::<4>().and_then(|(producer, rest)| Some((producer, rest.first_chunk::<8>()?)));
        let Some((producer, number)) = head else { return Err(corrupted("the data is too short")) };
        let content = Content { producer: u32::from_le_bytes(*producer), number: u64::from_le_bytes(*number) };
        match data.split_last_chunk::<SUM>() {
            Some((summed, last)) if sum(summed).to_le_bytes() == *last => {}
            _ => return Err(corrupted("the checksum of the data is wrong")),
        }
        if content.metadata().as_bytes() != metadata {
            return Err(corrupted("metadata and data are of different events"));
        }
        Ok(content)
    }
}

fn sum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_with_any_flipped_bit_is_rejected() {
        let content = Content { producer: 7, number: 1 << 40 };
        let (metadata, data) = (content.metadata(), content.data(20));
        assert_eq!(Content::read(metadata.as_bytes(), &data).unwrap(), content);
        for bit in 0..data.len() * 8 {
            let mut corrupted = data.clone();
            corrupted[bit / 8] ^= 1 << (bit % 8);
            assert!(Content::read(metadata.as_bytes(), &corrupted).is_err(), "bit {bit}");
        }
        assert!(Content::read(content.metadata().replace('7', "8").as_bytes(), &data).is_err());
        assert!(Content::read(metadata.as_bytes(), &data[..10]).is_err());
    }
}
