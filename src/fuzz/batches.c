/**
 * Passes bytes to librdkafka's record batch reader as if a broker had sent them. Only for
 * fuzzing: src/fuzz/batches.rs.
 */
#include "rd.h"
#include "rdkafka_int.h"
#include "rdkafka_broker.h"
#include "rdkafka_buf.h"
#include "rdkafka_header.h"
#include "rdkafka_msgset.h"
#include "rdkafka_op.h"
#include "rdkafka_partition.h"
#include "rdkafka_queue.h"
#include "crc32c.h"
#include "rdcrc32.h"

/* Coverage counters for libFuzzer. ci/fuzz.sh has gcc insert a call of
 * __sanitizer_cov_trace_pc at each branch; plugin-tests/fuzz/build.rs redirects it to the
 * function below, since that of libFuzzer ends the process. */
__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t counters[1 << 14];
/* Only the fuzzing thread counts: the threads of the client run code at any time. */
static __thread rd_bool_t is_counting;

void __wrap___sanitizer_cov_trace_pc(void);
void __wrap___sanitizer_cov_trace_pc(void)
{
    if (is_counting)
        counters[((uintptr_t)__builtin_return_address(0) * 0x9e3779b97f4a7c15ull) >> 50]++;
}

/* No header of librdkafka declares it. */
void rd_kafka_toppar_damage_reset(rd_kafka_toppar_t *rktp);

/* Mirrors FuzzedResponse in batches.rs. */
typedef struct fuzzed_response_s {
    const uint8_t *bytes;
    size_t size;
    int64_t fetch_offset;
    int64_t end_offset;
    int64_t failed_offset;
    int64_t unconfirmed_offset;
    rd_bool_t is_probe;
    rd_bool_t is_old;
    rd_bool_t is_signed;
} fuzzed_response_t;

/* Mirrors FuzzedResult in batches.rs. */
typedef struct fuzzed_result_s {
    int64_t position;
    int32_t err;
    int32_t batch_cnt;
    int64_t base_offset;
    int64_t next_offset;
    rd_bool_t damaged;
    rd_bool_t unconfirmed;
    size_t record_cnt;
    size_t error_cnt;
    int64_t first;
    int64_t last;
    rd_bool_t is_ordered;
} fuzzed_result_t;

static rd_kafka_t *client;
static rd_kafka_toppar_t *partition;

static void make_client(void)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char errstr[512];

    rd_kafka_conf_set(conf, "log_level", "0", errstr, sizeof(errstr));
    rd_kafka_conf_set(conf, "check.crcs", "true", errstr, sizeof(errstr));
    rd_kafka_conf_set(conf, "fetch.decompressed.max.bytes", "100000", errstr, sizeof(errstr));
    client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, errstr, sizeof(errstr));
    rd_assert(client);
    partition = rd_kafka_toppar_get2(client, "fuzzed", 0, rd_true, rd_true);
    rd_assert(partition);
}

/** Reads every byte that an application could read. */
static void touch(rd_kafka_op_t *rko)
{
    const rd_kafka_message_t *message = rd_kafka_message_get(rko);
    static volatile uint8_t sum;
    rd_kafka_headers_t *headers;
    const char *name;
    const void *value;
    size_t at, size, i;

    for (at = 0; at < message->len; at++)
        sum += ((const uint8_t *)message->payload)[at];
    for (at = 0; at < message->key_len; at++)
        sum += ((const uint8_t *)message->key)[at];
    if (rd_kafka_message_headers(message, &headers))
        return;
    for (at = 0; !rd_kafka_header_get_all(headers, at, &name, &value, &size); at++) {
        sum += (uint8_t)strlen(name);
        for (i = 0; i < size; i++)
            sum += ((const uint8_t *)value)[i];
    }
}

