/* Events as they are read. A part of octopus.hpp. */

#ifndef OCTOPUS_EVENT_HPP
#define OCTOPUS_EVENT_HPP

#include "detail.hpp"

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

namespace octopus {

/* An event as it was read. It stays valid whatever happens to its consumer. Views into it live as long as it does. */
class Event {
public:
    /* The metadata as JSON; none when the topic's serializer is one that only the host has. */
    std::optional<std::string_view> metadata() const
    {
        if (!view_.metadata.data)
            return std::nullopt;
        return detail::view(view_.metadata);
    }

    /* The metadata as the serializer wrote it. */
    std::string_view serialized_metadata() const { return detail::view(view_.serialized_metadata); }
    /* The data, in one piece. */
    std::string_view data() const { return detail::view(view_.data); }
    /* The offset in the partition, or OCTOPUS_EVENT_ID_END_OF_TOPIC. */
    std::uint64_t id() const { return view_.id; }
    std::uint32_t partition() const { return view_.partition; }
    /* Since 1970, by the producer's or the broker's clock; negative when the record has none. */
    milliseconds timestamp() const { return milliseconds(view_.timestamp_ms); }
    /* Whether this marks the end of the topic; then it carries nothing. */
    bool is_end_of_topic() const { return view_.id == OCTOPUS_EVENT_ID_END_OF_TOPIC; }

    /* This event and all before it in its partition are done with: a consumer of the same name created later starts after
     * it. Throws with OCTOPUS_STALE when the partition was taken away since the event was read. */
    void acknowledge() const { detail::call(handle_.api(), handle_.api().event->acknowledge, handle_.get()); }

    /* Another handle to the same event. */
    Event share() const
    {
        handle_.api().event->retain(handle_.get());
        return Event(detail::Handle<octopus_event>(handle_.api(), handle_.get()));
    }

private:
    friend class Pull;
    friend class Consumer;

    explicit Event(detail::Handle<octopus_event> handle)
        : handle_(std::move(handle)), view_(detail::sized<octopus_event_view>())
    {
        detail::call(handle_.api(), handle_.api().event->view, handle_.get(), &view_);
    }

    detail::Handle<octopus_event> handle_;
    octopus_event_view view_;
};

} // namespace octopus

#endif /* OCTOPUS_EVENT_HPP */
