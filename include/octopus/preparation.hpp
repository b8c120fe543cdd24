/* Events that you make ready with objects of your own. A part of octopus.hpp. */

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

/* An event that you make ready yourself, in place of the topic's components. What it throws fails the push's future. It is
 * destroyed when the event is out or has failed, on any thread. */
class Preparation {
public:
    virtual ~Preparation() = default;
    /* Validates the event and appends its metadata as bytes, which go into the record as they are. Runs on the producer's
     * pool; without one, in the push, whose own data it then sees. */
    virtual void prepare(const std::vector<std::string_view> &data, const Output &metadata) = 0;
    /* The partition, below `partitions`. Of one producer's events one at a time, in strict order in the order of the
     * pushes. */
    virtual std::uint32_t select(std::optional<std::uint64_t> requested, std::uint32_t partitions) = 0;

private:
    friend class Producer;

    static octopus_preparation functions(std::unique_ptr<Preparation> own)
    {
        auto functions = detail::sized<octopus_preparation>();
        functions.context = detail::give_away(std::move(own));
        functions.destroy = detail::destroy<Preparation>;
        functions.prepare = [](void *context, const octopus_bytes *segments, std::uint64_t count,
                               const octopus_component_reply *reply) noexcept {
            return detail::answer(reply, [&] {
                static_cast<Preparation *>(context)->prepare(detail::views(segments, count), Output(reply));
            });
        };
        functions.select = [](void *context, std::int64_t requested, std::uint32_t partitions,
                              std::uint32_t *partition, const octopus_component_reply *reply) noexcept {
            return detail::answer(reply, [&] {
                *partition = static_cast<Preparation *>(context)->select(detail::requested_partition(requested),
                                                                         partitions);
            });
        };
        return functions;
    }
};

} // namespace octopus

#endif /* OCTOPUS_PREPARATION_HPP */
