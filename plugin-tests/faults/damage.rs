//! Damage to record batches, in a fetch response or on a broker's disk. It is deterministic: the
//! same batch is always damaged in the same way.

use octopus_testkit::log_segment::{
    ATTRIBUTES, CHECKSUM, LAST_OFFSET_DELTA, LENGTH, MAGIC, RECORD_COUNT, RECORDS, crc32c,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One bit anywhere in the batch.
    Bit,
    /// One bit of the data that the checksum covers; the checksum is then recomputed.
    BitUnderChecksum,
    RecordCount,
    LastOffsetDelta,
    /// The start of the records: the length of the first one, or the header of the codec.
    RecordLength,
    Records,
    Codec,
    BaseOffset,
    Length,
}

impl Kind {
    pub const ALL: [Kind; 9] = [
        Kind::Bit,
        Kind::BitUnderChecksum,
        Kind::RecordCount,
        Kind::LastOffsetDelta,
        Kind::RecordLength,
        Kind::Records,
        Kind::Codec,
        Kind::BaseOffset,
        Kind::Length,
    ];

    /// Whether a reader can't trust the batch's size, and may skip the batches around it.
    pub fn hides_the_end(self) -> bool {
        matches!(self, Kind::Bit | Kind::Length)
    }
}

/// Which batches are damaged, and how: every second batch, selected by its base offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    pub records_per_batch: u64,
    pub seed: u64,
}

impl Pattern {
    pub fn kind_of(self, base_offset: u64) -> Option<Kind> {
        let number = base_offset / self.records_per_batch;
        (number % 2 == 1).then(|| Kind::ALL[(number / 2) as usize % Kind::ALL.len()])
    }

    /// Damages the batches in a broker's response.
    pub fn apply(self, response: &mut [u8]) {
        let mut at = 0;
        while at + RECORDS < response.len() {
            let Some(size) = size_of_batch(&response[at..]) else {
                at += 1;
                continue;
            };
            self.apply_to_batch(&mut response[at..at + size]);
            at += size;
        }
    }

    /// Returns whether the batch is one of those that are damaged.
    pub fn apply_to_batch(self, batch: &mut [u8]) -> bool {
        let base_offset = u64::from_be_bytes(batch[..LENGTH].try_into().expect("eight bytes"));
        let Some(kind) = self.kind_of(base_offset) else { return false };
        let seed = self.seed ^ base_offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(number(batch, CHECKSUM));
        damage(batch, kind, fastrand::Rng::with_seed(seed));
        true
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Bytes that are no batch don't match their checksum.
fn size_of_batch(bytes: &[u8]) -> Option<usize> {
    let size = number(bytes, LENGTH) as usize + LENGTH + 4;
    let is_batch = bytes[MAGIC] == 2
        && (RECORDS..=bytes.len()).contains(&size)
        && number(bytes, CHECKSUM) == crc32c(&bytes[ATTRIBUTES..size]);
    is_batch.then_some(size)
}

fn damage(batch: &mut [u8], kind: Kind, mut rng: fastrand::Rng) {
    let size = batch.len();
    let mut set = |at: usize, value: u32| batch[at..at + 4].copy_from_slice(&value.to_be_bytes());
    match kind {
        Kind::Bit => return batch[rng.usize(..size)] ^= 1 << rng.u32(..8),
        Kind::BitUnderChecksum => batch[rng.usize(ATTRIBUTES..size)] ^= 1 << rng.u32(..8),
        Kind::RecordCount => set(RECORD_COUNT, rng.u32(..)),
        // From a few offsets too many up to more than any partition has.
        Kind::LastOffsetDelta => set(LAST_OFFSET_DELTA, rng.u32(..) >> rng.u32(..32)),
        Kind::RecordLength => rng.fill(&mut batch[RECORDS..RECORDS + 2]),
        Kind::Records => rng.fill(&mut batch[RECORDS..]),
        Kind::Codec => batch[ATTRIBUTES + 1] ^= rng.u8(1..8),
        Kind::BaseOffset => return batch[rng.usize(..LENGTH)] ^= 1 << rng.u32(..8),
        Kind::Length => return set(LENGTH, rng.u32(..)),
    }
    let checksum = crc32c(&batch[ATTRIBUTES..]);
    batch[CHECKSUM..ATTRIBUTES].copy_from_slice(&checksum.to_be_bytes());
}
