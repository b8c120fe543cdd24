//! Producers keep their epoch when a batch comes out of order, because the one before it has to be sent again.
//!
//! librdkafka takes on a new epoch then, and sends everything once more under that, in all partitions. Of this one it knows that nothing is
//! doubled by it. But in another there may be a batch whose answer was lost, with the connection to a broker that crashed say: stored
//! under the old epoch, its second attempt looks new to the broker under the new one. A new epoch isn't needed: librdkafka sends both
//! batches again, in order, with the sequence numbers that the broker waits for. So of the calls that ask for one, which the linker leads
//! here (build.rs), those for that reason return at once.

use rdkafka::types::RDKafkaRespErr;

const OUT_OF_ORDER: i32 = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER as i32;

// void rd_kafka_idemp_drain_epoch_bump0(rd_kafka_t *rk, rd_bool_t allow_txn_abort, rd_kafka_resp_err_t err, const char *fmt, ...):
// the third argument is compared, and whatever else there is passes untouched, which no function of Rust's could do.
// A program that isn't linked so, as the unit tests', has no `__real_…`, and calls none of this.
std::arch::global_asm!(
    ".pushsection .text.octopus_epoch, \"ax\", %progbits",
    ".globl __wrap_rd_kafka_idemp_drain_epoch_bump0",
    ".hidden __wrap_rd_kafka_idemp_drain_epoch_bump0",
    ".type __wrap_rd_kafka_idemp_drain_epoch_bump0, %function",
    ".weak __real_rd_kafka_idemp_drain_epoch_bump0",
    "__wrap_rd_kafka_idemp_drain_epoch_bump0:",
    #[cfg(target_arch = "x86_64")]
    "cmp edx, {out_of_order}",
    #[cfg(target_arch = "x86_64")]
    "jne __real_rd_kafka_idemp_drain_epoch_bump0@PLT",
    #[cfg(target_arch = "aarch64")]
    "cmp w2, #{out_of_order}",
    #[cfg(target_arch = "aarch64")]
    "b.eq 1f",
    #[cfg(target_arch = "aarch64")]
    "b __real_rd_kafka_idemp_drain_epoch_bump0",
    #[cfg(target_arch = "aarch64")]
    "1:",
    "ret",
    ".popsection",
    out_of_order = const OUT_OF_ORDER,
);
