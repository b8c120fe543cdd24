//! Damage to record batches, on their way from a broker or on its disk: the same each time for the same batch.

use crate::damaged_log::{ATTRIBUTES, CHECKSUM, LAST_OFFSET_DELTA, LENGTH, MAGIC, RECORD_COUNT, RECORDS, crc32c};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One bit, wherever it is.
    Bit,
    /// One bit behind the checksum, which is right again.
    BitUnderChecksum,
    RecordCount,
    LastOffsetDelta,
    /// The beginning of the records, where the first one's length is, or a codec's header.
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

    /// Whether readers can believe nothing of the batch's size, and may pass over those around it.
    pub fn hides_the_end(self) -> bool {
        matches!(self, Kind::Bit | Kind::Length)
    }
}

/// Which batches are damaged, and how: every second one, by its base offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    pub records_of_a_batch: u64,
    pub seed: u64,
}

impl Pattern {
    pub fn kind_of(self, base_offset: u64) -> Option<Kind> {
        let number = base_offset / self.records_of_a_batch;
        (number % 2 == 1).then(|| Kind::ALL[(number / 2) as usize % Kind::ALL.len()])
    }

    /// Damages the batches in a broker's response; how many.
    pub fn apply(self, response: &mut [u8]) -> u64 {
        let (mut at, mut count) = (0, 0);
        while at + RECORDS < response.len() {
            let Some(size) = size_of_batch(&response[at..]) else {
                at += 1;
                continue;
            };
            count += u64::from(self.apply_to_batch(&mut response[at..at + size]));
            at += size;
        }
        count
    }

    pub fn apply_to_batch(self, batch: &mut [u8]) -> bool {
        let base_offset = u64::from_be_bytes(batch[..LENGTH].try_into().expect("eight bytes"));
        let Some(kind) = self.kind_of(base_offset) else { return false };
        let seed = self.seed ^ base_offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(number(batch, CHECKSUM));
        damage(batch, kind, fastrand::Rng::with_seed(seed));
        true
    }
}

fn number(bytes: &[u8], place: usize) -> u32 {
    u32::from_be_bytes(bytes[place..place + 4].try_into().expect("four bytes"))
}

/// What is no batch has not its checksum.
fn size_of_batch(bytes: &[u8]) -> Option<usize> {
    let size = number(bytes, LENGTH) as usize + LENGTH + 4;
    let is_batch = bytes[MAGIC] == 2
        && (RECORDS..=bytes.len()).contains(&size)
        && number(bytes, CHECKSUM) == crc32c(&bytes[ATTRIBUTES..size]);
    is_batch.then_some(size)
}

fn damage(batch: &mut [u8], kind: Kind, mut chance: fastrand::Rng) {
    let size = batch.len();
    let mut set = |place: usize, value: u32| batch[place..place + 4].copy_from_slice(&value.to_be_bytes());
    match kind {
        Kind::Bit => return batch[chance.usize(..size)] ^= 1 << chance.u32(..8),
        Kind::BitUnderChecksum => batch[chance.usize(ATTRIBUTES..size)] ^= 1 << chance.u32(..8),
        Kind::RecordCount => set(RECORD_COUNT, chance.u32(..)),
        // Few offsets too many, or more than any partition has.
        Kind::LastOffsetDelta => set(LAST_OFFSET_DELTA, chance.u32(..) >> chance.u32(..32)),
        Kind::RecordLength => chance.fill(&mut batch[RECORDS..RECORDS + 2]),
        Kind::Records => chance.fill(&mut batch[RECORDS..]),
        Kind::Codec => batch[ATTRIBUTES + 1] ^= chance.u8(1..8),
        Kind::BaseOffset => return batch[chance.usize(..LENGTH)] ^= 1 << chance.u32(..8),
        Kind::Length => return set(LENGTH, chance.u32(..)),
    }
    let checksum = crc32c(&batch[ATTRIBUTES..]);
    batch[CHECKSUM..ATTRIBUTES].copy_from_slice(&checksum.to_be_bytes());
}
