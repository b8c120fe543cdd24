#include "Producer.hpp"

#include "EventPreparation.hpp"
#include "Json.hpp"
#include "TopicHandle.hpp"

#include <cstring>

namespace octopus::adapter {

namespace {

/* A push and the exception of a component of its event. The copies of a future share it. */
struct Delivery {
    octopus::Push push;
    std::shared_ptr<const std::exception_ptr> thrown = nullptr;

    std::optional<diaspora::EventID> wait(int timeout_ms) const
    {
        try {
            const auto delivered = push.wait(milliseconds(timeout_ms));
            return delivered ? std::optional<diaspora::EventID>(delivered->id) : std::nullopt;
        } catch (const Error &error) {
            if (error.status() == OCTOPUS_CALLBACK_FAILED && thrown && *thrown)
                std::rethrow_exception(*thrown);
            throw diaspora::Exception(error.what());
        }
    }
};

std::string_view piece_of(const diaspora::DataView::Segment &segment)
{
    return {static_cast<const char *>(segment.ptr), segment.size};
}

/* Returns an event without metadata, with views of the arguments. Data in one segment, the common
 * case, is passed without allocating a list. */
NewEvent event_of(const RecordAttributes &attributes, const diaspora::DataView &data,
                  std::optional<std::size_t> partition)
{
    NewEvent event;
    const auto &segments = data.segments();
    if (segments.size() == 1) {
        event.data = piece_of(segments.front());
    } else {
        event.segments.reserve(segments.size());
        for (const auto &segment : segments)
            event.segments.push_back(piece_of(segment));
    }
    event.partition = partition;
    attributes.add_to(event);
    return event;
}

/* Writes the size of the text and then the text, as the default serializer does. */
void serialize_default(const nlohmann::json &metadata, std::string &bytes)
{
    std::uint64_t size = 0;
    bytes.assign(sizeof(size), '\0');
    write_json(metadata, bytes);
    size = bytes.size() - sizeof(size);
    std::memcpy(bytes.data(), &size, sizeof(size));
}

diaspora::Future<std::optional<diaspora::EventID>> future_of(Delivery pushed)
{
    const auto delivery = std::make_shared<const Delivery>(std::move(pushed));
    return {[delivery](int timeout_ms) { return delivery->wait(timeout_ms); },
            [delivery] { return with_api_exceptions([&] { return delivery->push.is_done(); }); }};
}

} // namespace

Producer::Producer(octopus::Producer in_core, ProducerSettings settings,
                   std::shared_ptr<const Components> components,
                   std::optional<AttributesField> attributes_field,
                   std::shared_ptr<TopicHandle> topic)
    : in_core_(std::move(in_core)),
      record_format_(with_api_exceptions([&] { return in_core_.record_format(); })),
      settings_(std::move(settings)), components_(std::move(components)),
      selector_(components_->make_selector()), attributes_field_(std::move(attributes_field)),
      topic_(std::move(topic))
{
}

std::shared_ptr<diaspora::TopicHandleInterface> Producer::topic() const { return topic_; }

diaspora::Future<std::optional<diaspora::EventID>>
Producer::push(diaspora::Metadata metadata, diaspora::DataView data,
               std::optional<std::size_t> partition)
{
    RecordAttributes attributes;
    std::exception_ptr rejection;
    if (attributes_field_) {
        try {
            attributes = attributes_field_->take_from(metadata.json());
        } catch (const diaspora::Exception &) {
            rejection = std::current_exception();
        }
    }
    if (components_->are_default() && !rejection)
        if (auto push = push_default(metadata, event_of(attributes, data, partition)))
            return future_of({std::move(*push)});
    const auto thrown = std::make_shared<std::exception_ptr>(std::move(rejection));
    const auto event = event_of(attributes, data, partition);
    auto preparation = std::make_unique<EventPreparation>(components_, selector_, record_format_,
                                                          std::move(metadata), thrown);
    auto push = with_api_exceptions([&] { return in_core_.push(event, std::move(preparation)); });
    return future_of({std::move(push), thrown});
}

std::optional<octopus::Push> Producer::push_default(const diaspora::Metadata &metadata,
                                                    NewEvent event) const
{
    thread_local std::string serialized;
    const bool has_header = record_format_ == OCTOPUS_RECORD_DIASPORA;
    try {
        if (has_header) {
            serialize_default(metadata.json(), serialized);
        } else {
            serialized.clear();
            write_json(metadata.json(), serialized);
        }
    } catch (const std::exception &) {
        return std::nullopt;
    }
    event.metadata = serialized;
    event.metadata_is_serialized = has_header;
    return with_api_exceptions([&]() -> std::optional<octopus::Push> {
        try {
            return in_core_.push(event);
        } catch (const Error &error) {
            if (error.status() == OCTOPUS_TOO_LARGE)
                return std::nullopt;
            throw;
        }
    });
}

diaspora::Future<std::optional<diaspora::Flushed>> Producer::flush()
{
    const auto flush = std::make_shared<const octopus::Flush>(
        with_api_exceptions([&] { return in_core_.flush(); }));
    return {[flush](int timeout_ms) -> std::optional<diaspora::Flushed> {
                const bool has_ended = with_api_exceptions(
                    [&] { return flush->wait(milliseconds(timeout_ms)); });
                return has_ended ? std::optional<diaspora::Flushed>(diaspora::Flushed{})
                                 : std::nullopt;
            },
            [flush] { return with_api_exceptions([&] { return flush->is_done(); }); }};
}

} // namespace octopus::adapter
