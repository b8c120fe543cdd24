/// @file
/// Events that a consumer read. Part of octopus.hpp.

#ifndef OCTOPUS_EVENT_HPP
#define OCTOPUS_EVENT_HPP

#include "detail.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace octopus {

/// A header of a record. Several may have the same name. Its members are views: those of a consumed
/// event are valid as long as the event.
///
/// @since 0.1
struct Header {
    /// The name. That of a push is not empty.
    std::string_view name = {};
    /// The value; a header may have none, which is not the same as an empty one.
    std::optional<std::string_view> value = {};
};

/// An event that a consumer read. It stays valid after its consumer is destroyed. Its views are
/// valid as long as the event.
///
/// @since 0.1
class Event {
public:
    /// @return The metadata as JSON; none if the plugin does not have the topic's serializer, and
    /// at the end of a topic.
    std::optional<std::string_view> metadata() const
    {
        if (!view_.metadata.data)
            return std::nullopt;
        return detail::view(view_.metadata);
    }

    /// @return The metadata as the serializer wrote it.
    std::string_view serialized_metadata() const { return detail::view(view_.serialized_metadata); }
    /// @return The data, in one piece. It may begin at any address: copy values out of it with
    /// `memcpy`, and don't cast it to a pointer to a larger type, such as `const double *`.
    std::string_view data() const { return detail::view(view_.data); }
    /// @return The offset in the partition, or OCTOPUS_EVENT_ID_END_OF_TOPIC.
    std::uint64_t id() const { return view_.id; }
    /// @return The partition.
    std::uint32_t partition() const { return view_.partition; }
    /// @return The format of the record: one of OCTOPUS_RECORD_…; another one than
    /// OCTOPUS_RECORD_DIASPORA only if the consumer has the option `records`.
    std::uint32_t record_format() const { return view_.record_format; }
    /// @return The timestamp of the producer or the broker, since 1970-01-01 UTC; negative if the
    /// record has none.
    milliseconds timestamp() const { return milliseconds(view_.timestamp_ms); }
    /// @return Who set the timestamp: one of OCTOPUS_TIMESTAMP_…
    std::uint32_t timestamp_type() const { return attributes().timestamp_type; }
    /// @return The record's key; none if it has none, which is not the same as an empty one.
    std::optional<std::string_view> key() const { return detail::optional_view(attributes().key); }
    /// @return The record's headers, in their order.
    std::vector<Header> headers() const
    {
        std::vector<Header> headers(static_cast<std::size_t>(attributes().header_count));
        for (std::size_t index = 0; index < headers.size(); index++) {
            const auto header = detail::get<octopus_header>(
                handle_.api(), handle_.api().event->header, handle_.get(),
                static_cast<std::uint64_t>(index));
            headers[index] = Header{detail::view(header.name), detail::optional_view(header.value)};
        }
        return headers;
    }
    /// @return Whether the event marks the end of its topic; then it has neither metadata nor data.
    bool is_end_of_topic() const { return view_.id == OCTOPUS_EVENT_ID_END_OF_TOPIC; }

    /// Acknowledges this event and all events before it in its partition: a consumer of the same
    /// name that is created later starts after it. Does not block.
    ///
    /// @throws Error with OCTOPUS_STALE if the partition was revoked since the event was read.
    void acknowledge() const
    {
        detail::call(handle_.api(), handle_.api().event->acknowledge, handle_.get());
    }

    /// @return Another handle of the same event.
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

    octopus_event_attributes attributes() const
    {
        auto attributes = detail::sized<octopus_event_attributes>();
        detail::call(handle_.api(), handle_.api().event->attributes, handle_.get(), &attributes);
        return attributes;
    }

    detail::Handle<octopus_event> handle_;
    octopus_event_view view_;
};

} // namespace octopus

#endif /* OCTOPUS_EVENT_HPP */
