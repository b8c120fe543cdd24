/// @file
/// The exception of failed calls. Part of octopus.hpp.

#ifndef OCTOPUS_ERROR_HPP
#define OCTOPUS_ERROR_HPP

#include "../octopus.h"

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

namespace octopus {

/// The offsets of one partition that reading skips.
///
/// @since 0.1
struct SkippedOffsets {
    std::uint32_t partition = 0; ///< The partition.
    std::uint64_t first = 0;     ///< The first offset that is skipped.
    std::uint64_t last = 0;      ///< The last offset that is skipped.
};

/// A failed call. `what()` says what was attempted, on what, what happened, and what to do.
///
/// @since 0.1
class Error : public std::runtime_error {
public:
    /// @param status The status of the call.
    /// @param message The message.
    Error(octopus_status status, const std::string &message)
        : std::runtime_error(message), status_(status)
    {
    }

    /// @return The status; it can also be OCTOPUS_CLOSED or OCTOPUS_WOULD_BLOCK.
    octopus_status status() const noexcept { return status_; }
    /// @return The code of Kafka (positive) or librdkafka (negative); 0 if there is none.
    std::int32_t kafka_code() const noexcept { return kafka_code_; }
    /// @return Whether the same call may succeed later although nobody changes anything.
    bool is_retriable() const noexcept { return is_retriable_; }
    /// @return Whether the event of a failed push may be stored in the topic nevertheless.
    bool is_possibly_persisted() const noexcept { return is_possibly_persisted_; }
    /// @return The offsets that reading skips because of OCTOPUS_DAMAGED_DATA or
    /// OCTOPUS_RECORDS_LOST, if their end is known.
    const std::optional<SkippedOffsets> &skipped() const noexcept { return skipped_; }

    /// Throws the error of a C function.
    ///
    /// @param api The table of the plugin.
    /// @param status The status of the function.
    /// @param error The error object, which is released; may be NULL.
    /// @throws Error always.
    [[noreturn]] static void raise(const octopus_api &api, octopus_status status,
                                   octopus_error *error)
    {
        const octopus_text text = api.error->message(error);
        std::string message = text.size > 0 ? std::string(text.data, text.size) : describe(status);
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
    static std::string describe(octopus_status status)
    {
        switch (status) {
        case OCTOPUS_CLOSED:
            return "the object was closed before";
        case OCTOPUS_WOULD_BLOCK:
            return "the call would have to wait, and must not wait on this thread";
        default:
            return "the call returned status " + std::to_string(status);
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
