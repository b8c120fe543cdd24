//! Changes record batches on a broker's disk: the bytes of the batch with a given offset, with or without a new checksum.
//! The format is Kafka's (<https://kafka.apache.org/documentation/#recordbatch>).

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Places in a batch, in bytes from its beginning.
pub const LENGTH: usize = 8;
pub const MAGIC: usize = 16;
pub const CHECKSUM: usize = 17;
pub const ATTRIBUTES: usize = 21;
pub const LAST_OFFSET_DELTA: usize = 23;
pub const RECORD_COUNT: usize = 57;
pub const RECORDS: usize = 61;

/// A batch in a log segment.
#[derive(Debug, Clone)]
pub struct Batch {
    pub base_offset: u64,
    pub record_count: u32,
    pub bytes: Vec<u8>,
    segment: PathBuf,
    position: u64,
}

impl Batch {
    /// The batch with this offset in the first segment of a partition of the broker that has this folder.
    pub fn find(broker: &Path, topic: &str, partition: u32, offset: u64) -> Batch {
        let mut batches = Batch::all(broker, topic, partition).into_iter();
        let has_it =
            |batch: &Batch| (batch.base_offset..batch.base_offset + u64::from(batch.record_count)).contains(&offset);
        batches.find(has_it).unwrap_or_else(|| panic!("offset {offset} is not in {topic} [{partition}]"))
    }

    /// The batches of the first segment, in order.
    pub fn all(broker: &Path, topic: &str, partition: u32) -> Vec<Batch> {
        let segment = broker.join(format!("{topic}-{partition}/00000000000000000000.log"));
        let log = fs::read(&segment).unwrap_or_else(|error| panic!("{}: {error}", segment.display()));
        let (mut batches, mut position) = (Vec::new(), 0);
        while let Some(rest) = log.get(position..).filter(|rest| rest.len() > RECORDS) {
            let size = LENGTH + 4 + number(rest, LENGTH) as usize;
            let base_offset = u64::from_be_bytes(rest[..LENGTH].try_into().unwrap());
            let (record_count, bytes) = (number(rest, RECORD_COUNT), rest[..size].to_vec());
            batches.push(Batch {
                base_offset,
                record_count,
                bytes,
                segment: segment.clone(),
                position: position as u64,
            });
            position += size;
        }
        batches
    }

    /// Makes the checksum that of the bytes as they are now.
    pub fn renew_checksum(&mut self) {
        let checksum = crc32c(&self.bytes[ATTRIBUTES..]);
        self.bytes[CHECKSUM..ATTRIBUTES].copy_from_slice(&checksum.to_be_bytes());
    }

    pub fn set_number(&mut self, place: usize, value: u32) {
        self.bytes[place..place + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// Writes the bytes back to where they were. A broker sends them from there.
    pub fn write(&self) {
        File::options().write(true).open(&self.segment).unwrap().write_all_at(&self.bytes, self.position).unwrap();
    }
}

fn number(bytes: &[u8], place: usize) -> u32 {
    u32::from_be_bytes(bytes[place..place + 4].try_into().unwrap())
}

pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ CRC32C[usize::from(crc as u8 ^ byte)])
}

static CRC32C: [u32; 256] = {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let (mut crc, mut bit) = (index as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[test]
fn checksum_of_a_known_text_is_right() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}