/** Corrects the checksums, so that the code after their check is reached. */
static void sign(uint8_t *bytes, size_t size)
{
    const size_t length_of = 8, magic_of = 16;
    size_t at = 0;

    while (size - at > magic_of) {
        const rd_bool_t is_v2 = bytes[at + magic_of] == 2;
        const size_t checksum_of = is_v2 ? 17 : 12, checked_of = checksum_of + 4;
        const size_t shortest = is_v2 ? RD_KAFKAP_MSGSET_V2_SIZE : magic_of + 1;
        uint32_t length, checksum;

        memcpy(&length, bytes + at + length_of, sizeof(length));
        length = be32toh(length);
        if (length > size - at - 12 || length + 12 < shortest)
            return;
        checksum = is_v2
                       ? rd_crc32c(0, bytes + at + checked_of, length + 12 - checked_of)
                       : rd_crc32((const char *)bytes + at + checked_of, length + 12 - checked_of);
        checksum = htobe32(checksum);
        memcpy(bytes + at + checksum_of, &checksum, sizeof(checksum));
        at += length + 12;
    }
}

/** Takes the records and errors that were enqueued. */
static void drain(fuzzed_result_t *result)
{
    rd_kafka_op_t *rko;

    result->first = result->last = -1;
    result->is_ordered = rd_true;
    while ((rko = rd_kafka_q_pop(partition->rktp_fetchq, RD_POLL_NOWAIT, 0))) {
        if (rko->rko_type != RD_KAFKA_OP_FETCH) {
            result->error_cnt++;
        } else if (!rd_kafka_op_is_ctrl_msg(rko)) {
            const int64_t offset = rko->rko_u.fetch.rkm.rkm_offset;

            touch(rko);
            if (result->record_cnt++ == 0)
                result->first = offset;
            else if (offset <= result->last)
                result->is_ordered = rd_false;
            result->last = offset;
        }
        rd_kafka_op_destroy(rko);
    }
}

void octopus_fuzz_batches(const fuzzed_response_t *response, fuzzed_result_t *out)
{
    struct rd_kafka_toppar_ver version;
    rd_kafka_msgset_result_t result;
    rd_kafka_buf_t *request, *rkbuf;
    uint8_t *bytes;

    if (!client)
        make_client();
    memset(out, 0, sizeof(*out));
    version.rktp = partition;
    version.version = 0;
    rd_kafka_toppar_damage_reset(partition);
    partition->rktp_damage.leader_epoch = -1;
    partition->rktp_damage.failed_behind = response->failed_offset >= 0;
    partition->rktp_damage.failed_offset = response->failed_offset;
    partition->rktp_damage.unconfirmed_offset = response->unconfirmed_offset;
    partition->rktp_damage.unconfirmed_size = response->size;
    partition->rktp_fetch_msg_max_bytes = 1 << 20;
    partition->rktp_offsets.fetch_pos.offset = response->fetch_offset;
    partition->rktp_offsets.fetch_pos.leader_epoch = -1;

    /* An allocation of the exact size, so that the sanitizer detects each access beyond it. */
    bytes = malloc(response->size);
    rd_assert(bytes || response->size == 0);
    memcpy(bytes, response->bytes, response->size);
    if (response->is_signed)
        sign(bytes, response->size);
    rkbuf = rd_kafka_buf_new_shadow(bytes, response->size, free);
    rkbuf->rkbuf_rkb = client->rk_internal_rkb;
    rd_kafka_broker_keep(rkbuf->rkbuf_rkb);
    request = rd_kafka_buf_new_shadow("-", 1, NULL);
    request->rkbuf_reqhdr.ApiVersion = response->is_old ? 2 : 11;

    is_counting = rd_true;
    out->err = rd_kafka_msgset_parse(rkbuf, request, partition, NULL, &version,
                                     response->end_offset, response->is_probe, &result);
    is_counting = rd_false;

    out->position = partition->rktp_offsets.fetch_pos.offset;
    out->batch_cnt = result.batch_cnt;
    out->base_offset = result.base_offset;
    out->next_offset = result.next_offset;
    out->damaged = result.damaged;
    out->unconfirmed = result.unconfirmed;
    drain(out);
    rd_kafka_buf_destroy(request);
    rd_kafka_buf_destroy(rkbuf);
}
