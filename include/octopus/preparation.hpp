/// @file
/// Events that the host validates and serializes. Part of octopus.hpp.

#ifndef OCTOPUS_PREPARATION_HPP
#define OCTOPUS_PREPARATION_HPP

#include "component.hpp"
#include "detail.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace octopus {

/// Validates and serializes one event, instead of the topic's components. An exception fails the
/// future of the push. It is destroyed when the event was handed to Kafka or has failed, on any
/// thread.
///
/// @since 0.1
class Preparation {
public:
    virtual ~Preparation() = default;
    /// Validates the event and appends its metadata, whose bytes go into the record unchanged.
    ///
    /// @param data The data, valid during the call: the segments of the push if the producer's pool
    /// has no threads, else a copy in one piece.
    /// @param metadata Receives the bytes of the metadata.
    /// @note Called once, on a thread of the producer's pool, or during the push if the pool has no
    /// threads.
    virtual void prepare(const std::vector<std::string_view> &data, const Output &metadata) = 0;
    /// Chooses the partition.
    ///
    /// @param requested The partition that the push requested, if any.
    /// @param partitions The number of partitions.
    /// @return The partition, less than `partitions`.
    /// @note Any thread, for one event of a producer at a time; in strict order, in the order of
    /// the pushes.
    virtual std::uint32_t select(std::optional<std::uint64_t> requested,
                                 std::uint32_t partitions) = 0;

private:
    friend class Producer;

    static octopus_preparation functions(std::unique_ptr<Preparation> preparation)
    {
        auto functions = detail::sized<octopus_preparation>();
        functions.context = detail::into_context(std::move(preparation));
        functions.destroy = detail::destroy<Preparation>;
        functions.prepare = [](void *context, const octopus_bytes *segments, std::uint64_t count,
                               const octopus_component_reply *reply) noexcept {
            return detail::run_callback(reply, [&] {
                static_cast<Preparation *>(context)->prepare(detail::views(segments, count),
                                                             Output(reply));
            });
        };
        functions.select = [](void *context, std::int64_t requested, std::uint32_t partitions,
                              std::uint32_t *partition,
                              const octopus_component_reply *reply) noexcept {
            return detail::run_callback(reply, [&] {
                *partition = static_cast<Preparation *>(context)->select(
                    detail::requested_partition(requested), partitions);
            });
        };
        return functions;
    }
};

} // namespace octopus

#endif /* OCTOPUS_PREPARATION_HPP */
