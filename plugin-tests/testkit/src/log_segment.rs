//! Changes the bytes of record batches on a broker's disk, with or without a new checksum. The
//! formats are Kafka's: record batches (<https://kafka.apache.org/documentation/#recordbatch>), and
//! message sets from before Kafka 0.11 (<https://kafka.apache.org/documentation/#messageset>).

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

/// The position of a batch's length, in bytes from the beginning of the batch, as the others are.
pub const LENGTH: usize = 8;
/// The position of the version of the format.
pub const MAGIC: usize = 16;
/// The position of the checksum, which covers all that follows it.
pub const CHECKSUM: usize = 17;
/// The position of the checksum in a message of an old format.
pub const OLD_CHECKSUM: usize = 12;
/// The position of the attributes, whose low bits are the codec.
pub const ATTRIBUTES: usize = 21;
/// The position of the last record's offset, relative to the base offset.
pub const LAST_OFFSET_DELTA: usize = 23;
/// The position of the number of records.
pub const RECORD_COUNT: usize = 57;
/// The position of the records.
pub const RECORDS: usize = 61;

/// A batch in a log segment.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The offset of the first record.
    pub base_offset: u64,
    /// The number of records.
    pub record_count: u32,
    /// The whole batch. [`Batch::write`] writes it back.
    pub bytes: Vec<u8>,
    segment: PathBuf,
    position: u64,
}

impl Batch {
    /// Finds the batch with this offset in a partition's first segment. `broker` is the broker's
    /// folder.
    pub fn find(broker: &Path, topic: &str, partition: u32, offset: u64) -> Batch {
        let mut batches = Batch::all(broker, topic, partition).into_iter();
        let has_offset =
            |batch: &Batch| (batch.base_offset..batch.base_offset + u64::from(batch.record_count)).contains(&offset);
        batches.find(has_offset).unwrap_or_else(|| panic!("offset {offset} is not in {topic} [{partition}]"))
    }

    /// Returns the batches of a partition's first segment, in order.
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

    /// Recomputes the checksum over the current bytes.
    pub fn renew_checksum(&mut self) {
        let checksum = crc32c(&self.bytes[ATTRIBUTES..]);
        self.bytes[CHECKSUM..ATTRIBUTES].copy_from_slice(&checksum.to_be_bytes());
    }

    /// Sets the four bytes at `place`.
    pub fn set_number(&mut self, place: usize, value: u32) {
        self.bytes[place..place + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// Replaces the batch by as many messages of an old format, in as many bytes: separate
    /// messages, or one compressed message that contains them.
    pub fn turn_into_messages(&mut self, magic: u8, is_compressed: bool) {
        let (count, size) = (u64::from(self.record_count), self.bytes.len());
        let base = self.base_offset;
        if !is_compressed {
            self.bytes = messages(magic, base..base + count, base, size);
            return;
        }
        // Messages of version 1 have offsets relative to the set.
        let first = if magic == 0 { base } else { 0 };
        let inner = messages(magic, first..first + count, base, size - overhead(magic) - GZIP_OVERHEAD);
        self.bytes = message(magic, base + count - 1, GZIP, &stored_by_gzip(&inner));
        assert_eq!(self.bytes.len(), size);
    }

    /// The position at which the second message begins.
    pub fn second_message(&self) -> usize {
        LENGTH + 4 + number(&self.bytes, LENGTH) as usize
    }

    /// Writes the bytes back to the segment, from which the broker sends them.
    pub fn write(&self) {
        File::options().write(true).open(&self.segment).unwrap().write_all_at(&self.bytes, self.position).unwrap();
    }
}

/// The codec id in a message's attributes.
const GZIP: u8 = 1;
const GZIP_OVERHEAD: usize = 23;

/// The size of a message without its value.
fn overhead(magic: u8) -> usize {
    if magic == 0 { 26 } else { 34 }
}

/// Encodes events with these offsets, numbered from `first`, in `size` bytes.
fn messages(magic: u8, offsets: std::ops::Range<u64>, first: u64, size: usize) -> Vec<u8> {
    let count = (offsets.end - offsets.start) as usize;
    let place = |index: usize| size * index / count;
    let events = offsets.enumerate().map(|(index, offset)| {
        let value_size = place(index + 1) - place(index) - overhead(magic);
        message(magic, offset, 0, &event(first + index as u64, value_size))
    });
    events.flatten().collect()
}

fn message(magic: u8, offset: u64, attributes: u8, value: &[u8]) -> Vec<u8> {
    let timestamp = 1_000_i64.to_be_bytes();
    let no_key = (-1_i32).to_be_bytes();
    let checked = [
        &[magic, attributes][..],
        if magic == 0 { &[] } else { &timestamp },
        &no_key,
        &(value.len() as u32).to_be_bytes(),
        value,
    ]
    .concat();
    let size = (checked.len() + 4) as u32;
    [&offset.to_be_bytes()[..], &size.to_be_bytes(), &checksum(&CRC32, &checked).to_be_bytes(), &checked].concat()
}

/// Encodes the value of an event's record, padded with data to `size` bytes.
fn event(number: u64, size: usize) -> Vec<u8> {
    let text = json!({"number": number}).to_string();
    let metadata = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let data = vec![b'x'; size - 16 - metadata.len()];
    [&(metadata.len() as u64).to_le_bytes()[..], &(data.len() as u64).to_le_bytes(), &metadata, &data].concat()
}

/// Encodes a gzip stream with one block that is not compressed.
fn stored_by_gzip(bytes: &[u8]) -> Vec<u8> {
    let (header, size) = ([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1], bytes.len() as u16);
    let end = [checksum(&CRC32, bytes), bytes.len() as u32].map(u32::to_le_bytes).concat();
    [&header[..], &size.to_le_bytes(), &(!size).to_le_bytes(), bytes, &end].concat()
}

fn number(bytes: &[u8], place: usize) -> u32 {
    u32::from_be_bytes(bytes[place..place + 4].try_into().unwrap())
}

/// The checksum of record batches.
pub fn crc32c(bytes: &[u8]) -> u32 {
    checksum(&CRC32C, bytes)
}

fn checksum(table: &[u32; 256], bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ table[usize::from(crc as u8 ^ byte)])
}

static CRC32C: [u32; 256] = table(0x82f6_3b78);
/// The table of the checksum of gzip and of old messages.
static CRC32: [u32; 256] = table(0xedb8_8320);

const fn table(polynomial: u32) -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let (mut crc, mut bit) = (index as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ polynomial } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_a_known_text_are_right() {
        assert_eq!((crc32c(b"123456789"), checksum(&CRC32, b"123456789")), (0xe306_9283, 0xcbf4_3926));
    }
}
