#include "Consumer.hpp"

#include "PendingEvent.hpp"
#include "ThreadPool.hpp"
#include "TopicHandle.hpp"

#include <cstdio>

namespace octopus::adapter {

Consumer::Consumer(octopus::Consumer in_core, ConsumerSettings settings,
                   std::shared_ptr<const EventLoader> loader, std::shared_ptr<TopicHandle> topic)
    : in_core_(std::move(in_core)), settings_(std::move(settings)), loader_(std::move(loader)),
      topic_(std::move(topic))
{
}

Consumer::~Consumer() { unsubscribe(); }

std::shared_ptr<diaspora::TopicHandleInterface> Consumer::topic() const { return topic_; }

void Consumer::process(diaspora::EventProcessor processor, int timeout_ms,
                       diaspora::NumEvents max_events,
                       std::shared_ptr<diaspora::ThreadPoolInterface> pool)
{
    if (!processor)
        throw diaspora::Exception("processing events: the processor is an empty function");
    const auto process = [&](octopus::Event *event) {
        try {
            std::optional<diaspora::Event> loaded;
            diaspora::DataView data;
            if (event)
                loaded = loader_->load(std::move(*event), data);
            processor(loaded);
            return Flow::go_on;
        } catch (const diaspora::StopEventProcessor &) {
            return Flow::stop;
        }
    };
    const auto in_core = for_the_core(pool ? pool : topic_->driver()->defaultThreadPool());
    Processing how;
    how.timeout = milliseconds(timeout_ms);
    how.max_events = max_events.value;
    how.pool = in_core.get();
    with_api_exceptions([&] { in_core_.process(process, how); });
}

void Consumer::unsubscribe()
{
    constexpr milliseconds timeout(5'000);
    try {
        if (!in_core_.close(timeout))
            std::fprintf(stderr,
                         "[octopus:warn] closing consumer \"%s\" takes more than 5 s, and goes on "
                         "in the background\n",
                         settings_.name.c_str());
    } catch (const Error &error) {
        if (error.status() != OCTOPUS_CLOSED)
            std::fprintf(stderr, "[octopus:warn] closing consumer \"%s\": %s\n",
                         settings_.name.c_str(), error.what());
    }
}

diaspora::Future<std::optional<diaspora::Event>> Consumer::pull()
{
    auto pull = with_api_exceptions([&] { return in_core_.pull(); });
    const auto pending = std::make_shared<PendingEvent>(std::move(pull), loader_);
    return {[pending](int timeout_ms) { return pending->wait(timeout_ms); },
            [pending] { return pending->is_ready(); }};
}

} // namespace octopus::adapter
