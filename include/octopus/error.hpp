/* What is thrown when a call fails. A part of octopus.hpp. */

#ifndef OCTOPUS_ERROR_HPP
#define OCTOPUS_ERROR_HPP

#include "../octopus.h"

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

namespace octopus {

/* Offsets of one partition, from the first to the last one. */
struct SkippedOffsets {
    std::uint32_t partition = 0;
    std::uint64_t first = 0;
    std::uint64_t last = 0;
};

/* What went wrong: what was being done, to what, what was expected, and what to do. */
class Error : public std::runtime_error {
public:
    Error(octopus_status status, const std::string &message) : std::runtime_error(message), status_(status) {}

    /* An OCTOPUS_… of octopus.h; OCTOPUS_CLOSED and OCTOPUS_WOULD_BLOCK among them. */
    octopus_status status() const noexcept { return status_; }
    /* librdkafka's or Kafka's code; 0 when neither said no. */
    std::int32_t kafka_code() const noexcept { return kafka_code_; }
    /* Whether the same call may succeed later without anything being changed by hand. */
    bool is_retriable() const noexcept { return is_retriable_; }
    /* Of a failed push: whether the event may be in the topic all the same. */
    bool is_possibly_persisted() const noexcept { return is_possibly_persisted_; }
    /* Of OCTOPUS_DAMAGED_DATA and OCTOPUS_RECORDS_LOST: the offsets that reading skips, once their end is known. */
    const std::optional<SkippedOffsets> &skipped() const noexcept { return skipped_; }

    /* Throws what a C function reported; takes `error` over, which may be NULL. */
    [[noreturn]] static void raise(const octopus_api &api, octopus_status status, octopus_error *error)
    {
        const octopus_text said = api.error->message(error);
        std::string message = said.size > 0 ? std::string(said.data, said.size) : in_words(status);
        Error raised(status, message);
        raised.kafka_code_ = api.error->kafka_code(error);
        raised.is_retriable_ = api.error->retriable(error) != 0 || status == OCTOPUS_WOULD_BLOCK;
        raised.is_possibly_persisted_ = api.error->persisted(error) == OCTOPUS_PERSISTED_POSSIBLY;
        SkippedOffsets offsets;
        if (OCTOPUS_HAS(api.error, skipped) &&
            api.error->skipped(error, &offsets.partition, &offsets.first, &offsets.last) != 0)
            raised.skipped_ = offsets;
        api.error->release(error);
        throw raised;
    }

private:
    static std::string in_words(octopus_status status)
    {
        switch (status) {
        case OCTOPUS_CLOSED: return "it was closed before";
        case OCTOPUS_WOULD_BLOCK: return "the call would have to wait, and must not here";
        default: return "the call returned status " + std::to_string(status);
        }
    }

    octopus_status status_;
    std::int32_t kafka_code_ = 0;
    bool is_retriable_ = false;
    bool is_possibly_persisted_ = false;
    std::optional<SkippedOffsets> skipped_;
};

} // namespace octopus

#endif /* OCTOPUS_ERROR_HPP */
