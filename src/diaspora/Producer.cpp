#include "Producer.hpp"

#include "EventPreparation.hpp"
#include "TopicHandle.hpp"

#include <algorithm>

namespace octopus::adapter {

namespace {

/* A push, and what a component of its event threw. Futures of the API are copied, and share it. */
struct Delivery {
    octopus::Push push;
    std::shared_ptr<const std::exception_ptr> thrown;

    std::optional<diaspora::EventID> wait(int timeout_ms) const
    {
        try {
            const auto delivered = push.wait(milliseconds(timeout_ms));
            return delivered ? std::optional<diaspora::EventID>(delivered->id) : std::nullopt;
        } catch (const Error &error) {
            if (error.status() == OCTOPUS_CALLBACK_FAILED && *thrown)
                std::rethrow_exception(*thrown);
            throw diaspora::Exception(error.what());
        }
    }
};

std::vector<std::string_view> pieces_of(const diaspora::DataView &data)
{
    std::vector<std::string_view> pieces;
    pieces.reserve(data.segments().size());
    for (const auto &segment : data.segments())
        pieces.emplace_back(static_cast<const char *>(segment.ptr), segment.size);
    return pieces;
}

} // namespace

Producer::Producer(octopus::Producer in_core, ProducerSettings settings, std::shared_ptr<const Components> components,
                   std::shared_ptr<TopicHandle> topic)
    : in_core_(std::move(in_core)), settings_(std::move(settings)), components_(std::move(components)),
      selector_(components_->make_selector()), topic_(std::move(topic))
{
}

std::shared_ptr<diaspora::TopicHandleInterface> Producer::topic() const { return topic_; }

diaspora::Future<std::optional<diaspora::EventID>>
Producer::push(diaspora::Metadata metadata, diaspora::DataView data, std::optional<std::size_t> partition)
{
    const auto thrown = std::make_shared<std::exception_ptr>();
    NewEvent event;
    event.segments = pieces_of(data);
    event.partition = partition;
    auto own = std::make_unique<EventPreparation>(components_, selector_, std::move(metadata), thrown);
    auto push = in_their_terms([&] { return in_core_.push(event, std::move(own)); });
    const auto delivery = std::make_shared<const Delivery>(Delivery{std::move(push), thrown});
    return {[delivery](int timeout_ms) { return delivery->wait(timeout_ms); },
            [delivery] { return in_their_terms([&] { return delivery->push.is_done(); }); }};
}

diaspora::Future<std::optional<diaspora::Flushed>> Producer::flush()
{
    const auto flush = std::make_shared<const octopus::Flush>(in_their_terms([&] { return in_core_.flush(); }));
    return {[flush](int timeout_ms) -> std::optional<diaspora::Flushed> {
                const bool has_ended = in_their_terms([&] { return flush->wait(milliseconds(timeout_ms)); });
                return has_ended ? std::optional<diaspora::Flushed>(diaspora::Flushed{}) : std::nullopt;
            },
            [flush] { return in_their_terms([&] { return flush->is_done(); }); }};
}

} // namespace octopus::adapter
